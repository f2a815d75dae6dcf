"""Species that a potential knows."""

from collections.abc import Collection, Sequence

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from godelta.errors import InputError

MPTRJ = frozenset({*range(1, 84), *range(89, 95)})  # what the trajectories of the Materials Project hold: 89


def refuse_unknown_species(potential: str, known: Collection[int], structures: Sequence[Atoms]) -> None:
    """Energies of a species that was not in the training set mean nothing.

    Raises
    ------
    InputError
        A structure holds one; the message names it.
    """
    present = {int(z) for atoms in structures for z in np.unique(atoms.numbers)}
    if unknown := sorted(present - set(known)):
        raise InputError(
            f"does not know {', '.join(chemical_symbols[z] for z in unknown)}",
            where=f"foundation {potential}",
            mend="take a foundation that was trained on it: `godelta foundations` lists them",
        )
