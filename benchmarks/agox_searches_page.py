"""The section of docs/benchmarks.md that sets whole iterations and searches beside AGOX's."""

import json
from collections.abc import Sequence
from statistics import mean
from typing import Any

import numpy as np
from methods_page import budget_of, has_ended
from page import load_range, table, where
from record import RESULTS

from godelta.analysis.comparison import MEASURES, Measure, Trace, runs_by_measure
from godelta.analysis.success import Runs, cost_to, interval_of_cost, ratio_of_costs, wilson

Row = dict[str, Any]
AIMS = {"cluster": 7.0, "slab": 4.5}
ATOMS = {"cluster": "21-atom cluster", "slab": "60-atom slab"}
WALKERS = 10
ENOUGH = 3  # relaxations for an interval
SAME = 0.05  # eV
LEVEL = 0.01  # eV above AGOX's last energy that counts as being as low
LOWEST, WITHIN, PRICE_S = -619.8946, 0.05, 10.0
UNITS = {"evaluations": "evaluations", "cpu_s": "CPU s", "accounted_s": "accounted s"}


def agox_searches(data: dict[str, Any]) -> str:
    rows = [{**row, "cpu_s": float(np.sum(row["cpu_s"]))} for row in data["rows"]]
    lines = [line for system in AIMS for line in _iteration(rows, system)]
    about = (
        "## Whole iterations and searches beside AGOX 3.11.1 (`agox_searches.py`, `agox_methods.py`)\n\nOne iteration of replica exchange: ten walkers that stand on"
        " relaxed structures are rattled by 0.1 to 5 Å, the top one is new, and all relax on CHGNet + Δ (at most 100 steps, fmax 0.025 eV/Å). The same structures and"
        " Δ-models of the same 100 structures in both codes, one thread, CPU time, asked in turn in the same run. AGOX relaxes with ASE's BFGS from a unit Hessian"
        " (70 eV/Å²), ours starts from a model Hessian and has one batch of all walkers. *ratio*: AGOX's over ours, with the 95 % interval of a bootstrap over"
        f" relaxations.{_partly(rows)} Means. {load_range(rows)}\n\n"
    )
    head = ["", "AGOX", "ours, `paper`", "ours, `default`", "ratio, `paper`", "aim"]
    path = RESULTS / "agox_methods_ag4s2.json"
    more = _methods(json.loads(path.read_text())) if path.exists() else ""
    return about + table(head, lines) + "\n" + _minima(rows) + where(data) + more


def _of(rows: Sequence[Row], system: str, code: str, preset: str, *, alone: bool) -> list[Row]:
    return [
        row
        for row in rows
        if (row["system"], row["code"], row["preset"]) == (system, code, preset)
        and (len(row["walkers"]) == 1) == alone
    ]


def _pairs(rows: Sequence[Row], system: str, preset: str = "paper") -> list[tuple[Row, Row]]:
    """AGOX's relaxations and ours of the same structures."""
    ours = {
        (row["iteration"], *row["walkers"]): row for row in _of(rows, system, "godelta", preset, alone=True)
    }
    theirs = _of(rows, system, "agox", "paper", alone=True)
    keys = [(row["iteration"], *row["walkers"]) for row in theirs]
    return [(row, ours[key]) for row, key in zip(theirs, keys, strict=True) if key in ours]


def _partly(rows: Sequence[Row]) -> str:
    parts = []
    for system, name in ATOMS.items():
        walkers = sorted({row["walkers"][0] for row, _ in _pairs(rows, system)})
        if walkers and len(walkers) < WALKERS:
            rungs = ", ".join(str(k + 1) for k in walkers)
            parts.append(
                f" Of the {name} AGOX has relaxed {len(_pairs(rows, system))} structure(s), of rung(s) {rungs}: its whole iteration is estimated from"
                " its CPU time for each evaluation that ours needs on the same structures, times the evaluations of our whole iteration."
            )
    return "".join(parts)


