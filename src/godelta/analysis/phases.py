"""Which surface structure is stable at which chemical potential of a gas: lines and their lower envelope."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from godelta.arrays import FloatArray

CLEAN = "clean"
TIE = 1e-9  # eV/Å²; closer lines are the same


@dataclass(frozen=True, slots=True)
class Phase:
    """A surface structure: its energy [eV], the atoms on the clean slab by symbol, and its area [Å²]."""

    name: str
    energy: float
    placed: Mapping[str, int]
    area: float


@dataclass(frozen=True, slots=True)
class Levels:
    """Energies that structures are compared with, all of one level of theory.

    clean
        Of the slab alone, eV.
    solids
        Of an atom of each solid element, eV: the chemical potentials of what the surface has plenty of.
    gas
        The element of the gas.
    gas_energy
        Half the energy of its molecule, eV: where its chemical potential Δμ is zero.
    """

    clean: float
    solids: Mapping[str, float]
    gas: str
    gas_energy: float


@dataclass(frozen=True, slots=True)
class Line:
    """Surface free energy γ(Δμ) = `intercept` + `slope` Δμ [eV/Å²], against the clean surface."""

    name: str
    intercept: float
    slope: float

    def at(self, potential: FloatArray | float) -> FloatArray:
        """γ in eV/Å² at chemical potentials Δμ in eV."""
        return np.asarray(self.intercept + self.slope * np.asarray(potential))


@dataclass(frozen=True, slots=True)
class Stable:
    """A phase, and the range of Δμ [eV] in which no other is lower."""

    name: str
    low: float
    high: float


def surface_line(phase: Phase, levels: Levels) -> Line:
    """The surface free energy of a phase over the chemical potential of the gas.

    γ = (E - E_clean - Σ nᵢ μᵢ - n (½ E_gas + Δμ)) / A, as Reuter and Scheffler (2001) with vibrations of the
    surface left out.

    Raises
    ------
    KeyError
        An element of the phase is neither a solid nor the gas.
    """
    rest = sum(n * levels.solids[symbol] for symbol, n in phase.placed.items() if symbol != levels.gas)
    n_gas = phase.placed.get(levels.gas, 0)
    excess = phase.energy - levels.clean - rest - n_gas * levels.gas_energy
    return Line(phase.name, excess / phase.area, -n_gas / phase.area)


def stable_phases(lines: Sequence[Line], low: float, high: float) -> list[Stable]:
    """The lower envelope of lines, the clean surface (γ = 0) among them, from `low` to `high` in Δμ [eV].

    Of lines that coincide the first is named.
    """
    every = [Line(CLEAN, 0.0, 0.0), *lines]
    crossings = (
        (a.intercept - b.intercept) / (b.slope - a.slope)
        for a, b in itertools.combinations(every, 2)
        if a.slope != b.slope
    )
    edges = [low, *sorted(x for x in crossings if low < x < high), high]
    stable: list[Stable] = []
    for left, right in itertools.pairwise(edges):
        middle = 0.5 * (left + right)
        values = np.array([float(line.at(middle)) for line in every])
        name = every[int(np.flatnonzero(values <= values.min() + TIE)[0])].name
        if stable and stable[-1].name == name:
            stable[-1] = Stable(name, stable[-1].low, right)
        else:
            stable.append(Stable(name, left, right))
    return stable
