"""The page about a benchmark: which method succeeds at what cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ase import Atoms

from godelta.analysis.comparison import MEASURES, Cell, Cost, Measure
from godelta.analysis.report.parts import Code, Facts, Page, Part, Plot, Prose, Section, Shown, Table, Viewer
from godelta.analysis.report.words import constraints, folded, number, percent, time_of
from godelta.analysis.success import Runs
from godelta.analysis.success_plot import LABELS, success_curves


@dataclass(frozen=True)
class RunRow:
    """One run: its cell, seed, state, evaluations, lowest energy in eV, and those until its success."""

    campaign: str
    cell: str
    seed: int
    state: str
    evaluations: int
    lowest: float | None
    to_success: int | None


@dataclass(frozen=True)
class BenchmarkData:
    """A benchmark at one time.

    Parameters
    ----------
    target, tolerance
        A run succeeds this near to the target, eV; `given` tells whether the file says so.
    price_s
        Seconds that an evaluation is accounted with.
    curves
        Runs of each cell in every measure.
    best
        The lowest structure of all, with its energy; None where the database has lost it.
    file
        The benchmark file, and its name.
    versions
        Of packages, when the first campaign began.
    """

    name: str
    target: float
    given: bool
    tolerance: float
    price_s: float
    cells: Sequence[Cell]
    curves: Mapping[str, Mapping[Measure, Runs]]
    runs: Sequence[RunRow]
    best: tuple[Atoms, float, str] | None
    file: tuple[str, str]
    versions: Mapping[str, str]
    read_at: datetime


def benchmark_page(data: BenchmarkData) -> Page:
    """All that a benchmark has found, for a person to read."""
    done = sum(run.state == "finished" or run.to_success is not None for run in data.runs)
    sections = [_success(data), _structure(data), _runs(data), _provenance(data)]
    return Page(
        title=data.name,
        subtitle="Benchmark: which method finds the structure, at what cost",
        sections=[section for section in sections if section is not None],
        foot=f"Written by godelta {data.versions.get('godelta', '')} at {time_of(data.read_at)}.",
        headline=[
            ("target", f"{data.target:.4f} eV"),
            ("cells", str(len(data.cells))),
            ("runs done", f"{done} of {len(data.runs)}"),
            ("successes", str(sum(cell.successes for cell in data.cells))),
        ],
    )


def _success(data: BenchmarkData) -> Section:
    which = "as the file says" if data.given else "the lowest found"
    told = Prose(
        f"Success: an evaluation within {data.tolerance:g} eV of {data.target:.4f} eV, {which}, or of an"
        " equivalent structure."
    )
    measures = [measure for measure in MEASURES if measure != "accounted_s" or data.price_s > 0]
    plots: list[Part] = [
        Plot(
            success_curves(data.curves, only=measure),
            f"Share of runs of each cell that have succeeded, against {LABELS[measure].lower()}",
            "Kaplan-Meier, with pointwise 95 % bands.",
        )
        for measure in measures
    ]
    columns = ["cell", "successes", "95 %", *(LABELS[measure] for measure in measures), "over the best", "p"]
    rows = [_row(cell, measures) for cell in data.cells]
    note = (
        "Costs until half of the runs have succeeded, with a 95 % bootstrap interval; - not yet. Over the"
        f" best: {LABELS[measures[-1]].lower()} over that of the best cell; p: log-rank against it."
    )
    if data.price_s > 0:
        note += f" An evaluation is accounted with {data.price_s:g} s."
    table = Table("cells", columns, rows, frozenset({"cell"}), note)
    return Section("success", "Success against cost", [told, *plots, table])


def _row(cell: Cell, measures: Sequence[Measure]) -> list[str]:
    last = cell.costs[measures[-1]]
    ratio = last.ratio
    if ratio is None:
        compared = "best" if last.best else "-"
    else:
        compared = _interval(ratio.value, ratio.low, ratio.high)
    p = "-" if last.p is None or math.isnan(last.p) else f"{last.p:.2g}"
    span = f"{percent(cell.low)} to {percent(cell.high)}"
    costs = [_cost(cell.costs[measure]) for measure in measures]
    return [cell.name, f"{cell.successes}/{cell.runs}", span, *costs, compared, p]


def _cost(cost: Cost) -> str:
    return _interval(cost.to_half, cost.low, cost.high)


def _interval(value: float, low: float, high: float) -> str:
    return f"{_short(value)} [{_short(low)}, {_short(high)}]"


def _short(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _structure(data: BenchmarkData) -> Section | None:
    if data.best is None:
        return None
    atoms, energy, campaign = data.best
    facts = [("energy", f"{energy:.4f} eV"), ("found by", campaign)]
    shown = Shown(atoms.get_chemical_formula("hill"), atoms, facts)
    return Section("structure", "The lowest structure", [Viewer([shown], f"{data.name}-lowest.extxyz")])


def _runs(data: BenchmarkData) -> Section:
    columns = ["campaign", "cell", "seed", "state", "evaluations", "lowest, eV", "until success"]
    rows = [
        [
            run.campaign, run.cell, str(run.seed), run.state, str(run.evaluations), number(run.lowest),
            "-" if run.to_success is None else str(run.to_success),
        ]
        for run in data.runs
    ]  # fmt: skip
    texts = frozenset({"campaign", "cell", "state"})
    table = Table("runs", columns, rows, texts, folded=folded(rows, f"All {len(rows)} runs"))
    return Section("runs", "Runs", [table])


def _provenance(data: BenchmarkData) -> Section:
    text, name = data.file
    commands = f"godelta benchmark {name}\ngodelta report {data.runs[0].campaign}     # of one run\n"
    return Section(
        "provenance",
        "Provenance",
        [
            Facts(list(data.versions.items())),
            Code(commands),
            Code(text, name, folded=True),
            Code(constraints(data.versions), "constraints.txt", folded=True),
        ],
    )