def _iteration(rows: Sequence[Row], system: str) -> list[list[str]]:
    pairs = _pairs(rows, system)
    if not pairs:
        return []
    name = ATOMS[system]
    alone = [[theirs for theirs, _ in pairs]] + [
        [own for _, own in _pairs(rows, system, preset)] for preset in ("paper", "default")
    ]
    whole = [_of(rows, system, "godelta", preset, alone=False) for preset in ("paper", "default")]
    agox = _whole(pairs, whole[0])
    batched = [mean(row["cpu_s"] for row in part) for part in whole]
    ratio, low, high = _ratio(pairs, agox / batched[0])
    aim = AIMS[system]
    steps = [mean(row["steps"][0] for row in part) for part in alone]
    cost = [1e3 * sum(r["cpu_s"] for r in part) / sum(r["steps"][0] + 1 for r in part) for part in alone]
    done = [f"{sum(row['converged'][0] for row in part)} of {len(part)}" for part in alone]
    return [
        [
            f"{name}: one iteration, CPU s",
            f"{agox:.0f}",
            *(f"{seconds:.1f}" for seconds in batched),
            _interval(ratio, low, high, pairs),
            f">= {aim}" + _verdict(ratio >= aim, pairs),
        ],
        [f"{name}: one relaxation by itself, CPU s", *_cells(alone, "cpu_s"), _plain(pairs), ""],
        [f"{name}: steps of it", *(f"{value:.0f}" for value in steps), f"{steps[0] / steps[1]:.2f}", ""],
        [
            f"{name}: one evaluation in it, CPU ms",
            *(f"{value:.1f}" for value in cost),
            f"{cost[0] / cost[1]:.1f}",
            "",
        ],
        [f"{name}: converged", *done, "", ""],
        *_as_low(name, pairs),
    ]


def _as_low(name: str, pairs: Sequence[tuple[Row, Row]]) -> list[list[str]]:
    """CPU time of our relaxations until they are as low as AGOX's at its end, or the whole of them."""
    followed = [(theirs, ours) for theirs, ours in pairs if theirs.get("path") and ours.get("path")]
    if not followed:
        return []
    spent, reached = [], 0
    for theirs, ours in followed:
        low = np.flatnonzero(np.array(ours["path"][0]) <= theirs["path"][0][-1] + LEVEL)
        reached += bool(low.size)
        share = (low[0] + 1) / len(ours["path"][0]) if low.size else 1.0
        spent.append({**ours, "cpu_s": ours["cpu_s"] * share})
    also = [theirs for theirs, _ in followed]
    return [
        [
            f"{name}: until as low as AGOX's last energy, CPU s ({reached} of {len(followed)} get there)",
            *_cells([also, spent], "cpu_s"),
            "",
            _plain(list(zip(also, spent, strict=True))),
            "",
        ]
    ]


def _whole(pairs: Sequence[tuple[Row, Row]], batches: Sequence[Row]) -> float:
    """CPU s of AGOX's iteration; where some rungs are missing, scaled by what ours takes for all of them."""
    iterations = len({row["iteration"] for row, _ in pairs})
    total = sum(theirs["cpu_s"] for theirs, _ in pairs)
    if len(pairs) == WALKERS * iterations:
        return float(total / iterations)
    seen = sum(ours["evaluations"][0] for _, ours in pairs)
    return float(total / seen * mean(sum(row["evaluations"]) for row in batches))


def _cells(parts: Sequence[Sequence[Row]], key: str) -> list[str]:
    return [f"{mean(row[key] for row in part):.2f}" for part in parts]


def _plain(pairs: Sequence[tuple[Row, Row]]) -> str:
    theirs, ours = (sum(row["cpu_s"] for row in side) for side in zip(*pairs, strict=True))
    return _interval(*_ratio(pairs, theirs / ours), pairs)


def _verdict(reached: bool, pairs: Sequence[object]) -> str:
    if len(pairs) < ENOUGH:
        return " (too few to tell)"
    return "" if reached else " (missed)"


def _interval(value: float, low: float, high: float, pairs: Sequence[object]) -> str:
    return (
        f"{value:.1f} ({low:.1f}-{high:.1f})" if len(pairs) >= ENOUGH else f"{value:.1f} (n = {len(pairs)})"
    )


def _ratio(pairs: Sequence[tuple[Row, Row]], value: float) -> tuple[float, float, float]:
    """The ratio given, with the relative interval of the ratio of sums, relaxations drawn again in pairs."""
    seconds = np.array([[row["cpu_s"] for row in pair] for pair in pairs])
    drawn = np.random.default_rng(0).integers(len(seconds), size=(2000, len(seconds)))
    sums = seconds[drawn].sum(axis=1)
    ratios = sums[:, 0] / sums[:, 1]
    centre = seconds[:, 0].sum() / seconds[:, 1].sum()
    low, high = np.quantile(ratios, [0.025, 0.975]) / centre * value
    return value, float(low), float(high)


