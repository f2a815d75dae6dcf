"""`godelta query`."""

import csv
import sys
from pathlib import Path
from typing import Literal

from rich.markup import escape

from godelta.cli.best import export_structures
from godelta.cli.console import console, print_json, table
from godelta.cli.workspace import open_existing
from godelta.errors import InputError
from godelta.store.database import Raw, Store
from godelta.store.documents import chain_number
from godelta.store.query import COLUMNS, Query, images, rows

Output = Literal["table", "json", "csv", "extxyz"]
_HEADS = {
    "ok": ("energy, eV", "per atom, eV", "above best, eV"),
    "failed": ("reason",),
    "pending": ("model energy, eV", "uncertainty, eV"),
}


def show_query(query: Query, folder: Path | None, *, export: Path | None, output: Output) -> None:
    """Print structures of all campaigns."""
    store = open_existing(folder).connect(start=True)
    found = rows(store, query)
    if export is not None:
        export_structures(store, found, export)
    match output:
        case "json":
            print_json(found)
        case "csv":
            _print_csv(found)
        case "extxyz":
            _print_extxyz(store, found)
        case "table":
            _print_table(found, query)


def _print_csv(found: list[Raw]) -> None:
    """One line per row; tags are one field, with commas between them; times as in JSON."""
    writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in found:
        time = row["evaluated_at"]
        plain = {"tags": ",".join(row["tags"]), "evaluated_at": time and time.isoformat()}
        writer.writerow(row | plain)


def _print_extxyz(store: Store, found: list[Raw]) -> None:
    if not found:
        raise InputError(
            "no structure fits",
            where="godelta query",
            mend="ask for less: each option narrows the search",
        )
    from ase.io import write

    write(sys.stdout, images(store, found), format="extxyz")


def _print_table(found: list[Raw], query: Query) -> None:
    if not found:
        console.print("No structure fits.")
        return
    shown = table("structure", "campaign", "formula", "reference", "round", *_HEADS[query.status])
    for row in found:
        shown.add_row(
            row["structure_id"][:8],
            escape(row["campaign"]),
            row["formula"],
            f"{row['reference']} {row['reference_hash'][:8]}",
            f"{chain_number(row['chain'])}:{row['round']}",
            *_numbers(row),
        )
    console.print(shown)
    if len(found) == query.limit:
        console.print("[dim]there may be more: --limit[/]")


def _numbers(row: Raw) -> list[str]:
    if row["status"] == "ok":
        return [f"{row[name]:.4f}" for name in ("energy", "energy_per_atom", "above_best")]
    if row["status"] == "failed":
        return [escape(row["reason"] or "-")]
    uncertainty = "-" if row["uncertainty"] is None else f"{row['uncertainty']:.3f}"
    return [f"{row['model_energy']:.4f}", uncertainty]
