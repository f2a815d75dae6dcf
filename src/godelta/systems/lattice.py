"""The lattice constant of an fcc metal in a potential: energies of strained crystals and their minimum."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers, covalent_radii, reference_states
from ase.eos import EquationOfState
from ase.units import GPa

from godelta.arrays import FloatArray
from godelta.errors import GodeltaError

STRAINS = np.linspace(-0.03, 0.03, 7)
MOST_MOVES = 8  # of the window of lattice constants: about 20 % to either side

Energies = Callable[[Sequence[Atoms]], FloatArray]


@dataclass(frozen=True, slots=True)
class Lattice:
    """Equilibrium of a crystal: lattice constant [Å], energy [eV/atom], bulk modulus [GPa]."""

    constant: float
    energy: float
    bulk_modulus: float


def crystal(element: str, constant: float) -> Atoms:
    """The primitive fcc cell with a lattice constant in Å."""
    atoms: Atoms = bulk(element, "fcc", a=constant)
    return atoms


def is_fcc(element: str) -> bool:
    """Whether the element crystallises in fcc."""
    state: dict[str, Any] = reference_states[atomic_numbers[element]] or {}
    return state.get("symmetry") == "fcc"


def guess(element: str) -> float:
    """A lattice constant in Å to begin from: the measured one, else that of touching covalent spheres."""
    number = atomic_numbers[element]
    if is_fcc(element):
        state: dict[str, Any] = reference_states[number] or {}
        return float(state["a"])
    return float(2.0 * np.sqrt(2.0) * covalent_radii[number])


def equilibrium(element: str, energies: Energies, start: float | None = None) -> Lattice:
    """The minimum of the energy of an fcc crystal over its lattice constant.

    Seven crystals within 3 % of a lattice constant are evaluated, around the lowest of them again if it is at
    the edge, and an equation of state (Birch, Phys. Rev. 71, 809 (1947)) is fitted.

    Parameters
    ----------
    energies
        Energies (n,) in eV of n primitive cells.
    start
        Lattice constant to begin from, Å; `guess` when not given.

    Raises
    ------
    GodeltaError
        There is no minimum, or an energy is not finite.
    """
    middle = guess(element) if start is None else start
    where = f"fcc {element}"
    for _ in range(MOST_MOVES):
        constants = middle * (1.0 + STRAINS)
        values = energies([crystal(element, constant) for constant in constants])
        if not np.isfinite(values).all():
            raise GodeltaError(
                f"energies around a lattice constant of {middle:.3f} Å are not finite",
                where=where,
                mend="see that the potential knows this element, or give a lattice constant to begin from",
            )
        lowest = int(values.argmin())
        if 0 < lowest < len(values) - 1:
            return _fit(constants, values)
        middle = float(constants[lowest])
    raise GodeltaError(
        f"no minimum of the energy up to a lattice constant of {middle:.3f} Å",
        where=where,
        mend="give a lattice constant to begin from; a potential that binds no fcc crystal has none",
    )


def _fit(constants: FloatArray, energies: FloatArray) -> Lattice:
    volume, energy, modulus = EquationOfState(constants**3 / 4.0, energies, eos="birchmurnaghan").fit()
    return Lattice(float((4.0 * volume) ** (1.0 / 3.0)), float(energy), float(modulus / GPa))