def _minima(rows: Sequence[Row]) -> str:
    """How the energies compare at which relaxations of the same structure end."""
    off = [ours["energies"][0] - theirs["energies"][0] for s in AIMS for theirs, ours in _pairs(rows, s)]
    same = sum(abs(value) <= SAME for value in off)
    lower = sum(value < -SAME for value in off)
    return (
        f"Preset `paper`: of {len(off)} relaxations of the same structure, {same} end within {SAME} eV of AGOX's,"
        f" {lower} lower and {len(off) - same - lower} higher; they are cut off after 100 steps in both codes, and from"
        " random starts different minima are near.\n\n"
    )


def _methods(data: dict[str, Any]) -> str:
    path = RESULTS / "methods_ag4s2.json"
    ours = json.loads(path.read_text())["runs"] if path.exists() else []
    ran = _cells_of(data["rows"])
    runs = {
        name: runs_by_measure(_traces(part), LOWEST, within=WITHIN, price_s=PRICE_S)
        for name, part in ran.items()
    }
    own = {
        name: runs_by_measure(_traces(part), LOWEST, within=WITHIN, price_s=PRICE_S)
        for name, part in _cells_of(ours).items()
    }
    lines = []
    for name, by in runs.items():
        part = ran[name]
        method = name.removeprefix("agox.").split("_")[0]
        beside = own.get(method)
        lines.append(_line(name.replace("agox.", "AGOX, "), part, by))
        if beside is not None:
            lines[-1] += [_against(by[measure], beside[measure]) for measure in MEASURES]
        else:
            lines[-1] += [""] * len(MEASURES)
    lines += [[*_line(f"ours, {name}", _cells_of(ours)[name], by), "", "", ""] for name, by in own.items()]
    head = ["", "runs that reached the target", "evaluations of a run", "CPU s of an evaluation", *(f"to 50 %, {UNITS[m]}" for m in MEASURES),
            *(f"ours over it, {UNITS[m]}" for m in MEASURES)]  # fmt: skip
    peer = ", ".join(line.replace("==", " ") for line in data["agox_versions"])
    return (
        f"\n### Searches for [Ag2S]2\n\nCHGNet as foundation, GFN1-xTB as reference (box 18 Å, confinement 9 Å); a run has reached the target with an evaluation within {WITHIN}"
        f" eV of {LOWEST} eV. AGOX's own algorithms with the model of arXiv 2507.18485 (SOAP 7 Å, length scale 40), one worker; REX with one evaluation in ten iterations, fmax"
        f" 0.025 eV/Å. An evaluation is accounted with {PRICE_S:.0f} s beyond its CPU time. CPU s count AGOX's process and its worker, neither start-up nor Ray's services. By"
        " Kaplan and Meier, with 95 % intervals; few runs say little, and *ours over it* is the ratio of costs to 50 %, which a method that has not got that far leaves open.\n\n"
        + table(head, lines)
        + f"\nAGOX's environment: {peer}. {load_range(data['rows'])}\n\n{where(data)}"
    )


def _cells_of(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["cell"], []).append(row)
    return found


def _traces(rows: Sequence[Row]) -> list[Trace]:
    """Of AGOX's runs, cut off after a few minutes, none has come to its end."""
    most = max((budget_of(row) for row in rows if "settings" in row), default=0)
    return [
        Trace(
            np.array(row["energies"], dtype=float),
            np.array(row["cpu_s"]),
            row["total_cpu_s"],
            ended="settings" in row and has_ended(row, most),
        )
        for row in rows
    ]


def _line(name: str, rows: Sequence[Row], by: dict[Measure, Runs]) -> list[str]:
    succeeded = int(by["evaluations"].succeeded.sum())
    low, high = wilson(succeeded, len(rows))
    evaluations = sum(len(row["energies"]) for row in rows)
    each = sum(row["total_cpu_s"] for row in rows) / evaluations
    return [
        name,
        f"{succeeded} of {len(rows)} ({low:.0%}-{high:.0%})",
        f"{evaluations / len(rows):.0f}",
        f"{each:.1f}",
        *(_span(cost_to(by[measure]), interval_of_cost(by[measure])) for measure in MEASURES),
    ]


def _against(theirs: Runs, ours: Runs) -> str:
    if not np.isfinite(cost_to(theirs)):
        return ""
    ratio = ratio_of_costs(ours, theirs)
    return _span(ratio.value, (ratio.low, ratio.high), digits=2)


def _span(value: float, interval: tuple[float, float], digits: int = 0) -> str:
    def said(number: float) -> str:
        return f"{number:.{digits}f}" if np.isfinite(number) else "?"

    return f"{said(value)} ({said(interval[0])}-{said(interval[1])})"
