"""The section of docs/benchmarks.md on the size of batches."""

from statistics import median
from typing import Any

from page import table

SYSTEMS = {"small": "Ag4S2, 6 atoms", "cluster": "Ag14S7, 21 atoms", "slab": "slab, 60 atoms"}


def batches(data: dict[str, Any]) -> str:
    sizes = sorted({row["batch"] for run in data["runs"] for row in run["rows"]})
    counts = sorted({row["n"] for run in data["runs"] for row in run["rows"]})
    n = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
    gpu = any(run["device"] != "cpu" for run in data["runs"])
    without = "" if gpu else " There was no GPU to run it on (`--device cuda`)."
    parts = [
        "## Sizes of batches (`batches.py`)\n\nEnergy and forces of different structures in one call: CPU ms (wall ms) per structure,"
        f" medians of {n}, one thread; other work ran beside it, which wall times show most. Both Δ-models have 1000 inducing points;"
        " they and CHGNet were measured in turn, and *more* is the median of what they add to CHGNet in CPU time, over all sizes; it"
        f" is uncertain by some per cent, delta_cost.py says it better.{without}\n"
    ]
    for run in sorted(data["runs"], key=lambda run: (run["device"], run["foundation"])):
        for system, title in SYSTEMS.items():
            rows = [row for row in run["rows"] if row["system"] == system]
            lines = []
            for model in dict.fromkeys(row["model"] for row in rows):
                cells = {row["batch"]: row for row in rows if row["model"] == model}
                times = [
                    f"{cells[size]['cpu_ms']:.1f} ({cells[size]['wall_ms']:.1f})" if size in cells else "-"
                    for size in sizes
                ]
                lines.append([model, *times, _more(rows, run["foundation"], model)])
            parts.append(table([f"{run['device']}, {title}", *map(str, sizes), "more"], lines))
    machine = data["runs"][0]["machine"]
    about = ", ".join(
        f"{run['foundation']} on {run['device']}: load {run['machine']['load_average']:.1f}, torch {run['versions']['torch']}"
        for run in data["runs"]
    )
    parts.append(f"*{machine['processor']}, {machine['cores']} cores; {about}.*\n")
    return "\n".join(parts)


def _more(rows: list[dict[str, Any]], foundation: str, model: str) -> str:
    if model == foundation:
        return "-"
    of = {(row["model"], row["batch"]): [cpu for cpu, _ in row["raw_ms"]] for row in rows}
    ratios = [
        mine / alone
        for (name, size), times in of.items()
        if name == model
        for mine, alone in zip(times, of[foundation, size], strict=True)
    ]
    return f"{median(ratios) - 1:.1%}"
