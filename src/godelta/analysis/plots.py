"""Figures of a campaign: functions of data that return matplotlib figures (units: eV)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from godelta.analysis.calibration import coverage
from godelta.arrays import BoolArray, FloatArray, IntArray

# Okabe and Ito's palette, told apart with any colour vision; black and yellow left out.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#8A8F98"
INK = "#2B2F36"

MOST_CHAINS_IN_LEGEND = 8
TOP_QUANTILE = 0.95  # energies above twice this quantile do not stretch the axis
# Heights over the axis' top: of what lies beyond it, of what failed, and of the frame.
ARROWS, CROSSES, HEADROOM = 1.06, 1.11, 1.15

STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.labelsize": 10.0,
    "axes.titlesize": 10.0,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.direction": "out",
    "ytick.direction": "out",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "text.color": INK,
    "figure.dpi": 200.0,
}


def energy_against_evaluations(
    energies: FloatArray,
    chains: IntArray,
    *,
    title: str = "",
    names: Mapping[int, str] | None = None,
    legend: Literal["right", "below"] = "right",
) -> Figure:
    """Every evaluation of a campaign, and the lowest energy so far of each chain.

    Parameters
    ----------
    energies
        (n,) reference energies in eV in the order of the evaluations, NaN where one failed.
    chains
        (n,) chain of each evaluation.
    title
        Drawn above the axes.
    names
        What the legend calls chains, where that is not their number.
    legend
        Where it stands; below, the figure fits a narrow column.

    Returns
    -------
    Figure
        Energies relative to the lowest one; those far above the others are arrows at the top edge.
    """
    ok = np.isfinite(energies)
    relative = energies - (energies[ok].min() if ok.any() else 0.0)
    count = np.arange(1, len(energies) + 1)
    with _axes((5.6, 3.4) if legend == "right" else (4.4, 3.9), title) as (figure, axes):
        top = _top(relative[ok])
        numbers = np.unique(chains)
        for index, chain in enumerate(numbers):
            colour = PALETTE[index % len(PALETTE)]
            mine = (chains == chain) & ok
            _dots(axes, count[mine], relative[mine], top, colour)
            _running_best(axes, count[mine], relative[mine], (len(energies), top), colour)
        _failures(axes, count[~ok], top)
        beyond = bool((relative[ok] > top).any())
        band = beyond or not ok.all()
        if band:
            axes.axhline(1.02 * top, color=GREY, linewidth=0.6, linestyle=(0, (1, 3)))
        axes.set(xlabel="Evaluations", ylabel="Energy above the lowest (eV)")
        axes.set_xlim(0, len(energies) + 1)
        axes.set_ylim(-0.03 * top, (HEADROOM if band else 1.04) * top)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        ticks = MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]).tick_values(0.0, top)
        axes.set_yticks([tick for tick in ticks if 0.0 <= tick <= top])
        labels = [(names or {}).get(number, f"chain {number}") for number in numbers.tolist()]
        handles = _marks_of_evaluations(labels, ok, beyond)
        if legend == "right":
            axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), handlelength=1.4)
        else:
            figure.legend(handles=handles, loc="outside lower center", ncols=3, handlelength=1.4)
    return figure


def predicted_against_reference(
    reference: FloatArray,
    foundation: FloatArray,
    predicted: FloatArray,
    uncertainties: FloatArray,
    *,
    title: str = "",
) -> Figure:
    """Parity of what was predicted when a structure was selected with what the reference said.

    Parameters
    ----------
    reference
        (n,) reference energies, eV.
    foundation
        (n,) energies of the foundation potential, eV. Its zero is another one, so that it is
        shifted by the median difference to the reference.
    predicted
        (n,) energies of foundation + Δ at the time of the selection, eV; NaN where there was no Δ yet.
    uncertainties
        (n,) standard deviations of `predicted`, eV; NaN where unknown.
    title
        Drawn above the axes.

    Returns
    -------
    Figure
        Energies relative to the lowest reference energy, with mean absolute and root mean square errors.
    """
    with _axes((4.4, 4.2), title) as (figure, axes):
        axes.set_aspect("equal", adjustable="box")
        axes.set(xlabel="Reference energy above the lowest (eV)", ylabel="Predicted energy (eV)")
        if len(reference) == 0:
            return figure
        zero = float(reference.min())
        true = reference - zero
        shifted = foundation - zero + float(np.median(reference - foundation))
        known = np.isfinite(predicted)
        limits = _parity_limits(true, shifted, predicted[known] - zero)
        axes.plot(limits, limits, color=GREY, linewidth=0.8, zorder=1)
        axes.plot(
            true, shifted, "o", ms=4.5, mfc="none", mec=GREY, mew=0.9, zorder=2,
            label=f"Foundation, shifted\n{_errors(shifted - true)}",
        )  # fmt: skip
        if known.any():
            error = predicted[known] - reference[known]
            bars = np.nan_to_num(uncertainties[known], nan=0.0)
            axes.errorbar(
                true[known], predicted[known] - zero, yerr=bars, fmt="o", ms=4.5, color=PALETTE[0],
                ecolor=PALETTE[0], elinewidth=0.8, mec="white", mew=0.4, zorder=3,
                label=f"Foundation + Δ, when selected\n{_errors(error)}",
            )  # fmt: skip
        axes.set(xlim=limits, ylim=limits)
        axes.legend(loc="upper left", handletextpad=0.4, labelspacing=0.8)
        beyond = int((true > limits[1]).sum())
        if beyond:
            axes.text(
                0.98, 0.02, f"{beyond} beyond the axes", transform=axes.transAxes, ha="right", color=GREY
            )
    return figure


def observed_against_expected_coverage(
    sets: Mapping[str, tuple[FloatArray, FloatArray]], *, title: str = ""
) -> Figure:
    """How many errors lie within the central interval of each level, a line for each set of predictions.

    Parameters
    ----------
    sets
        Errors (n,) and predicted deviations (n,), eV, by what to call them.
    title
        Drawn above the axes.
    """
    levels = np.linspace(0.0, 1.0, 101)
    with _axes((4.4, 4.2), title) as (figure, axes):
        axes.set_aspect("equal", adjustable="box")
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
        for index, (name, (errors, deviations)) in enumerate(sets.items()):
            known = np.isfinite(errors) & np.isfinite(deviations) & (deviations > 0)
            if known.any():
                z = errors[known] / deviations[known]
                label = f"{name} ({len(z)}), z {np.sqrt(np.mean(z**2)):.2f}"
                colour = PALETTE[index % len(PALETTE)]
                axes.step(levels, coverage(z, levels), where="post", color=colour, linewidth=1.6, label=label)
        axes.set(xlabel="Expected share of errors", ylabel="Observed share of errors")
        axes.set(xlim=(0, 1), ylim=(0, 1.01))
        axes.text(0.97, 0.06, "too sure", color=GREY, fontsize=8.5, ha="right")
        axes.text(0.03, 0.92, "too careful", color=GREY, fontsize=8.5)
        axes.legend(loc="upper left", bbox_to_anchor=(0.0, -0.14))
    return figure


@contextmanager
def _axes(size: tuple[float, float], title: str) -> Iterator[tuple[Figure, Axes]]:
    """A figure [inches] in our style, made without pyplot and so without a global state."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        if title:
            axes.set_title(title, loc="left")
        yield figure, axes


