"""Potentials against the reference, drawn: parity, forces by element, energies by bond."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from godelta.analysis.bonds import BondFit
from godelta.analysis.parity import ForceClass, Level, Truth, energy_errors
from godelta.analysis.plots import GREY, INK, PALETTE, STYLE
from godelta.arrays import FloatArray

MEV = 1000.0
COLUMNS = 3  # of parity panels
BAND = 0.8  # of the distance between two groups that their bars take


def comparison(
    truth: Truth,
    levels: Sequence[Level],
    forces: Sequence[ForceClass],
    bonds: Mapping[str, BondFit],
    *,
    title: str = "",
) -> Figure:
    """A parity panel for each level; below, errors of forces by element and of energies by bond.

    Parameters
    ----------
    truth
        What the reference says.
    levels
        What potentials say, in the order of panels and colours.
    forces
        Errors of forces by surroundings, of which those of whole elements are drawn.
    bonds
        Errors by bond, by the names of the levels.
    """
    columns = 2 if len(levels) in (1, 2, 4) else COLUMNS
    rows = -(-len(levels) // columns)
    colours = {level.name: PALETTE[k % len(PALETTE)] for k, level in enumerate(levels)}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.1 * columns, 3.0 * rows + 3.0), layout="constrained")
        grid = figure.add_gridspec(2, 1, height_ratios=(3.0 * rows, 3.0))
        above, below = (figure.add_subfigure(grid[k]) for k in range(2))
        panels = np.ravel(above.subplots(rows, columns, squeeze=False))
        for axes, level in zip(panels, levels, strict=False):
            _parity(axes, truth, level, colours[level.name])
        for axes in panels[len(levels) :]:
            axes.set_axis_off()
        left, right = below.subplots(1, 2)
        _forces(left, forces, colours)
        _bonds(right, bonds, colours)
        marks = [Line2D([], [], marker="o", linestyle="none", color=c, label=n) for n, c in colours.items()]
        below.legend(handles=marks, loc="outside lower center", ncols=columns)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=10.0)
    return figure


def _parity(axes: Axes, truth: Truth, level: Level, colour: str) -> None:
    """Energies above the reference's lowest of the composition, the constant taken off."""
    errors = energy_errors(truth, level)
    lowest = np.full(truth.compositions.max(initial=0) + 1, np.inf)
    np.minimum.at(lowest, truth.compositions, truth.energies)
    true = truth.energies - lowest[truth.compositions]
    known = np.isfinite(errors)
    axes.set_title(level.name, loc="left")
    axes.set(xlabel="Reference (eV above the lowest)", ylabel="Foundation (eV)")
    if not known.any():
        return
    said = true[known] + errors[known]
    ends = min(0.0, float(said.min())), max(float(true[known].max()), float(said.max()))
    margin = 0.04 * max(ends[1] - ends[0], 1e-3)
    limits = ends[0] - margin, ends[1] + margin
    axes.plot(limits, limits, color=GREY, linewidth=0.8, zorder=1)
    axes.plot(true[known], said, "o", ms=3.6, color=colour, alpha=0.6, mew=0.0)
    axes.set(xlim=limits, ylim=limits)
    axes.set_aspect("equal", adjustable="box")
    sizes = np.array([len(atoms) for atoms in truth.structures])[known]
    per_atom = MEV * float(np.abs(errors[known] / sizes).mean())
    axes.text(0.04, 0.96, f"MAE {per_atom:.0f} meV/atom", transform=axes.transAxes, va="top", color=INK)


def _forces(axes: Axes, forces: Sequence[ForceClass], colours: Mapping[str, str]) -> None:
    rows = [row for row in forces if row.surroundings == "all"]
    names = [name for name in colours if any(name in row.errors for row in rows)]
    for place, name in enumerate(names):
        heights = [MEV * row.errors[name].mae if name in row.errors else 0.0 for row in rows]
        x, width = _places(len(rows), place, len(names))
        axes.bar(x, heights, width, color=colours[name])
    axes.set_xticks(range(len(rows)), [row.element for row in rows])
    axes.set(ylabel="MAE of forces (meV/Å)", title="Forces by element")


def _bonds(axes: Axes, bonds: Mapping[str, BondFit], colours: Mapping[str, str]) -> None:
    fits = {name: [bond for bond in fit.bonds if bond.slope is not None] for name, fit in bonds.items()}
    known = {bond.pair for fit in fits.values() for bond in fit}
    pairs = [bond.pair for fit in list(bonds.values())[:1] for bond in fit.bonds if bond.pair in known]
    axes.axhline(0.0, color=INK, linewidth=0.8)
    for place, (name, fit) in enumerate(fits.items()):
        x, _ = _places(len(pairs), place, len(bonds))
        axes.errorbar(
            x[[pairs.index(bond.pair) for bond in fit]],
            [bond.slope or 0.0 for bond in fit],
            yerr=[bond.deviation or 0.0 for bond in fit],
            fmt="o",
            ms=4.5,
            color=colours[name],
            elinewidth=1.0,
            capsize=2.5,
        )
    axes.set_xticks(range(len(pairs)), pairs)
    axes.set_xlim(-0.6, max(len(pairs), 1) - 0.4)
    axes.set(ylabel="Error per bond (eV)", title="Energies by bond")


def _places(groups: int, place: int, count: int) -> tuple[FloatArray, float]:
    """Where the bars of one level stand, and how wide they are."""
    width = BAND / max(count, 1)
    return np.arange(groups, dtype=np.float64) - BAND / 2 + (place + 0.5) * width, width
