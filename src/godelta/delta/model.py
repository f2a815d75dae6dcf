"""The Δ-model: its training, its storage, and the potential foundation + Δ that a search runs on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from godelta.arrays import BoolArray, FloatArray
from godelta.delta.displaced import moving_atoms
from godelta.delta.embedding import EmbeddingCorrection
from godelta.delta.gradients import Datum, with_gradients
from godelta.delta.left_out import Diagnostics, LeftOut
from godelta.delta.local_fit import fit_atoms, same_model
from godelta.delta.local_kernel import Environments, LocalKernel
from godelta.delta.metrics import fit_hyperparameters, fit_metrics
from godelta.delta.prediction import evaluate
from godelta.delta.repulsion import Repulsion
from godelta.delta.settings import DeltaSettings
from godelta.delta.soap import SOAP
from godelta.delta.sparse_gp import Posterior
from godelta.delta.torch_correction import TorchCorrection
from godelta.delta.training import TrainingSet, gather
from godelta.errors import GodeltaError
from godelta.foundation.base import EmbeddingFoundation, Foundation, PotentialBatch
from godelta.foundation.torch_graph import TorchFoundation

GPU_ATOMS = 200  # of a batch below which compiled loops take less than a GPU needs to be started
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
        (N, M) kernel of the training data with the inducing points, for the next training. NaN for
        derivatives when it comes from `from_bytes`: they are most of it, and can be computed again.
    selected_environments
        Number of atoms in the training set when the inducing points were chosen.
    left_out
        What leaving out each evaluation tells; None for a model of before it was kept.
    """

    settings: DeltaSettings
    species: tuple[int, ...]
    training: TrainingSet
    kernel: LocalKernel
    posterior: Posterior
    diagnostics: Diagnostics
    rows: FloatArray
    selected_environments: int
    left_out: LeftOut | None = None

    @cached_property
    def soap(self) -> SOAP:
        """The descriptor."""
        return SOAP(self.settings.soap, self.species)

    @property
    def hyperparameters(self) -> dict[str, float | int]:
        """What the fit chose: plain numbers; amplitude in eV per atom, noise relative to its square."""
        return fit_hyperparameters(self.kernel, self.posterior)

    @property
    def metrics(self) -> dict[str, float | int | None]:
        """Errors of the fit: leave-one-out, within the energy window; None where too few data allow none."""
        return fit_metrics(self.diagnostics)

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
        counts = np.bincount(context.kinds, minlength=len(self.species)).astype(np.float64)
        if len(self.posterior.mean) == 1:
            counts = counts.sum(keepdims=True)
        x = Environments(features, context.kinds)
        done = evaluate(self.kernel, self.posterior, x, counts, kappa=kappa, uncertainty=uncertainty)
        return Prediction(done.energy, -self.soap.vjp(context, done.gradient, moving), done.sigma)

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
        N arrays (n, 3), reference minus foundation forces in eV/Å, learned along `force_directions`
        as `forces_as` says.
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
    known = tuple(sorted({int(z) for z in species}))
    soap = previous.soap if previous is not None and same_model(previous, settings, known) else None
    soap = soap or SOAP(settings.soap, known)
    training, ordered, _ = gather(
        ids,
        structures,
        np.asarray(foundation_energies, dtype=np.float64),
        np.asarray(reference_energies, dtype=np.float64),
        residual_forces if settings.force_directions and settings.forces_as == "copies" else None,
        settings.force_directions,
        [soap.kinds(atoms) for atoms in structures],
        len(known),
    )
    data = [Datum(name, atoms) for name, atoms in zip(training.ids, ordered, strict=True)]
    if residual_forces is not None and settings.force_directions and settings.forces_as == "gradients":
        by_id = dict(zip(ids, residual_forces, strict=True))
        training, data = with_gradients(training, ordered, by_id, settings)
    described = partial(describe or _compute_features, soap)
    gp, selected = fit_atoms(settings, known, soap, described, training, data, previous)
    return Correction(
        settings,
        known,
        training,
        gp.kernel_,
        gp.posterior_,
        gp.diagnostics_,
        gp.rows_,
        selected,
        gp.left_out_,
    )


def _compute_features(soap: SOAP, _ids: Sequence[str], structures: Sequence[Atoms]) -> list[FloatArray]:
    return [soap.features(atoms) for atoms in structures]


AnyCorrection = Correction | EmbeddingCorrection


@dataclass(frozen=True)
class Learnt:
    """What a campaign has learnt: from energies a correction, from failures a repulsion, if anything."""

    correction: AnyCorrection | None = None
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


def _gpu_of(foundation: Foundation) -> str | None:
    """The GPU that a foundation is on, None where it is on none."""
    device = foundation.identity.device if isinstance(foundation, TorchFoundation) else "cpu"
    return None if device == "cpu" else device


