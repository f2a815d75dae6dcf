"""Which candidates are structures that were selected before, and may be evaluated again nevertheless."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from godelta.analysis.duplicates import equivalents, group
from godelta.arrays import FloatArray, IntArray
from godelta.search.selection import FOLLOW_UP
from godelta.store.documents import StructureDocument

WORTH_A_SECOND = 0.02  # eV: how much lower the model has to see a better version of an evaluated structure


@dataclass(frozen=True)
class Selected:
    """A structure that was selected before.

    Parameters
    ----------
    document
        The structure.
    energy
        Of its evaluation, eV; None where that failed or is under way.
    place
        Number and chain of the round that selected it.
    """

    document: StructureDocument
    energy: float | None
    place: tuple[int, int]


def labels(
    candidates: Sequence[StructureDocument],
    energies: FloatArray,
    promised: FloatArray,
    seen: Sequence[Selected],
) -> IntArray:
    """Labels of equivalent candidates; -1 where the same structure was selected before.

    A better model moves a minimum a little, and the energy there is what the campaign is after: the same
    structure again is welcome if the model sees it clearly below the lowest of its evaluations. Not if only
    E - kappa sigma is: the deviation next to an evaluation is never nothing, and the same minimum would be
    evaluated again and again. Nor if its last evaluation had been welcome too, and was no lower: a model that
    is wrong there goes on promising. One whose evaluation failed, or is still under way, is not welcome.

    Parameters
    ----------
    candidates, energies, promised
        n candidates, their model energies and what counts against earlier evaluations, (n,) in eV.
    seen
        What was selected before.
    """
    if not candidates:
        return np.empty(0, dtype=np.int64)
    atoms = [document.atoms() for document in candidates]
    own = group(atoms, energies)
    # Energies of an evaluated structure and of its better version may differ by any amount.
    twins = equivalents(atoms, [one.document.atoms() for one in seen])
    limits = np.array([_to_beat([seen[i] for i in alike]) for alike in twins])
    return np.asarray(np.where(promised > limits - WORTH_A_SECOND, -1, own), dtype=np.int64)


def _to_beat(twins: Sequence[Selected]) -> float:
    """The lowest energy of equivalent structures, eV; -inf where no other evaluation is welcome."""
    lowest, begun = np.inf, None
    for one in sorted(twins, key=lambda one: (one.place, one.document.structure_hash)):
        begun = one.place[0] if begun is None else begun
        asked_again = one.place[0] > begun and one.document.move != FOLLOW_UP
        if one.energy is None or (asked_again and one.energy > lowest - WORTH_A_SECOND):
            return -np.inf
        lowest = min(lowest, one.energy)
    return lowest
