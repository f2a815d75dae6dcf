"""Success curves of several methods."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from godelta.analysis.comparison import Measure
from godelta.analysis.plots import PALETTE, STYLE
from godelta.analysis.success import Runs, success_curve

LABELS: dict[Measure, str] = {
    "evaluations": "Evaluations",
    "cpu_s": "Processor time (s)",
    "accounted_s": "Accounted cost (s)",
}
DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)))


def success_curves(
    runs: Mapping[str, Mapping[Measure, Runs]],
    *,
    priced: bool = True,
    title: str = "",
    only: Measure | None = None,
) -> Figure:
    """The fraction of runs that have succeeded against each cost, with pointwise 95 % bands.

    Parameters
    ----------
    runs
        Of each method, its runs in every measure.
    priced
        Whether to draw the accounted cost as well; without a price it is the processor time.
    title
        Drawn above the axes.
    only
        Draw against this cost alone, in a figure for a narrow column.
    """
    measures: list[Measure] = ["evaluations", "cpu_s", *(["accounted_s"] if priced else [])]  # type: ignore[list-item]
    if only is not None:
        measures = [only]
    with mpl.rc_context(STYLE):
        size = (4.4, 3.8) if only is not None else (3.2 * len(measures), 3.4)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
        for axes, measure in zip(panels, measures, strict=True):
            for index, (name, by) in enumerate(runs.items()):
                _draw(axes, name, by[measure], index)
            axes.set(xlabel=LABELS[measure], ylim=(0, 1.02))
            axes.set_xlim(left=0)
        panels[0].set_ylabel("Share of runs that succeeded")
        figure.suptitle(title, x=0.01, ha="left", fontsize=10.0)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside lower left", ncols=min(4 if only is None else 2, len(labels))
        )
    return figure


def _draw(axes: Axes, name: str, runs: Runs, index: int) -> None:
    curve = success_curve(runs, np.unique(np.concatenate([[0.0], runs.costs])))
    colour, dash = PALETTE[index % len(PALETTE)], DASHES[index // len(PALETTE) % len(DASHES)]
    label = f"{name} ({int(runs.succeeded.sum())}/{len(runs.costs)})"
    axes.step(
        curve.costs, curve.fraction, where="post", color=colour, linestyle=dash, linewidth=1.6, label=label
    )
    axes.fill_between(curve.costs, curve.low, curve.high, step="post", color=colour, alpha=0.12, linewidth=0)
