"""Figures of reports, made for a narrow column (units: eV)."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from godelta.analysis.plots import GREY, PALETTE, STYLE

SIZE = (4.4, 3.3)  # inches
ABOVE = 2.0  # eV; rounds whose lowest is further up leave the axis


def lowest_after_rounds(lowest: Mapping[str, Sequence[tuple[int, float]]], zero: float) -> Figure:
    """The lowest energy found by the end of each round, a line for each chain.

    Parameters
    ----------
    lowest
        By chain, numbers of rounds and the lowest energy evaluated in each, eV.
    zero
        The lowest energy of all, eV.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.add_subplot()
        for index, (name, rows) in enumerate(lowest.items()):
            colour = PALETTE[index % len(PALETTE)]
            x = np.array([k for k, _ in rows])
            y = np.array([energy for _, energy in rows]) - zero
            axes.plot(x, y, "o", ms=4.0, mfc="none", mec=colour, alpha=0.7)
            axes.step(
                x, np.minimum.accumulate(y), where="post", color=colour, linewidth=1.6, label=name,
                marker="o", markersize=3.0,
            )  # fmt: skip
        highest = max(energy for rows in lowest.values() for _, energy in rows) - zero
        axes.set(xlabel="Round", ylabel="Energy above the lowest (eV)")
        axes.set_ylim(-0.03 * min(highest, ABOVE) - 1e-3, 1.06 * min(highest, ABOVE) + 1e-3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        if 1 < len(lowest) <= 8:
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)
    return figure


def ladder_of_walkers(
    kT: Sequence[float], acceptance: Sequence[float | None], swaps: Sequence[float | None]
) -> Figure:
    """How often walkers of a ladder accept, and exchange their structures with the next one.

    Parameters
    ----------
    kT
        (w,) of the walkers, eV.
    acceptance
        Share of moves that each accepts, None where it made none; may be shorter.
    swaps
        (w - 1,) share of exchanges done between neighbours, None where none was tried; may be empty.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.add_subplot()
        pairs = [(x, y) for x, y in zip(kT, acceptance, strict=False) if y is not None]
        axes.plot(*np.reshape(pairs, (-1, 2)).T, "o-", color=PALETTE[0], ms=4.5, label="rattles accepted")
        between = np.sqrt(np.asarray(kT[:-1]) * np.asarray(kT[1:])).tolist()
        pairs = [(x, y) for x, y in zip(between, swaps, strict=False) if y is not None]
        if pairs:
            axes.plot(*np.reshape(pairs, (-1, 2)).T, "s--", color=PALETTE[1], ms=4.0, label="exchanges done")
        axes.set(xlabel="kT of the walker (eV)", ylabel="Share", xscale="log", ylim=(0, 1.03))
        axes.set_xlim(kT[0] / 1.2, kT[-1] * 1.2)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure


def acceptance_over_rounds(rows: Mapping[str, Sequence[tuple[int, float]]]) -> Figure:
    """The walkers' mean acceptance at the end of each round, a line for each chain."""
    figure = _over_rounds(rows, "Share of moves accepted", 1.03)
    figure.axes[0].axhline(0.5, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
    return figure


def error_over_rounds(rows: Mapping[str, Sequence[tuple[int, float]]]) -> Figure:
    """Mean absolute error, eV, of what each round selected, before its evaluation; a line for each chain."""
    return _over_rounds(rows, "Mean absolute error (eV)", None)


def _over_rounds(rows: Mapping[str, Sequence[tuple[int, float]]], label: str, top: float | None) -> Figure:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.add_subplot()
        for index, (name, points) in enumerate(rows.items()):
            x, y = np.array(points).T
            axes.plot(x, y, "o-", color=PALETTE[index % len(PALETTE)], ms=4.0, label=name)
        axes.set(xlabel="Round", ylabel=label, ylim=(0, top))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        if 1 < len(rows) <= 8:
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)
    return figure
