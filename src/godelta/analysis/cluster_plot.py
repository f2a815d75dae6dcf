"""Stabilities of clusters, drawn."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from godelta.analysis.cluster_energies import Stability
from godelta.analysis.plots import GREY, INK, PALETTE, STYLE

ON_HULL = 1e-6  # eV per atom


def cluster_energies(rows: Sequence[Stability], *, title: str = "") -> Figure:
    """Formation energies over size (a series of one formula) or over the share of an element.

    A series gets its second differences beneath. Other clusters get their convex hull, which is a line where
    they are of two elements.

    Parameters
    ----------
    rows
        As `stabilities` gives them.
    """
    series = all(row.units is not None for row in rows)
    second = [row for row in rows if row.second_difference is not None]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 4.6 if second else 3.2), layout="constrained")
        if second:
            upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
            _over_size(upper, rows)
            _second_differences(lower, second)
        elif series:
            upper = figure.subplots()
            _over_size(upper, rows)
            upper.set_xlabel("Units of the formula")
        else:
            upper = figure.subplots()
            _over_composition(upper, rows)
        upper.set_ylabel("Formation energy (eV/atom)")
        figure.suptitle(title, x=0.01, ha="left", fontsize=10.0)
    return figure


def _over_size(axes: Axes, rows: Sequence[Stability]) -> None:
    lowest: Mapping[int, float] = {row.units or 0: row.formation for row in reversed(_by_energy(rows))}
    units = sorted(lowest)
    axes.plot(units, [lowest[n] for n in units], "o-", color=PALETTE[0], markersize=5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _second_differences(axes: Axes, rows: Sequence[Stability]) -> None:
    heights = [row.second_difference or 0.0 for row in rows]
    axes.bar([row.units or 0 for row in rows], heights, width=0.5, color=PALETTE[1])
    axes.axhline(0.0, color=INK, linewidth=0.8)
    axes.set(xlabel="Units of the formula", ylabel="Second difference (eV)")


def _over_composition(axes: Axes, rows: Sequence[Stability]) -> None:
    """The share of the element that varies most; the hull is drawn where there are two elements."""
    symbols = sorted({symbol for row in rows for symbol in row.cluster.atoms})
    shares = {s: [row.cluster.atoms.get(s, 0) / row.cluster.size for row in rows] for s in symbols}
    symbol = max(symbols, key=lambda one: float(np.ptp(shares[one])))
    x, y = np.array(shares[symbol]), np.array([row.formation for row in rows])
    hull = np.array([row.above_hull <= ON_HULL for row in rows])
    if len(symbols) == 2:
        corners = sorted([(0.0, 0.0), (1.0, 0.0), *zip(x[hull], y[hull], strict=True)])
        axes.plot(*np.transpose(corners), color=INK, linewidth=1.0)
    axes.plot(x[~hull], y[~hull], "o", color=GREY, markersize=5, label="above the hull")
    axes.plot(x[hull], y[hull], "o", color=PALETTE[0], markersize=6, label="on the hull")
    for row, share, on_hull in zip(rows, x, hull, strict=True):
        if not on_hull:
            continue
        label = "".join(f"{s}{n if n > 1 else ''}" for s, n in row.cluster.atoms.items())
        axes.annotate(label, (share, row.formation), (4, -9), textcoords="offset points", fontsize=7)
    axes.set_xlabel(f"Share of {symbol}")
    axes.legend()


def _by_energy(rows: Sequence[Stability]) -> list[Stability]:
    return sorted(rows, key=lambda row: row.formation)
