"""Pictures of structures: functions of data that return matplotlib figures."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from ase import Atoms
from ase.visualize.plot import plot_atoms
from matplotlib.cm import ScalarMappable
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from godelta.analysis.plots import STYLE
from godelta.arrays import FloatArray

VIEW = "-70x,15y,0z"
COLOURS = "RdBu_r"  # red: higher than usual for the element


def energies_of_atoms(atoms: Atoms, energies: Mapping[str, FloatArray], *, title: str = "") -> Figure:
    """A structure with its atoms coloured by what of an energy is on them, a panel for each energy.

    Parameters
    ----------
    atoms
        n atoms.
    energies
        (n,) in eV, by the name to put above the panel. The mean of each element is taken off: what is left
        is what the surroundings do.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * len(energies), 3.6), layout="constrained")
        for axes, (name, values) in zip(
            np.atleast_1d(figure.subplots(1, len(energies))), energies.items(), strict=True
        ):
            relative = above_the_mean(atoms, values)
            most = max(float(np.abs(relative).max()), 1e-6)
            scale = ScalarMappable(TwoSlopeNorm(0.0, -most, most), mpl.colormaps[COLOURS])
            plot_atoms(
                atoms,
                axes,
                rotation=VIEW,
                radii=0.65,
                colors=scale.to_rgba(relative)[:, :3],
                show_unit_cell=0,
            )
            axes.set_axis_off()
            axes.set_title(f"{title}  {name}".strip())
            figure.colorbar(scale, ax=axes, shrink=0.7, label="eV above the mean of the element")
    return figure


def above_the_mean(atoms: Atoms, values: FloatArray) -> FloatArray:
    """Values (n,) of atoms less the mean of their element in the structure."""
    relative = np.array(values, dtype=np.float64)
    for number in np.unique(atoms.numbers):
        own = atoms.numbers == number
        relative[own] -= relative[own].mean()
    return relative