class DeltaModel:
    """The potential foundation + Δ + repulsion (a `Potential`); with nothing learnt, the foundation alone.

    Atoms under ASE's FixAtoms do not move: what is learnt exerts no force on them. A correction on the
    foundation's own features shares its backward pass, and is in the forces on fixed atoms too.

    Parameters
    ----------
    device
        Where PyTorch evaluates a correction on SOAP, all structures at once. By default a GPU that the
        foundation is on takes large batches; all else is left to compiled loops on the CPU, which are faster.

    Raises
    ------
    GodeltaError
        The correction knows the features of another foundation.
    """

    def __init__(
        self,
        foundation: Foundation,
        correction: AnyCorrection | None = None,
        repulsion: Repulsion | None = None,
        *,
        device: str | None = None,
    ) -> None:
        self._with_features = (
            correction.check(foundation) if isinstance(correction, EmbeddingCorrection) else None
        )
        self.foundation = foundation
        self.correction = correction
        self.repulsion = repulsion
        on = device or _gpu_of(foundation)
        self._batched = TorchCorrection(correction, on) if on and isinstance(correction, Correction) else None
        self._batch_atoms = 0 if device else GPU_ATOMS

    @property
    def has_stress(self) -> bool:
        """Whether stresses can be asked for."""
        whole = self.correction is None or isinstance(self.correction, EmbeddingCorrection)
        return whole and self.repulsion is None and isinstance(self.foundation, EmbeddingFoundation)

    def evaluate(
        self,
        structures: Sequence[Atoms],
        *,
        kappa: float = 0.0,
        uncertainty: bool = False,
        stress: bool = False,
    ) -> PotentialBatch:
        """Energies [eV], forces [eV/Å] of E - kappa sigma, and uncertainties [eV] of the structures.

        Uncertainties are NaN without a correction, and when kappa is 0 and they are not asked for.

        Raises
        ------
        GodeltaError
            A stress was asked for, and a part of the potential has none.
        """
        if stress and not self.has_stress:
            raise GodeltaError(
                "a correction on SOAP, a repulsion and an ASE calculator as foundation give no stress",
                mend="use `delta.descriptor: embedding`, or do without stress",
            )
        batch = self._on_features(structures, kappa, uncertainty, stress)
        energies, forces = np.array(batch.energies, dtype=np.float64), list(batch.forces)
        uncertainties = np.array(batch.uncertainties, dtype=np.float64)
        if not isinstance(self.correction, Correction) and self.repulsion is None:
            return batch
        if isinstance(self.correction, Correction):
            predicted = self._predict(self.correction, structures, kappa, uncertainty)
            for k, p in enumerate(predicted):
                energies[k] += p.energy
                forces[k] = forces[k] + p.forces
                uncertainties[k] = p.uncertainty
        if self.repulsion is not None:
            for k, atoms in enumerate(structures):
                energy, pushes = self.repulsion.evaluate(atoms, moving_atoms(atoms))
                energies[k] += energy
                forces[k] = forces[k] + pushes
        return PotentialBatch(energies, forces, batch.foundation_energies, uncertainties)

    def _predict(
        self, correction: Correction, structures: Sequence[Atoms], kappa: float, uncertainty: bool
    ) -> list[Prediction]:
        """What a correction on SOAP adds."""
        if self._batched is not None and sum(len(atoms) for atoms in structures) >= self._batch_atoms:
            found = self._batched.evaluate(structures, kappa=kappa, uncertainty=uncertainty)
            return [Prediction(float(e), f, float(u)) for e, f, u in zip(*found, strict=True)]
        return [
            correction.predict(atoms, kappa=kappa, uncertainty=uncertainty, moving=moving_atoms(atoms))
            for atoms in structures
        ]

    def _on_features(
        self, structures: Sequence[Atoms], kappa: float, uncertainty: bool, stress: bool
    ) -> PotentialBatch:
        """The foundation and, in the same pass, a correction on its features."""
        unknown = np.full(len(structures), np.nan)
        if isinstance(self.correction, EmbeddingCorrection) and self._with_features is not None:
            head = self.correction.head(structures, kappa=kappa, uncertainty=uncertainty)
            base = self._with_features.evaluate_with(structures, head, stress=stress)
            energies, uncertainties = head.results(len(structures))
            return PotentialBatch(
                base.energies + energies, list(base.forces), base.energies, uncertainties, base.stresses
            )
        if stress and isinstance(self.foundation, EmbeddingFoundation):
            base = self.foundation.evaluate_with(structures, stress=True)
        else:
            base = self.foundation.evaluate(structures)
        energies = np.array(base.energies, dtype=np.float64)
        return PotentialBatch(energies, list(base.forces), base.energies, unknown, base.stresses)
