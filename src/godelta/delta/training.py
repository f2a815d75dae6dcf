"""The data that a Δ-model is trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from godelta.arrays import BoolArray, FloatArray, IntArray
from godelta.delta import displaced
from godelta.errors import GodeltaError


@dataclass(frozen=True)
class TrainingSet:
    """N structures, in the order of their ids: evaluated ones, and displaced copies that carry their forces.

    ids: unique, sorted, so that the model does not depend on the order of arrival. counts: (N, species)
    numbers of atoms. reference_energies, foundation_energies: (N,) in eV.
    """

    ids: tuple[str, ...]
    counts: IntArray
    reference_energies: FloatArray
    foundation_energies: FloatArray

    @property
    def residuals(self) -> FloatArray:
        """(N,) reference minus foundation energy, eV."""
        return self.reference_energies - self.foundation_energies

    @property
    def environments(self) -> int:
        """Number of atoms of all evaluated structures."""
        return int(self.counts[self.evaluated].sum())

    @property
    def owners(self) -> IntArray:
        """(N,) index of the evaluated structure that each one is a copy of; its own where it is none."""
        return displaced.owners(self.ids)

    @property
    def evaluated(self) -> BoolArray:
        """(N,) flags of the structures that are no copies."""
        return np.asarray(self.owners == np.arange(len(self.ids)), dtype=np.bool_)

    @property
    def excess(self) -> FloatArray:
        """(N,) reference energy above the lowest one of the same composition, eV."""
        _, group = np.unique(self.counts, axis=0, return_inverse=True)
        group = group.reshape(-1)
        lowest = np.full(group.max() + 1, np.inf)
        np.minimum.at(lowest, group, self.reference_energies)
        return np.asarray(self.reference_energies - lowest[group], dtype=np.float64)


def check_data(
    ids: Sequence[str], n_structures: int, foundation_energies: FloatArray, reference_energies: FloatArray
) -> None:
    """Refuse data that no model can be trained on.

    Raises
    ------
    GodeltaError
        If there is nothing to train on, lengths differ, ids repeat, or an energy is not finite.
    """
    if not ids:
        raise GodeltaError(
            "there is no evaluated structure to train a Δ-model on", mend="evaluate a structure first"
        )
    lengths = {len(ids), n_structures, len(foundation_energies), len(reference_energies)}
    if len(lengths) > 1:
        raise GodeltaError(
            "structures, ids and energies for a Δ-model differ in number",
            mend="give one of each per structure",
        )
    if len(set(ids)) < len(ids):
        raise GodeltaError(
            "an evaluation was given twice to the training of a Δ-model", mend="give each id once"
        )
    finite = np.isfinite(foundation_energies) & np.isfinite(reference_energies)
    if not finite.all():
        bad = ids[int(np.argmin(finite))]
        raise GodeltaError("an energy is not finite", where=f"evaluation {bad}", mend="leave it out")
