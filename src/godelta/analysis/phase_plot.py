"""The phase diagram of a surface, drawn."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from godelta.analysis.gas import STANDARD, Diatomic
from godelta.analysis.phases import Line, Stable
from godelta.analysis.plots import GREY, INK, PALETTE, STYLE

MEV = 1000.0
DECADES = (0, -10, -20, -30, -5, 5, -15, -40, -50)  # of pressure in bar, those to show first
APART = 0.07  # of the axis, at least, between two of them


def phase_diagram(
    lines: Sequence[Line],
    stable: Sequence[Stable],
    gas: Diatomic,
    temperatures: Sequence[float],
    *,
    title: str = "",
    width: float = 5.6,
) -> Figure:
    """Surface free energies over the gas' chemical potential, stable phases shaded, pressures beneath.

    Parameters
    ----------
    lines
        Of all phases but the clean surface, which is zero.
    stable
        Ranges from left to right; they span the axis.
    temperatures
        Each gets an axis of pressures, K.
    width
        In inches.
    """
    low, high = stable[0].low, stable[-1].high
    colours = {line.name: PALETTE[k % len(PALETTE)] for k, line in enumerate(lines)}
    with mpl.rc_context(STYLE):
        layout = ConstrainedLayoutEngine(rect=(0.0, 0.06, 1.0, 0.94))  # it forgets the lowest axis' label
        figure = Figure(figsize=(width, 3.7 + 0.42 * len(temperatures)), layout=layout)
        axes = figure.subplots()
        x = np.array([low, high])
        axes.axhline(0.0, color=INK, linewidth=1.0)
        axes.annotate("clean", (low, 0.0), (3, 3), textcoords="offset points", color=INK)
        for line in lines:
            axes.plot(x, MEV * line.at(x), color=colours[line.name], label=line.name)
        for row in stable:
            axes.axvspan(row.low, row.high, color=colours.get(row.name, GREY), alpha=0.13, linewidth=0)
        _leave_out_what_is_far_above(axes, lines, stable)
        axes.set(xlim=(low, high), ylabel="Surface free energy (meV/Å²)")
        axes.set_xlabel(f"Chemical potential of {gas.symbol}, Δμ (eV)")
        axes.legend(loc="upper right", ncols=2 if len(lines) > 6 else 1)
        for k, temperature in enumerate(temperatures):
            last = k == len(temperatures) - 1
            _pressures(axes, gas, temperature, -0.22 - 0.11 * k, last=last)
        figure.suptitle(title, x=0.01, ha="left", fontsize=10.0)
    return figure


def _leave_out_what_is_far_above(axes: Axes, lines: Sequence[Line], stable: Sequence[Stable]) -> None:
    """The axis shows the envelope and as much above it; phases that are never near leave it."""
    named: Mapping[str, Line] = {line.name: line for line in lines}
    envelope = [
        MEV * float(named[row.name].at(edge)) if row.name in named else 0.0
        for row in stable
        for edge in (row.low, row.high)
    ]
    depth = max(max(envelope) - min(envelope), 10.0)
    axes.set_ylim(min(envelope) - 0.08 * depth, max(envelope) + 0.8 * depth)


def _pressures(axes: Axes, gas: Diatomic, temperature: float, place: float, *, last: bool) -> None:
    """Another horizontal axis: the pressure in bar at a temperature."""
    low, high = axes.get_xlim()
    shown: dict[float, int] = {}
    for decade in DECADES:
        x = gas.chemical_potential(temperature, STANDARD * 10.0**decade)
        if low <= x <= high and all(abs(x - other) > APART * (high - low) for other in shown):
            shown[x] = decade
    below = axes.secondary_xaxis(place)
    below.set_xticks(list(shown), [f"$10^{{{decade}}}$" for decade in shown.values()])
    axes.text(-0.02, place, f"{temperature:g} K", transform=axes.transAxes, ha="right", va="center")
    if last:
        below.set_xlabel(f"Pressure of {gas.symbol}$_2$ (bar)")
