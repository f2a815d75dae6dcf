"""The data that a Δ-model is trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from godelta.arrays import BoolArray, FloatArray, IntArray
from godelta.delta import displaced
from godelta.errors import GodeltaError


@dataclass(frozen=True)
class TrainingSet:
    """N data, in the order of their ids: evaluated structures, and what carries their forces.

    That are displaced copies, or derivatives along directions (`gradients`): no atoms, energies in eV/Å.
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
    def evaluated_ids(self) -> frozenset[str]:
        """Ids of the structures that are no copies."""
        return frozenset(name for name, own in zip(self.ids, self.evaluated, strict=True) if own)

    @property
    def excess(self) -> FloatArray:
        """(N,) reference energy above the lowest one of the same composition, eV; its owner's for a slope."""
        _, group = np.unique(self.counts, axis=0, return_inverse=True)
        group = group.reshape(-1)
        lowest = np.full(group.max() + 1, np.inf)
        np.minimum.at(lowest, group, self.reference_energies)
        excess = self.reference_energies - lowest[group]
        return np.where(self.counts.any(axis=1), excess, excess[self.owners])


def gather(  # noqa: PLR0913, PLR0917 - the data, and what is known of them
    ids: Sequence[str],
    structures: Sequence[Atoms],
    foundation_energies: FloatArray,
    reference_energies: FloatArray,
    residual_forces: Sequence[FloatArray] | None,
    directions: int,
    kinds: Sequence[IntArray],
    n_species: int,
) -> tuple[TrainingSet, list[Atoms], list[IntArray]]:
    """The data, displaced copies of them included, with structures and their kinds, in the order of ids.

    Parameters
    ----------
    residual_forces
        N arrays (n, 3) in eV/Å, learnt along `directions` directions each; None: energies only.
    kinds
        N arrays (n,), the index of each atom's species.

    Raises
    ------
    GodeltaError
        If the data cannot be used.
    """
    check_data(ids, len(structures), foundation_energies, reference_energies)
    if residual_forces is not None:
        count = len(ids)
        ids, structures, foundation_energies, reference_energies = _with_copies(
            ids, structures, foundation_energies, reference_energies, residual_forces, directions
        )
        kinds = [*kinds, *(kinds[k] for k in range(count) for _ in range(directions))]
    order = sorted(range(len(ids)), key=lambda k: ids[k])
    kinds = [kinds[k] for k in order]
    training = TrainingSet(
        ids=tuple(ids[k] for k in order),
        counts=np.array([np.bincount(k, minlength=n_species) for k in kinds], dtype=np.int64),
        reference_energies=reference_energies[order],
        foundation_energies=foundation_energies[order],
    )
    return training, [structures[k] for k in order], kinds


def _with_copies(
    ids: Sequence[str],
    structures: Sequence[Atoms],
    foundation: FloatArray,
    reference: FloatArray,
    residual_forces: Sequence[FloatArray],
    count: int,
) -> tuple[list[str], list[Atoms], FloatArray, FloatArray]:
    """The data and, for each structure, `count` displaced copies."""
    all_ids, all_structures, energies = list(ids), list(structures), [foundation]
    residuals = [reference - foundation]
    for k, (name, atoms, forces) in enumerate(zip(ids, structures, residual_forces, strict=True)):
        names, copies, changes = displaced.displaced_copies(
            atoms, name, forces, displaced.moving_atoms(atoms), count
        )
        all_ids += names
        all_structures += copies
        energies.append(np.full(count, foundation[k]))
        residuals.append(residuals[0][k] + changes)
    # Only the difference of both energies counts, so that of the copies' own foundation energies is kept out.
    base = np.concatenate(energies)
    return all_ids, all_structures, base, base + np.concatenate(residuals)


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
