"""Sections of docs/benchmarks.md on search methods, and their success curves."""

import json
import math
from statistics import median
from typing import Any

import numpy as np
from page import table, where
from record import RESULTS

from godelta.analysis.comparison import Measure, Trace, compare, runs_by_measure

IMAGES = RESULTS.parent.parent / "docs" / "images"
MEASURES: tuple[Measure, ...] = ("evaluations", "cpu_s", "accounted_s")

HEAD = """\
## Search methods (`methods.py`)

Success of a run: an evaluation at most *tolerance* above the lowest energy known. *To half*: cost by which half of the
runs have succeeded (by Kaplan and Meier; a run that ended without success never has any, but one whose budget was
smaller than that of others counts as far as it went), with its 95 % bootstrap interval; - is not reached. Accounted cost adds the price of one DFT evaluation for each evaluation. *x best* is the
ratio of accounted costs to half with its bootstrap interval, *p* the log-rank test against the best cell. Twenty runs
say little: 10 successes of 20 mean 30 to 70 %. Methods are at their presets `default` unless their name says otherwise;
they stop at success.
"""

WAYS = {
    "bfgs": "ASE's BFGS in the reference",
    "own steps": "refinement, Δ-model of its own steps",
    "campaign": "refinement, Δ-model of 40 other structures too",
}
TEXTS = {
    "cu12ag-methods": "Cu12Ag: reference EMT, foundation EMT with Cu and Ag exchanged, which wants Ag in the"
    " centre; the truth has it outside.",
    "ag4s2": "[Ag2S]2: foundation CHGNet, reference GFN1-xTB.",
    "ag4s2-before": "The same with Δ-models whose amplitude has a prior worth two data, derivatives or not.",
    "cu12ag-methods-before": "The same with Δ-models whose amplitude has a prior worth two data, derivatives or not.",
    "ag4s2-delta": "The same without a Δ-model (*bare*), and with one that has learnt from 40 evaluations of Ag6S3 clusters"
    " (*pretrained*).",
    "cu12ag-delta": "The same landscape without a Δ-model (*bare*), and with one that has learnt from 40 evaluations of Cu11Ag2"
    " clusters (*pretrained*).",
    "ag4s2-variants": "[Ag2S]2 again, to be read beside `ag4s2`: other settings than the presets `default`. *paper*: preset of"
    " arXiv 2507.18485. *narrow*: 2 evaluations in a round, in place of 5; of `bh`, also 2 walkers.",
    "au4-on-cu111": "Four gold atoms on Cu(111), 3x3: foundation Lennard-Jones, which knows no metal, reference EMT.",
    "lj13": "Lennard-Jones, 13 atoms: foundation with σ and ε wrong by 10 %.",
    "lj19": "Lennard-Jones, 19 atoms: foundation with σ and ε wrong by 10 %.",
    "lj38": "Lennard-Jones, 38 atoms: foundation with σ and ε wrong by 10 %.",
}
CLAIMS = (("cu12ag-methods", "cu12ag-delta"), ("ag4s2", "ag4s2-delta"))
LEARNT = {"bare": "nothing learnt", "": "Δ-model", "pretrained": "Δ-model, pretrained"}


def methods_section() -> str:
    """Every landscape that has been measured; "" where none has."""
    parts = []
    for path in sorted(RESULTS.glob("methods_*.json")):
        parts.append(_landscape(json.loads(path.read_text())))
    return "\n".join([HEAD, _claims(), *parts]) if parts else ""


def _claims() -> str:
    """What learning and pretraining are worth: the papers' claims, holding or not."""
    rows = []
    for names in CLAIMS:
        paths = [RESULTS / f"methods_{name}.json" for name in names]
        cells: dict[tuple[str, str], Any] = {}
        both = [json.loads(path.read_text()) for path in paths if path.exists()]
        most = max((budget_of(row) for data in both for row in data["runs"]), default=0)
        for data in both:
            for cell, runs in _runs(data, most).items():
                method, _, learnt = cell.partition(".")
                cells[method, learnt] = runs
        for method in dict.fromkeys(method for method, _ in cells):
            ways = [cells.get((method, learnt)) for learnt in LEARNT]
            rows.append([names[0], method, *map(_success, ways), _holds(*ways[:2]), _holds(*ways[1:])])
    head = ["landscape", "method", *LEARNT.values(), "the Δ-model finds it", "pretraining finds it sooner"]
    return (
        "### What learning is worth\n\nThe papers claim that a Δ-model finds minima that the foundation does not know, and that one"
        " which has learnt elsewhere finds them sooner. Runs that reached the target, and evaluations to half; the budgets are 80"
        " evaluations for Cu12Ag, 100 to 200 for [Ag2S]2. A claim holds where the log-rank test says so with p < 0.05.\n\n"
        + table(head, rows)
    )


def _success(runs: Any) -> str:
    if runs is None:
        return "-"
    only = compare({"": runs})[0]
    return f"{only.successes} of {only.runs}, {_with_interval(*_half(only))}"