def _top(relative: FloatArray) -> float:
    """Upper end of the energy axis: the few highest energies must not squeeze the rest."""
    if len(relative) == 0 or relative.max() <= 0.0:
        return 1.0
    quantile = float(np.quantile(relative, TOP_QUANTILE, method="lower"))
    near = relative[relative <= 2.0 * quantile]
    return float(near.max()) or float(relative.max())


def _parity_limits(true: FloatArray, *predictions: FloatArray) -> tuple[float, float]:
    """Common limits of both axes: all structures but the few that are far above the others."""
    top = _top(true)
    shown = [true[true <= top], *(values[values <= 1.5 * top] for values in predictions)]
    values = np.concatenate(shown)
    margin = 0.05 * max(float(np.ptp(values)), 1e-3)
    return float(values.min()) - margin, float(values.max()) + margin


def _dots(axes: Axes, count: IntArray, relative: FloatArray, top: float, colour: str) -> None:
    high = relative > top
    edge = np.full(int(high.sum()), ARROWS * top)
    for marker, x, y in (("o", count[~high], relative[~high]), ("^", count[high], edge)):
        axes.plot(
            x, y, linestyle="none", marker=marker, markersize=4.0, color=colour, alpha=0.55, mew=0.0
        )  # fmt: skip


def _running_best(
    axes: Axes, count: IntArray, relative: FloatArray, end: tuple[int, float], colour: str
) -> None:
    if len(count) == 0:
        return
    last, top = end
    best = np.minimum(np.minimum.accumulate(relative), ARROWS * top)
    axes.step(
        np.append(count, last), np.append(best, best[-1]), where="post", color=colour, linewidth=1.6, zorder=3
    )


def _failures(axes: Axes, count: IntArray, top: float) -> None:
    heights = np.full(len(count), CROSSES * top)
    axes.plot(count, heights, linestyle="none", marker="x", markersize=4.5, color=INK, markeredgewidth=1.0)


def _marks_of_evaluations(chains: list[str], ok: BoolArray, beyond: bool) -> list[Line2D]:
    def mark(marker: str, label: str, colour: str, line: Literal["none", "-"] = "none") -> Line2D:
        return Line2D([], [], marker=marker, linestyle=line, color=colour, markersize=4.5, label=label)

    handles = [mark("o", "evaluation", GREY), mark("", "lowest so far", GREY, "-")]
    if 1 < len(chains) <= MOST_CHAINS_IN_LEGEND:
        handles += [mark("", chain, PALETTE[index % len(PALETTE)], "-") for index, chain in enumerate(chains)]
    if beyond:
        handles.append(mark("^", "beyond the axis", GREY))
    if not ok.all():
        handles.append(mark("x", f"failed ({int((~ok).sum())})", INK))
    return handles


def _errors(error: FloatArray) -> str:
    mean = np.abs(error).mean()
    return f"MAE {mean:.2f} eV, RMSE {np.sqrt((error**2).mean()):.2f} eV"
