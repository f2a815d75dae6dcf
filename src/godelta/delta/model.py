"""The Δ-model: its training, its storage, and the potential foundation + Δ that a search runs on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from numpy.typing import ArrayLike

from godelta.arrays import BoolArray, FloatArray
from godelta.delta.displaced import displaced_copies
from godelta.delta.local_kernel import Environments, LocalKernel
from godelta.delta.repulsion import Repulsion
from godelta.delta.settings import DeltaSettings
from godelta.delta.soap import SOAP
from godelta.delta.sparse_gp import Diagnostics, Posterior, SparseGP, deviation, mean_energy
from godelta.delta.training import TrainingSet, check_data
from godelta.foundation.base import Foundation, PotentialBatch

Describe = Callable[[SOAP, Sequence[str], Sequence[Atoms]], list[FloatArray]]


@dataclass(frozen=True, slots=True)
class Prediction:
    """E_Δ [eV], forces (n, 3) [eV/Å], -grad(E_Δ - kappa sigma), and sigma [eV], NaN if not asked for."""

    energy: float
    forces: FloatArray
    uncertainty: float


@dataclass(frozen=True)
class Correction:
    """A trained Δ-model.

    Parameters
    ----------
    settings, species
        What it was trained with; species are sorted atomic numbers.
    training
        The data.
    kernel, posterior, diagnostics
        The sparse Gaussian process.
    rows
        (N, M) kernel of the training structures with the inducing points, for the next training.
    selected_environments
        Number of atoms in the training set when the inducing points were chosen.
    """

    settings: DeltaSettings
    species: tuple[int, ...]
    training: TrainingSet
    kernel: LocalKernel
    posterior: Posterior
    diagnostics: Diagnostics
    rows: FloatArray
    selected_environments: int

    @cached_property
    def soap(self) -> SOAP:
        """The descriptor."""
        return SOAP(self.settings.soap, self.species)

    @property
    def hyperparameters(self) -> dict[str, float | int]:
        """What the fit chose: plain numbers; amplitude in eV per atom, noise relative to its square."""
        return {
            "inducing_points": self.kernel.size,
            "length_scale": self.kernel.length_scale,
            "amplitude": self.posterior.amplitude,
            "noise": self.posterior.noise,
            "mean_scale": self.posterior.mean_scale,
        }

    @property
    def metrics(self) -> dict[str, float | int | None]:
        """Errors of the fit: leave-one-out, within the energy window; None where too few data allow none."""
        return {
            "n_structures": self.diagnostics.n_structures,
            "n_inside_window": self.diagnostics.n_inside,
            "log_evidence": self.diagnostics.log_evidence,
            "loo_rmse_ev": self.diagnostics.loo_rmse,
            "loo_rmse_ev_per_atom": self.diagnostics.loo_rmse_per_atom,
            "loo_z_rms": self.diagnostics.loo_z,
        }

    def predict(
        self,
        atoms: Atoms,
        *,
        kappa: float = 0.0,
        uncertainty: bool = False,
        moving: BoolArray | None = None,
    ) -> Prediction:
        """Energy, forces and uncertainty of the correction, with one descriptor gradient at most.

        Parameters
        ----------
        kappa
            Other than 0: the forces are those of E_Δ - kappa sigma, and sigma is returned.
        uncertainty
            Whether sigma is wanted when kappa is 0.
        moving
            (n,) flags; forces on other atoms are zero. All atoms by default.
        """
        features, context = self.soap.describe(atoms)
        kernel, posterior = self.kernel, self.posterior
        values = kernel.values(Environments(features, context.kinds))
        counts = np.bincount(context.kinds, minlength=len(self.species)).astype(np.float64)
        if len(posterior.mean) == 1:
            counts = counts.sum(keepdims=True)
        weights = posterior.weights[: kernel.size]
        sigma = float("nan")
        if not (kappa or uncertainty):
            local, G = kernel.pull_back(values, weights, features.shape)
        else:
            row = kernel.row(values)
            local = float(row @ weights)
            sigma, explained, matrices = deviation(kernel, posterior, values, row, counts)
            # d(-kappa sigma) = kappa s²/sigma (W^T W k_M) . dk_M - kappa s²/(2 sigma) dk**
            factor = kappa * posterior.amplitude**2 / sigma
            G = kernel.pull_back(values, weights + factor * explained, features.shape)[1]
            if kappa:
                G -= 0.5 * factor * kernel.self_gradient(values, matrices, features.shape)
        forces = -self.soap.vjp(context, G, moving)
        return Prediction(mean_energy(posterior, counts) + local, forces, sigma)

    def to_bytes(self) -> bytes:
        """Everything as npz bytes; a refit after `from_bytes` gives the same bits as one before."""
        from godelta.delta.storage import correction_to_bytes

        return correction_to_bytes(self)

    @classmethod
    def from_bytes(cls, blob: bytes) -> "Correction":
        """Read `to_bytes`; raises GodeltaError for bytes of a newer version of godelta."""
        from godelta.delta.storage import correction_from_bytes

        return correction_from_bytes(blob)


def train(  # noqa: PLR0913 - the data, and two ways to save work
    settings: DeltaSettings,
    species: Sequence[int],
    structures: Sequence[Atoms],
    foundation_energies: ArrayLike,
    reference_energies: ArrayLike,
    ids: Sequence[str],
    *,
    residual_forces: Sequence[FloatArray] | None = None,
    previous: Correction | None = None,
    describe: Describe | None = None,
) -> Correction:
    """Train a Δ-model on energies and, where they are given, forces.

    While there are no more atoms than inducing points, every atom is one and the fit is complete. From
    then on the kernel rows of `previous` are kept and only new structures are described, until the number
    of atoms has doubled since the choice of inducing points: choosing costs a hundred refits, and doubling
    keeps the sum of that cost proportional to the data. The noise and the amplitude are fitted each time.

    Parameters
    ----------
    species
        Atomic numbers that structures may contain.
    structures, foundation_energies, reference_energies, ids
        N evaluated structures, energies (N,) in eV, unique ids; any order.
    residual_forces
        N arrays (n, 3), reference minus foundation forces in eV/Å, learned along `force_directions`.
    previous
        A model to continue from; its energies are not used, so corrected ones may be given.
    describe
        Gives the features of structures with these ids, e.g. stored ones; by default they are computed.
        Displaced copies have ids of their own.

    Raises
    ------
    GodeltaError
        If the data cannot be used.
    """
    foundation = np.asarray(foundation_energies, dtype=np.float64)
    reference = np.asarray(reference_energies, dtype=np.float64)
    check_data(ids, len(structures), foundation, reference)
    if residual_forces is not None and settings.force_directions:
        ids, structures, foundation, reference = _with_copies(
            ids, structures, foundation, reference, residual_forces, settings.force_directions
        )
    order = sorted(range(len(ids)), key=lambda k: ids[k])
    structures = [structures[k] for k in order]
    known = tuple(sorted({int(z) for z in species}))
    soap = previous.soap if previous is not None and _same_model(previous, settings, known) else None
    soap = soap or SOAP(settings.soap, known)
    kinds = [soap.kinds(atoms) for atoms in structures]
    training = TrainingSet(
        ids=tuple(ids[k] for k in order),
        counts=np.array([np.bincount(k, minlength=len(known)) for k in kinds], dtype=np.int64),
        reference_energies=reference[order],
        foundation_energies=foundation[order],
    )
    describe = describe or _compute_features
    gp = SparseGP(len(known), settings)
    selected = training.environments
    if previous is not None and _can_continue(previous, settings, known, training):
        selected = previous.selected_environments
        rows = _continued_rows(previous, soap, training.ids, structures, describe)
        counts = training.counts.astype(np.float64)
        counts = counts if settings.species_mean else counts.sum(axis=1, keepdims=True)
        gp.fit_rows(
            previous.kernel, rows, counts, training.residuals, training.excess, owners=training.owners
        )
    else:
        features = describe(soap, training.ids, structures)
        environments = [Environments(f, k) for f, k in zip(features, kinds, strict=True)]
        gp.fit(environments, training.residuals, training.excess, owners=training.owners)
    return Correction(
        settings, known, training, gp.kernel_, gp.posterior_, gp.diagnostics_, gp.rows_, selected
    )


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
        names, copies, changes = displaced_copies(atoms, name, forces, moving_atoms(atoms), count)
        all_ids += names
        all_structures += copies
        energies.append(np.full(count, foundation[k]))
        residuals.append(residuals[0][k] + changes)
    # Only the difference of both energies counts, so that of the copies' own foundation energies is kept out.
    base = np.concatenate(energies)
    return all_ids, all_structures, base, base + np.concatenate(residuals)


def _same_model(previous: Correction, settings: DeltaSettings, species: tuple[int, ...]) -> bool:
    return previous.settings == settings and previous.species == species


def _can_continue(
    previous: Correction, settings: DeltaSettings, species: tuple[int, ...], training: TrainingSet
) -> bool:
    return (
        _same_model(previous, settings, species)
        and previous.selected_environments > settings.inducing_points
        and training.environments < 2 * previous.selected_environments
        and set(previous.training.ids) <= set(training.ids)
    )


def _continued_rows(
    previous: Correction, soap: SOAP, ids: Sequence[str], structures: Sequence[Atoms], describe: Describe
) -> FloatArray:
    """(N, M) kernel rows: those of `previous` where it has them, new ones for the rest."""
    place = {name: k for k, name in enumerate(previous.training.ids)}
    rows = np.empty((len(ids), previous.kernel.size))
    new = [k for k, name in enumerate(ids) if name not in place]
    for k, name in enumerate(ids):
        if name in place:
            rows[k] = previous.rows[place[name]]
    features = describe(soap, [ids[k] for k in new], [structures[k] for k in new])
    for k, values in zip(new, features, strict=True):
        environments = Environments(values, soap.kinds(structures[k]))
        rows[k] = previous.kernel.row(previous.kernel.values(environments))
    return rows


def _compute_features(soap: SOAP, _ids: Sequence[str], structures: Sequence[Atoms]) -> list[FloatArray]:
    return [soap.features(atoms) for atoms in structures]


@dataclass(frozen=True)
class Learnt:
    """What a campaign has learnt: from energies a correction, from failures a repulsion, if anything."""

    correction: Correction | None = None
    repulsion: Repulsion | None = None

    def to_bytes(self) -> bytes:
        """Everything as npz bytes, without loss."""
        from godelta.delta.storage import learnt_to_bytes

        return learnt_to_bytes(self)

    @classmethod
    def from_bytes(cls, blob: bytes) -> "Learnt":
        """Read `to_bytes`; raises GodeltaError for bytes of a newer version of godelta."""
        from godelta.delta.storage import learnt_from_bytes

        return learnt_from_bytes(blob)


class DeltaModel:
    """The potential foundation + Δ + repulsion (a `Potential`); with nothing learnt, the foundation alone.

    Atoms under ASE's FixAtoms do not move: what is learnt exerts no force on them.
    """

    def __init__(
        self,
        foundation: Foundation,
        correction: Correction | None = None,
        repulsion: Repulsion | None = None,
    ) -> None:
        self.foundation = foundation
        self.correction = correction
        self.repulsion = repulsion

    def evaluate(
        self, structures: Sequence[Atoms], *, kappa: float = 0.0, uncertainty: bool = False
    ) -> PotentialBatch:
        """Energies [eV], forces [eV/Å] of E - kappa sigma, and uncertainties [eV] of the structures.

        Uncertainties are NaN without a correction, and when kappa is 0 and they are not asked for.
        """
        base = self.foundation.evaluate(structures)
        energies, forces = np.array(base.energies, dtype=np.float64), list(base.forces)
        uncertainties = np.full(len(structures), np.nan)
        if self.correction is None and self.repulsion is None:
            return PotentialBatch(energies, forces, base.energies, uncertainties)
        for k, atoms in enumerate(structures):
            moving = moving_atoms(atoms)
            if self.correction is not None:
                p = self.correction.predict(atoms, kappa=kappa, uncertainty=uncertainty, moving=moving)
                energies[k] += p.energy
                forces[k] = forces[k] + p.forces
                uncertainties[k] = p.uncertainty
            if self.repulsion is not None:
                energy, pushes = self.repulsion.evaluate(atoms, moving)
                energies[k] += energy
                forces[k] = forces[k] + pushes
        return PotentialBatch(energies, forces, base.energies, uncertainties)


def moving_atoms(atoms: Atoms) -> BoolArray | None:
    """(n,) flags of the atoms that no FixAtoms constraint holds; None if there is no constraint."""
    if not atoms.constraints:
        return None
    moving = np.ones(len(atoms), dtype=np.bool_)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            moving[constraint.index] = False
    return moving
