"""`godelta best`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape

from godelta.cli.console import console, print_json, table
from godelta.cli.workspace import open_existing
from godelta.errors import InputError
from godelta.store import campaigns, structures
from godelta.store.database import Raw, Store
from godelta.store.documents import CampaignDocument, chain_number
from godelta.store.query import images


@dataclass(frozen=True)
class BestOptions:
    """What the command line said.

    Parameters
    ----------
    count
        Most structures.
    every
        Every evaluation, not each structure once.
    trajectory
        Beginning of the id of a structure whose refinement is shown instead.
    export
        File to write.
    output
        table or json.
    """

    count: int = 10
    every: bool = False
    trajectory: str | None = None
    export: Path | None = None
    output: str = "table"


def show_best(name: str, folder: Path | None, options: BestOptions) -> None:
    """Print a campaign's lowest structures, or a refinement's steps, and write them where asked to.

    Raises
    ------
    InputError
        There is no such campaign or refinement, or the file cannot be written.
    """
    from godelta.store.refining import trajectory

    store = open_existing(folder).connect(start=True)
    document = campaigns.get_campaign(store, name)
    if options.trajectory is not None:
        rows = trajectory(store, document, options.trajectory, every=options.every)
    else:
        rows = lowest(store, document, options.count, every=options.every)
    if options.export is not None:
        export_structures(store, rows, options.export)
    if options.output == "json":
        print_json([as_row(row) for row in rows])
    elif options.trajectory is not None:
        _print_steps(rows)
    elif rows:
        print_best(rows)
    else:
        console.print(f"{name} has no evaluated structure yet.")
        if document.state == "failed":
            console.print(f"[red]It failed:[/] {escape(document.reason or 'no reason is known')}")
    if options.export is not None and options.output == "table":
        console.print(f"{len(rows)} structures written to {options.export}")


def lowest(store: Store, campaign: CampaignDocument, count: int, *, every: bool = False) -> list[Raw]:
    """The rows that `best` shows, each with its largest reference force, and whether it is refined."""
    from godelta.store.refining import largest_forces, latest_tracks
    from godelta.workflows.minima import best_minima, status_of

    if every:
        tracks = latest_tracks(store, campaign.campaign_id)
        rows = [
            {**row, "refinement": status_of({row["structure_id"]}, tracks)}
            for row in structures.best(store, campaign.campaign_id, campaign.reference_hash, count)
        ]
    else:
        rows = best_minima(store, campaign.campaign_id, campaign.reference_hash, count)
    return [
        {**row, "refined": row["refinement"] == "converged", "fmax": fmax}
        for row, fmax in zip(rows, largest_forces(store, rows), strict=True)
    ]


def print_best(rows: list[Raw]) -> None:
    """Print a table of evaluated structures; energies in eV."""
    counted = "found" in rows[0]
    refining = any(row["refinement"] for row in rows)
    columns = ["#", "structure", "energy", "above best", "per atom", "foundation", "uncertainty", "round"]
    shown = table(*columns, *(["found"] if counted else []), *(["fmax", "refined"] if refining else []))
    for row in rows:
        shown.add_row(
            str(row["rank"]),
            row["structure_id"][:8],
            f"{row['energy']:.4f}",
            f"{row['energy'] - rows[0]['energy']:.4f}",
            f"{row['energy_per_atom']:.4f}",
            f"{row['foundation_energy']:.4f}",
            "-" if row["uncertainty"] is None else f"{row['uncertainty']:.3f}",
            f"{chain_number(row['chain'])}:{row['round']}",
            *([str(row["found"])] if counted else []),
            *([_force(row), _refined(row)] if refining else []),
        )
    console.print(shown)
    if counted:
        console.print("[dim]equivalent structures once, with how often they were found; --all lists each[/]")
    console.print("[dim]energies in eV; foundation and uncertainty as they were when it was selected[/]")
    if refining:
        console.print(
            "[dim]fmax: largest reference force, eV/Å; refined: a minimum of the reference,"
            " with all steps that led to it[/]"
        )


def _print_steps(rows: list[Raw]) -> None:
    """Print the steps of a refinement."""
    shown = table("step", "structure", "energy", "below start", "fmax", "foundation", "uncertainty", "round")
    for row in rows:
        shown.add_row(
            str(row["rank"]),
            row["structure_id"][:8],
            f"{row['energy']:.4f}",
            f"{rows[0]['energy'] - row['energy']:.4f}",
            _force(row),
            f"{row['foundation_energy']:.4f}",
            "-" if row["uncertainty"] is None else f"{row['uncertainty']:.3f}",
            f"{chain_number(row['chain'])}:{row['round']}",
        )
    console.print(shown)
    console.print("[dim]energies in eV; fmax: largest reference force, eV/Å[/]")


def _force(row: Raw) -> str:
    return "-" if row["fmax"] is None else f"{row['fmax']:.3f}"


def _refined(row: Raw) -> str:
    return "yes" if row["refined"] else row["refinement"] or "-"


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
            "refined",
            "fmax",
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
