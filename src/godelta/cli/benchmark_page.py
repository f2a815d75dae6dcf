"""The report of a benchmark, as a page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from godelta.benchmark_file import Benchmark
from godelta.cli.report import FILE, write_page
from godelta.store import campaigns, query
from godelta.store.database import Store
from godelta.store.workspace import Workspace

if TYPE_CHECKING:
    from ase import Atoms

    from godelta.analysis.comparison import Cell, Measure
    from godelta.analysis.success import Runs

Found = tuple["Sequence[Cell]", "Mapping[str, Mapping[Measure, Runs]]", Sequence[Mapping[str, Any]], float]


def write_benchmark_page(
    workspace: Workspace, store: Store, benchmark: Benchmark, found: Found, path: Path
) -> Path:
    """Write the page of a benchmark into results/NAME; its path.

    Parameters
    ----------
    found
        Cells, runs of each in every measure, a row for each campaign, and the energy to reach, eV.
    path
        The benchmark file.
    """
    from godelta.analysis.report.benchmark import BenchmarkData, RunRow, benchmark_page
    from godelta.analysis.report.page import render

    cells, runs, rows, lowest = found
    first = next(filter(None, (campaigns.find_campaign(store, row["campaign"]) for row in rows)), None)
    data = BenchmarkData(
        name=benchmark.name,
        target=lowest,
        given=benchmark.target is not None,
        tolerance=benchmark.tolerance,
        price_s=benchmark.price_s,
        cells=cells,
        curves=runs,
        runs=[
            RunRow(
                campaign=row["campaign"],
                cell=row["cell"],
                seed=row["seed"],
                state=row["state"],
                evaluations=len(row["energies"]),
                lowest=min((energy for energy in row["energies"] if energy is not None), default=None),
                to_success=row["evaluations_to_success"],
            )
            for row in rows
        ],
        best=_best(store, rows),
        file=(path.read_text(encoding="utf-8"), path.name),
        versions={} if first is None else first.versions,
        read_at=store.now(),
    )
    target = workspace.folder / "results" / benchmark.name / FILE
    write_page(target, render(benchmark_page(data)))
    return target


def _best(store: Store, rows: Sequence[Mapping[str, Any]]) -> "tuple[Atoms, float, str] | None":
    """The lowest structure of all runs, its energy in eV, and the campaign that found it."""
    energy, structure_id, name = min(
        (energy, structure_id, row["campaign"])
        for row in rows
        for energy, structure_id in zip(row["energies"], row["structure_ids"], strict=True)
        if energy is not None
    )
    document = campaigns.get_campaign(store, name)
    row = {"structure_id": structure_id, "reference_hash": document.reference_hash}
    known = store.structures.count_documents({"structure_id": structure_id}, limit=1)
    return (query.images(store, [row])[0], energy, name) if known else None