def _holds(without: Any, learnt: Any) -> str:
    """Whether what has learnt needs fewer evaluations, as far as these runs can tell."""
    if without is None or learnt is None:
        return "not run"
    before, after = compare({"without": without, "learnt": learnt})
    costs = [cell.costs["evaluations"] for cell in (before, after)]
    p = next((cost.p for cost in costs if cost.p is not None), math.nan)
    if not p < 0.05:
        return f"open (p = {p:.2g})"
    return f"{'yes' if costs[1].best else 'no'} (p = {p:.1g})"


def _half(cell: Any) -> tuple[float, float, float]:
    cost = cell.costs["evaluations"]
    return cost.to_half, cost.low, cost.high


def refinement(data: dict[str, Any]) -> str:
    """Evaluations from a structure to a minimum of the reference."""
    rows = []
    for system in dict.fromkeys(run["system"] for run in data["runs"]):
        for way, name in WAYS.items():
            own = [run for run in data["runs"] if (run["system"], run["way"]) == (system, way)]
            if own:
                counts = [run["evaluations"] for run in own]
                energies = [run["energy"] for run in own]
                rows.append(
                    [
                        system,
                        name,
                        len(own),
                        f"{median(counts):g} ({min(counts)}-{max(counts)})",
                        sum(run["converged"] for run in own),
                        f"{median(energies):.3f}",
                    ]
                )
    head = ["system", "relaxed by", "n", "evaluations, median (range)", "converged", "energy, median, eV"]
    return (
        "## Refinement (`refinement.py`)\n\nEvaluations from a random structure, relaxed in the bare foundation, to a"
        f" minimum of the reference: no force above {data['fmax']:g} eV/Å. The same structures for all.\n\n"
        f"{table(head, rows)}\n{where(data)}"
    )


def _landscape(data: dict[str, Any]) -> str:
    from godelta.analysis.success_plot import success_curves

    lowest = data["target"] if data["target"] is not None else _lowest(data)
    runs = _runs(data)
    image = IMAGES / f"methods-{data['name']}.png"
    success_curves(runs, title=data["name"]).savefig(image, dpi=110)
    rows = []
    for cell in compare(runs):
        cost = cell.costs["accounted_s"]
        ratio = (
            ("best" if cost.best else "-")
            if cost.ratio is None
            else _with_interval(cost.ratio.value, cost.ratio.low, cost.ratio.high)
        )
        rows.append(
            [
                cell.name,
                f"{cell.successes} of {cell.runs}",
                f"{cell.low:.0%}-{cell.high:.0%}",
                *(_with_interval(c.to_half, c.low, c.high) for c in (cell.costs[m] for m in MEASURES)),
                ratio,
                "-" if cost.p is None or math.isnan(cost.p) else f"{cost.p:.2g}",
            ]
        )
    head = [
        "method", "successes", "95 %", "evaluations to half", "CPU s to half", "accounted s to half", "x best", "p"
    ]  # fmt: skip
    name = data["name"]
    return (
        f"### {name}\n\n{TEXTS.get(name, '')} Target {lowest:.4f} eV, tolerance {data['tolerance']:g} eV, price"
        f" {data['price_s']:g} s.\n\n{table(head, rows)}\n![success of methods](images/{image.name})\n\n{where(data)}"
    )


def _runs(data: dict[str, Any], most: int = 0) -> dict[str, Any]:
    """Of each cell, its runs in every measure; `most`: the largest budget of what they are set beside."""
    lowest = data["target"] if data["target"] is not None else _lowest(data)
    most = max([most, *map(budget_of, data["runs"])])
    return {
        cell: runs_by_measure(traces, lowest, within=data["tolerance"], price_s=data["price_s"])
        for cell in data["cells"]
        if (traces := [_trace(row, most) for row in data["runs"] if row["cell"] == cell])
    }


def _lowest(data: dict[str, Any]) -> float:
    return min(energy for row in data["runs"] for energy in row["energies"] if energy is not None)


def _trace(row: dict[str, Any], most: int) -> Trace:
    energies = [math.nan if energy is None else energy for energy in row["energies"]]
    cpu_s, ended = np.array(row["cpu_s"]), has_ended(row, most)
    return Trace(np.array(energies), cpu_s, row["total_cpu_s"], row["equivalent"], ended)


def has_ended(row: dict[str, Any], most: int) -> bool:
    """Whether a run came to its end, and not to that of a budget below the largest: it may yet succeed."""
    budget = budget_of(row)
    return bool(row["state"] == "finished" and (budget >= most or len(row["energies"]) < budget))


def budget_of(row: dict[str, Any]) -> int:
    """Evaluations that a run was to have at most."""
    return int(row["settings"].split()[1])


def _with_interval(value: float, low: float, high: float) -> str:
    return f"{_number(value)} ({_number(low)}-{_number(high)})" if math.isfinite(value) else "-"


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "∞"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
