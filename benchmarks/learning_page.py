"""The section of docs/benchmarks.md on learning curves, and its picture."""

from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.figure import Figure
from page import table, where

IMAGE = Path(__file__).parent.parent / "docs" / "images" / "learning-curves.png"
LINES = {
    "no Δ": ("#8A8F98", "--"),
    "SOAP, paper": ("#CC79A7", "-"),
    "SOAP, energies": ("#56B4E9", "-"),
    "SOAP, copies": ("#56B4E9", "--"),
    "SOAP": ("#0072B2", "-"),
    "SOAP, accurate": ("#D55E00", "-"),
    "features, global": ("#009E73", ":"),
    "features, species": ("#009E73", "--"),
    "features, copies": ("#A6D854", "-"),
    "features, atomic": ("#009E73", "-"),
}
MEASURES = {
    "energy_mae_mev": "MAE of energies, meV",
    "force_mae_mev_per_angstrom": "MAE of forces, meV/Å",
}


def learning_curves(data: dict[str, Any]) -> str:
    rows = data["rows"]
    sizes = sorted({row["structures"] for row in rows})
    parts = [
        "## Learning curves (`learning_curves.py`)\n\nErrors on structures held out"
        f" ({', '.join(f'{count} of {name}' for name, count in data['held_out'].items())}), meV and meV/Å,"
        " against the number of evaluations; mean of"
        f" {1 + max(row['draw'] for row in rows)} draws. xtb: GFN1-xTB; gpaw: PBE, preset `pbe-light`."
        " Random clusters, 2 to 25 BFGS steps of CHGNet each, one in three rattled: rougher than what a search"
        " proposes late. *no Δ*: the foundation, shifted by the mean residual. *SOAP* is the default;"
        " *energies* learns no forces, *copies* one displaced copy of each structure, *SOAP*, *accurate* and *features,"
        " atomic* all of them as derivatives;"
        " *accurate* and *paper* are presets.\n\n![Learning curves](images/learning-curves.png)\n"
    ]
    for name, foundation in sorted({(row["data"], row["foundation"]) for row in rows}):
        same = [row for row in rows if (row["data"], row["foundation"]) == (name, foundation)]
        last = max(row["structures"] for row in same)
        lines = [
            [
                case,
                *(_pair(same, case, size) for size in sizes),
                _mean(same, case, last, "z_rms", ".1f"),
                _mean(same, case, last, "train_cpu_s", ".1f"),
            ]
            for case in LINES
        ]
        heads = [f"{name}, {foundation}", *map(str, sizes), "z rms", "training, CPU s"]
        parts.append(table(heads, lines))
    draw(rows)
    return "\n".join(parts) + "\n" + where(data)


def _of(rows: list[dict[str, Any]], case: str, size: int, measure: str) -> list[float]:
    return [
        row[measure] for row in rows if (row["case"], row["structures"]) == (case, size) and measure in row
    ]


def _mean(rows: list[dict[str, Any]], case: str, size: int, measure: str, form: str) -> str:
    values = _of(rows, case, size, measure)
    return format(mean(values), form) if values else "-"


def _pair(rows: list[dict[str, Any]], case: str, size: int) -> str:
    values = [_mean(rows, case, size, measure, ".0f") for measure in MEASURES]
    return "-" if "-" in values else " / ".join(values)


def draw(rows: list[dict[str, Any]]) -> None:
    """A panel for each data set, foundation and measure."""
    sets = sorted({(row["data"], row["foundation"]) for row in rows})
    figure = Figure(figsize=(3.4 * len(sets), 6.2), layout="constrained", dpi=150)
    panels = figure.subplots(len(MEASURES), len(sets), squeeze=False)
    for column, (name, foundation) in enumerate(sets):
        same = [row for row in rows if (row["data"], row["foundation"]) == (name, foundation)]
        for axes, (measure, label) in zip(panels[:, column], MEASURES.items(), strict=True):
            for case, (colour, style) in LINES.items():
                sizes = sorted({row["structures"] for row in same if row["case"] == case})
                values = [mean(_of(same, case, size, measure)) for size in sizes]
                axes.plot(sizes, values, color=colour, linestyle=style, linewidth=1.5, label=case)
            axes.set(xscale="log", ylim=(0, None), xlabel="Evaluations")
            axes.set_xticks([10, 20, 40, 80, 160], ["10", "20", "40", "80", "160"], minor=False)
            axes.set_xticks([], minor=True)
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_title(f"{name}, {foundation}", fontsize=9)
            if column == 0:
                axes.set_ylabel(label)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figure.savefig(IMAGE)
