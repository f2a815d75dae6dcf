"""`godelta best`."""

from pathlib import Path
from typing import Any

from rich.markup import escape

from godelta.cli.console import console, print_json, table
from godelta.cli.workspace import open_existing
from godelta.errors import InputError
from godelta.store import campaigns, structures
from godelta.store.database import Raw, Store
from godelta.store.query import images


def show_best(
    name: str, folder: Path | None, *, count: int, export: Path | None, output: str, every: bool = False
) -> None:
    """Print a campaign's lowest structures, and write them to a file where asked to.

    `every` lists every evaluation, not each structure once.
    """
    from godelta.workflows.minima import best_minima

    store = open_existing(folder).connect(start=True)
    document = campaigns.get_campaign(store, name)
    lowest = structures.best if every else best_minima
    rows = lowest(store, document.campaign_id, document.reference_hash, count)
    if export is not None:
        export_structures(store, rows, export)
    if output == "json":
        print_json([as_row(row) for row in rows])
    elif rows:
        print_best(rows)
    else:
        console.print(f"{name} has no evaluated structure yet.")
        if document.state == "failed":
            console.print(f"[red]It failed:[/] {escape(document.reason or 'no reason is known')}")
    if export is not None and output == "table":
        console.print(f"{len(rows)} structures written to {export}")


def print_best(rows: list[Raw]) -> None:
    """Print a table of evaluated structures; energies in eV."""
    counted = "found" in rows[0]
    columns = ["#", "structure", "energy", "above best", "per atom", "foundation", "uncertainty", "round"]
    shown = table(*columns, *(["found"] if counted else []))
    for row in rows:
        shown.add_row(
            str(row["rank"]),
            row["structure_id"][:8],
            f"{row['energy']:.4f}",
            f"{row['energy'] - rows[0]['energy']:.4f}",
            f"{row['energy_per_atom']:.4f}",
            f"{row['foundation_energy']:.4f}",
            "-" if row["uncertainty"] is None else f"{row['uncertainty']:.3f}",
            f"{row['chain']}:{row['round']}",
            *([str(row["found"])] if counted else []),
        )
    console.print(shown)
    if counted:
        console.print("[dim]equivalent structures once, with how often they were found; --all lists each[/]")
    console.print("[dim]energies in eV; foundation and uncertainty as they were when it was selected[/]")


def as_row(row: Raw) -> dict[str, Any]:
    """The documented fields of `best --format json`."""
    return {
        key: row.get(key)
        for key in (
            "rank",
            "structure_id",
            "formula",
            "energy",
            "energy_per_atom",
            "foundation_energy",
            "uncertainty",
            "round",
            "evaluated_at",
            "found",
        )
    }


def export_structures(store: Store, rows: list[Raw], path: Path) -> None:
    """Write structures with their energies and forces, in the format that the file's name says.

    Raises
    ------
    InputError
        ASE cannot write this format, or the file cannot be written.
    """
    from ase.io import write
    from ase.io.formats import UnknownFileTypeError

    atoms = images(store, rows)
    if not atoms:
        raise InputError(
            "nothing to write: no structure has been evaluated",
            where=str(path),
            mend="`godelta status` tells how far the campaigns are",
        )
    try:
        write(path, atoms)
    except UnknownFileTypeError:
        raise InputError(
            "ASE knows no format by this name",
            where=str(path),
            mend="end it in .extxyz, .cif, .traj or .json",
        ) from None
    except (ValueError, TypeError) as error:
        raise InputError(
            f"ASE cannot write these structures there: {error}",
            where=str(path),
            mend="formats that hold many structures are .extxyz, .traj and .json; or ask for -n 1",
        ) from None
    except OSError as error:
        raise InputError(
            f"cannot be written: {error.strerror}", where=str(path), mend="choose another file with --export"
        ) from None
