"""`godelta query`."""

import sys
from dataclasses import dataclass
from pathlib import Path

from godelta.cli.best import as_row, evaluated_atoms, export_structures
from godelta.cli.console import console, print_json, table
from godelta.cli.workspace import open_existing
from godelta.errors import InputError
from godelta.store import campaigns, structures


@dataclass(frozen=True)
class QueryOptions:
    """What to look for; None: anything."""

    formula: str | None
    elements: str | None
    campaign: str | None
    reference: str | None
    max_energy: float | None
    limit: int


def show_query(options: QueryOptions, folder: Path | None, *, export: Path | None, output: str) -> None:
    """Print evaluated structures of all campaigns, lowest energy per atom first."""
    store = open_existing(folder).connect(start=True)
    if options.campaign is not None:
        campaigns.get_campaign(store, options.campaign)  # a name that is wrong finds nothing either
    rows = structures.query(
        store,
        formula=options.formula,
        elements=options.elements.split(",") if options.elements else (),
        campaign=options.campaign,
        reference=options.reference,
        max_energy=options.max_energy,
        limit=options.limit,
    )
    if export is not None:
        export_structures(store, rows, export)
    if output == "json":
        print_json(
            [
                {**as_row(row), "campaign": row["campaign"], "reference_hash": row["reference_hash"]}
                for row in rows
            ]
        )
    elif output == "extxyz":
        if not rows:
            raise InputError(
                "no structure fits",
                where="godelta query",
                mend="ask for less: each option narrows the search",
            )
        from ase.io import write

        write(sys.stdout, evaluated_atoms(store, rows), format="extxyz")
    elif not rows:
        console.print("No structure fits.")
    else:
        shown = table("structure", "campaign", "formula", "reference", "energy, eV", "per atom, eV")
        for row in rows:
            shown.add_row(
                row["structure_id"][:8],
                row["campaign"],
                row["formula"],
                row["reference_hash"][:12],
                f"{row['energy']:.4f}",
                f"{row['energy_per_atom']:.4f}",
            )
        console.print(shown)
