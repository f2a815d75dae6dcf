"""What a benchmark says: a table, a JSON file, success curves."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from godelta.analysis.comparison import (
    MEASURES,
    Cell,
    Cost,
    Measure,
    Trace,
    compare,
    runs_by_measure,
    success_of,
)
from godelta.analysis.success import Runs
from godelta.benchmark_file import Benchmark
from godelta.cli.benchmark_page import write_benchmark_page
from godelta.cli.benchmark_structures import note_equivalents
from godelta.cli.console import console, print_json, table
from godelta.store import campaigns
from godelta.store.database import Store
from godelta.store.spending import spending
from godelta.store.workspace import Workspace

if TYPE_CHECKING:
    from godelta.store.documents import CampaignDocument

ENDED = ("finished", "failed")  # by themselves: without success by then, they have none to come
UNITS: dict[Measure, str] = {"evaluations": "evaluations", "cpu_s": "CPU s", "accounted_s": "accounted s"}


def report(workspace: Workspace, store: Store, benchmark: Benchmark, output: str, path: Path) -> int:
    """Print what is known of the benchmark of a file, and write it into results/NAME; the exit code."""
    rows, failed = _read(store, benchmark)
    found = [energy for row in rows for energy in row["energies"] if energy is not None]
    if not found:
        if output == "json":
            print_json(_document(benchmark, None, [], rows))
        else:
            console.print(f"{benchmark.name} has no evaluation yet.")
            _name_failed(failed)
        return 1 if failed else 0
    lowest = min(found) if benchmark.target is None else benchmark.target
    note_equivalents(store, rows, lowest, benchmark.tolerance)
    traces = note_successes(rows, lowest, benchmark.tolerance)
    runs = {
        cell: runs_by_measure(
            [trace for name, trace in traces if name == cell],
            lowest,
            within=benchmark.tolerance,
            price_s=benchmark.price_s,
        )
        for cell in benchmark.cells
        if any(name == cell for name, _ in traces)
    }
    cells = compare(runs)
    document = _document(benchmark, lowest, cells, rows)
    files = _write(workspace, benchmark, document, runs)
    with console.status("Writing the report"):
        files.append(write_benchmark_page(workspace, store, benchmark, (cells, runs, rows, lowest), path))
    if output == "json":
        print_json(document)
        return 1 if failed else 0
    _print(benchmark, cells, lowest, min(found))
    for written in files:
        console.print(f"written: {written}", soft_wrap=True)
    _name_failed(failed)
    return 1 if failed else 0


def _name_failed(names: list[str]) -> None:
    if names:
        console.print(f"[red]{len(names)} campaigns failed:[/] {', '.join(names)}", soft_wrap=True)


def _read(store: Store, benchmark: Benchmark) -> tuple[list[dict[str, Any]], list[str]]:
    """A row for each campaign, with what has been evaluated, and names of failed ones."""
    rows, failed = [], []
    nothing = {"energies": [], "structure_ids": [], "cpu_s": [], "total_cpu_s": 0.0}
    for one in benchmark.campaigns:
        document = campaigns.find_campaign(store, one.config.name)
        row: dict[str, Any] = {"campaign": one.config.name, "cell": one.cell, "seed": one.seed}
        rows.append(row | {"state": "not begun"} | nothing)
        if document is None:
            continue
        rows[-1] |= _spent(store, document)
        if document.state == "failed":
            failed.append(document.name)
    return rows, failed


def _spent(store: Store, document: "CampaignDocument") -> dict[str, Any]:
    spent = spending(store, document.campaign_id, document.reference_hash)
    return {
        "state": document.state,
        "energies": list(spent.energies),
        "structure_ids": list(spent.structure_ids),
        "cpu_s": list(spent.cpu_s),
        "total_cpu_s": spent.total_cpu_s,
    }


def note_successes(rows: list[dict[str, Any]], lowest: float, tolerance: float) -> list[tuple[str, Trace]]:
    """Add the costs of the first success to the rows; traces of those that have begun, with their cells.

    Parameters
    ----------
    rows
        Of each campaign: `cell`, `state`, `energies` in eV, `cpu_s` and `total_cpu_s` in s, `equivalent`.
    lowest, tolerance
        A run succeeds with its first energy of at most their sum, eV, or with an equivalent structure.
    """
    traces = []
    for row in rows:
        energies = np.array([math.nan if energy is None else energy for energy in row["energies"]])
        ended = row["state"] in ENDED
        trace = Trace(energies, np.array(row["cpu_s"]), row["total_cpu_s"], row["equivalent"], ended)
        hit = success_of(trace, lowest, within=tolerance)
        row["evaluations_to_success"] = None if hit is None else hit + 1
        row["cpu_s_to_success"] = None if hit is None else row["cpu_s"][hit]
        if ended or row["energies"] or row["total_cpu_s"] > 0:
            traces.append((row["cell"], trace))
    return traces


def _document(
    benchmark: Benchmark, lowest: float | None, cells: list[Cell], rows: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "benchmark": benchmark.name,
        "target": lowest,
        "target_given": benchmark.target is not None,
        "tolerance": benchmark.tolerance,
        "price_s": benchmark.price_s,
        "cells": [
            {
                "cell": cell.name,
                "runs": cell.runs,
                "successes": cell.successes,
                "success_low": cell.low,
                "success_high": cell.high,
                "spent": cell.spent,
                "to_half": {measure: _plain(cell.costs[measure]) for measure in MEASURES},
            }
            for cell in cells
        ],
        "runs": rows,
    }


def _plain(cost: Cost) -> dict[str, Any]:
    """JSON knows no infinity: null is `not reached`."""
    ratio = cost.ratio
    values = {"value": cost.to_half, "low": cost.low, "high": cost.high, "p": cost.p}
    if ratio is not None:
        values |= {"ratio": ratio.value, "ratio_low": ratio.low, "ratio_high": ratio.high}
    finite = {k: v if v is not None and math.isfinite(v) else None for k, v in values.items()}
    return finite | {"best": cost.best}


def _write(
    workspace: Workspace,
    benchmark: Benchmark,
    document: dict[str, Any],
    runs: dict[str, dict[Measure, Runs]],
) -> list[Path]:
    from godelta.analysis.success_plot import success_curves

    folder = workspace.folder / "results" / benchmark.name
    folder.mkdir(parents=True, exist_ok=True)
    values, picture = folder / "benchmark.json", folder / "success.png"
    values.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    title = f"{benchmark.name}: within {benchmark.tolerance:g} eV of {document['target']:.4f} eV"
    success_curves(runs, priced=benchmark.price_s > 0, title=title).savefig(picture, dpi=200)
    return [values, picture]


def _print(benchmark: Benchmark, cells: list[Cell], lowest: float, found: float) -> None:
    measure: Measure = "accounted_s" if benchmark.price_s > 0 else "cpu_s"
    shown = table("campaign", "successes", "95 %", "evaluations", "CPU s", UNITS[measure], "x best", "p")
    shown.columns[0].header = "cell"
    if measure == "cpu_s":
        shown = table("campaign", "successes", "95 %", "evaluations", "CPU s", "x best", "p")
        shown.columns[0].header = "cell"
    for cell in cells:
        cost = cell.costs[measure]
        spans = [_span(cell.costs[m]) for m in dict.fromkeys(("evaluations", "cpu_s", measure))]
        shown.add_row(
            cell.name,
            f"{cell.successes}/{cell.runs}",
            f"{100 * cell.low:.0f}-{100 * cell.high:.0f} %",
            *spans,
            _ratio(cost),
            "-" if cost.p is None or math.isnan(cost.p) else f"{cost.p:.2g}",
        )
    which = "as given" if benchmark.target is not None else "the lowest found"
    console.print(
        f"\nSuccess: an evaluation within {benchmark.tolerance:g} eV of {lowest:.4f} eV, {which}, or of an"
        " equivalent structure.",
        soft_wrap=True,
    )
    console.print(shown)
    console.print(
        f"[dim]evaluations and times: until half of the runs have succeeded (Kaplan-Meier), with a 95 %"
        f" bootstrap interval; - not yet. x best: {UNITS[measure]} over the best cell's; p: log-rank against"
        f" it. An evaluation is accounted with {benchmark.price_s:g} s.[/]",
        soft_wrap=True,
    )
    console.print(_caution(max(cell.runs for cell in cells)), soft_wrap=True)
    if benchmark.target is not None and found < lowest - benchmark.tolerance:
        console.print(
            f"[yellow]{found:.4f} eV was found, below the target: mend `target.energy`.[/]", soft_wrap=True
        )


def _caution(runs: int) -> str:
    """How little so many runs say."""
    from godelta.analysis.success import wilson

    low, high = wilson(runs // 2, runs)
    return (
        f"{runs} runs of a cell say little: {runs // 2} successes of {runs} mean {100 * low:.0f} to"
        f" {100 * high:.0f} %; cells whose intervals overlap may be equally good."
    )


def _span(cost: Cost) -> str:
    return f"{_number(cost.to_half)} [{_number(cost.low)}, {_number(cost.high)}]"


def _ratio(cost: Cost) -> str:
    ratio = cost.ratio
    if ratio is None:
        return "best" if cost.best else "-"
    return f"{_number(ratio.value)} [{_number(ratio.low)}, {_number(ratio.high)}]"


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
