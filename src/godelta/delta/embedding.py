"""The Δ-model on the features of the foundation itself (arXiv 2502.21179): training and the trained model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NoReturn

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import ArrayLike

from godelta.arrays import FloatArray, IntArray
from godelta.delta.aggregation import pool, pull_back
from godelta.delta.displaced import STEP
from godelta.delta.embedding_head import Constants, EmbeddingHead
from godelta.delta.gradients import Datum, with_gradients
from godelta.delta.inducing import choose_inducing, median_distance
from godelta.delta.left_out import Diagnostics, LeftOut
from godelta.delta.local_fit import fit_atoms
from godelta.delta.local_kernel import Environments, LocalKernel
from godelta.delta.metrics import fit_hyperparameters, fit_metrics
from godelta.delta.prediction import Evaluated, evaluate
from godelta.delta.settings import DeltaSettings
from godelta.delta.sparse_gp import Posterior, SparseGP
from godelta.delta.training import TrainingSet, gather
from godelta.errors import GodeltaError, InputError
from godelta.foundation.base import EmbeddingFoundation, Foundation, FoundationIdentity

Embed = Callable[[Sequence[str], Sequence[Atoms]], list[FloatArray]]  # features of structures with ids
_LENGTH_FACTORS = (0.5, 0.7, 1.0)  # of the median distance; longer ones make everything look known
_PIECE_ATOMS = 200  # of displaced structures in one pass: more need a gigabyte, and are not faster
_SPREAD_FLOOR = 1e-2  # of the widest feature's spread


@dataclass(frozen=True)
class EmbeddingCorrection:
    """A trained Δ-model on the features of a foundation.

    Parameters
    ----------
    settings, species
        What it was trained with; species are sorted atomic numbers.
    foundation
        `origin` of the foundation whose features it knows.
    training
        The data.
    kernel, posterior, diagnostics
        The Gaussian process. Exact for `global` and `species` as long as there are no more structures than
        inducing points: each of them is one.
    feature_scale
        (D,) what a structure's vector is divided by; ones for `atomic`.
    size_scale
        sqrt(n̄), n̄ the mean number of atoms of a training structure; see `aggregation`.
    rows
        (N, M) kernel of the training data with the inducing points; None in models of before it was kept.
    selected_environments
        Number of atoms in the training set when the inducing points of `atomic` were chosen.
    left_out
        What leaving out each evaluation tells; None for a model of before it was kept.
    """

    settings: DeltaSettings
    species: tuple[int, ...]
    foundation: str
    training: TrainingSet
    kernel: LocalKernel
    posterior: Posterior
    diagnostics: Diagnostics
    feature_scale: FloatArray
    size_scale: float
    rows: FloatArray | None = None
    selected_environments: int = 0
    left_out: LeftOut | None = None

    @cached_property
    def _constants(self) -> dict[str, Constants]:
        return {}

    @cached_property
    def kind_of(self) -> IntArray:
        """(119,) index of a species by atomic number; -1 for one that the model does not know."""
        return _kind_of(self.species)

    def constants(self, device: str) -> Constants:
        """Its arrays on a device, made once."""
        if device not in self._constants:
            self._constants[device] = Constants.of(self, device)
        return self._constants[device]

    @property
    def hyperparameters(self) -> dict[str, float | int]:
        """What the fit chose: plain numbers; amplitude in eV per atom, noise relative to its square."""
        return fit_hyperparameters(self.kernel, self.posterior)

    @property
    def metrics(self) -> dict[str, float | int | None]:
        """Errors of the fit: leave-one-out, within the energy window; None where too few data allow none."""
        return fit_metrics(self.diagnostics)

    def head(
        self, structures: Sequence[Atoms], *, kappa: float = 0.0, uncertainty: bool = False
    ) -> EmbeddingHead:
        """What a foundation adds to its energies when it evaluates the structures.

        Raises
        ------
        InputError
            A structure holds a species that the model does not know.
        """
        for atoms in structures:
            if (self.kind_of[atoms.numbers] < 0).any():
                _refuse(atoms, self.species)
        return EmbeddingHead(self, kappa, uncertainty)

    def check(self, foundation: Foundation) -> EmbeddingFoundation:
        """The foundation, if this model was trained on its features.

        Raises
        ------
        GodeltaError
            It has no features, or others.
        """
        embedding = with_features(foundation)
        if origin(foundation.identity) != self.foundation:
            raise GodeltaError(
                f"the Δ-model knows the features of {self.foundation}, the foundation is"
                f" {origin(foundation.identity)}",
                mend="use the foundation that it was trained with, or train it anew",
            )
        return embedding

    def environments(self, foundation: Foundation, atoms: Atoms) -> Environments:
        """Features and species of a structure's atoms."""
        kinds = species_indices(atoms, self.species)
        return Environments(features_of(self.check(foundation), [atoms])[0], kinds)

    def row(self, x: Environments) -> FloatArray:
        """k_M (M,): the kernel of a structure, given by its atoms, with the inducing points."""
        if self.settings.aggregation == "atomic":
            return self.kernel.row(self.kernel.values(x))
        return len(x.kinds) / self.size_scale * self.kernel.row(self.kernel.values(self._pooled(x)))

    def evaluate(self, x: Environments, *, kappa: float = 0.0, uncertainty: bool = False) -> Evaluated:
        """E_Δ, sigma and the derivative (n, d) of E_Δ - kappa sigma by the features of a structure's atoms.

        Parameters
        ----------
        kappa
            Weight of sigma; other than 0, sigma is given.
        uncertainty
            Whether sigma is wanted when kappa is 0.
        """
        counts = np.bincount(x.kinds, minlength=len(self.species)).astype(np.float64)
        counts = counts if len(self.posterior.mean) > 1 else counts.sum(keepdims=True)
        atomic = self.settings.aggregation == "atomic"
        done = evaluate(
            self.kernel,
            self.posterior,
            x if atomic else self._pooled(x),
            counts,
            kappa=kappa,
            uncertainty=uncertainty,
            weight=1.0 if atomic else len(x.kinds) / self.size_scale,
        )
        if atomic:
            return done
        by_vector = done.gradient[0] / self.feature_scale
        return replace(done, gradient=pull_back(by_vector, x.kinds, len(self.species), self.settings))

    def _pooled(self, x: Environments) -> Environments:
        vector = pool(x.features, x.kinds, len(self.species), self.settings) / self.feature_scale
        return _single(vector)

    def energies(self, foundation: Foundation, structures: Sequence[Atoms]) -> FloatArray:
        """E_Δ (B,) in eV of structures."""
        head = self.head(structures)
        self.check(foundation).evaluate_with(structures, head)
        return head.results(len(structures))[0]

    def to_bytes(self) -> bytes:
        """Everything as npz bytes."""
        from godelta.delta.embedding_storage import embedding_to_bytes

        return embedding_to_bytes(self)


def slopes_of(foundation: EmbeddingFoundation, atoms: Atoms, directions: Sequence[FloatArray]) -> FloatArray:
    """Derivatives (D, n, d) of a foundation's features along directions (n, 3), per Å.

    Central differences, many in one batch: of CHGNet's, in float32, they are within 0.3 % of those from two
    backward passes for each direction, and take half the time.
    """
    result = np.empty((len(directions), len(atoms), foundation.feature_size))
    at_once = max(_PIECE_ATOMS // (2 * len(atoms)), 1)
    for begin in range(0, len(directions), at_once):
        piece = directions[begin : begin + at_once]
        steps = [STEP / float(np.linalg.norm(u, axis=1).max()) for u in piece]
        moved = []
        for u, step in zip(piece, steps, strict=True):
            for sign in (1, -1):
                moved.append(atoms.copy())
                moved[-1].positions += sign * step * u
        found = np.array(foundation.features(moved))
        widths = 2.0 * np.array(steps)[:, None, None]
        result[begin : begin + at_once] = (found[0::2] - found[1::2]) / widths
    return result


Differentiate = Callable[[EmbeddingFoundation, Atoms, Sequence[FloatArray]], FloatArray]  # as `slopes_of`


def train_embedding(  # noqa: PLR0913 - the data, and two ways to save work
    settings: DeltaSettings,
    species: Sequence[int],
    structures: Sequence[Atoms],
    foundation_energies: ArrayLike,
    reference_energies: ArrayLike,
    ids: Sequence[str],
    *,
    foundation: Foundation,
    residual_forces: Sequence[FloatArray] | None = None,
    previous: EmbeddingCorrection | None = None,
    embed: Embed | None = None,
    differentiate: Differentiate = slopes_of,
) -> EmbeddingCorrection:
    """Train a Δ-model on features of the foundation; the data are those of `model.train`.

    `atomic` keeps inducing points and kernel rows of `previous` as `model.train` does. The vectors of whole
    structures count in units of their spread, which changes with every structure.

    Parameters
    ----------
    foundation
        Whose features are used.
    previous
        A model to continue from; its energies are not used.
    embed
        Gives the features of structures with these ids, e.g. stored ones; by default the foundation does.
        Displaced copies have ids of their own.
    differentiate
        Gives derivatives of the features, e.g. remembered ones.

    Raises
    ------
    GodeltaError
        If the data cannot be used, or the foundation has no features.
    """
    source = with_features(foundation)
    known = tuple(sorted({int(z) for z in species}))
    descriptor = OnFeatures(source, known, differentiate)
    as_copies = bool(settings.force_directions) and settings.forces_as == "copies"
    training, ordered, kinds = gather(
        ids,
        structures,
        np.asarray(foundation_energies, dtype=np.float64),
        np.asarray(reference_energies, dtype=np.float64),
        residual_forces if as_copies else None,
        settings.force_directions,
        [descriptor.kinds(atoms) for atoms in structures],
        len(known),
    )

    def describe(names: Sequence[str], chosen: Sequence[Atoms]) -> list[FloatArray]:
        features = embed(names, chosen) if embed is not None else features_of(source, chosen)
        _check_features(names, features, source.feature_size)
        return features

    feature_scale, size_scale, selected = np.ones(source.feature_size), 1.0, training.environments
    if settings.aggregation == "atomic":
        data = [Datum(name, atoms) for name, atoms in zip(training.ids, ordered, strict=True)]
        if residual_forces is not None and settings.force_directions and not as_copies:
            by_id = dict(zip(ids, residual_forces, strict=True))
            training, data = with_gradients(training, ordered, by_id, settings)
        before = previous if previous is not None and previous.foundation == origin(source.identity) else None
        gp, selected = fit_atoms(settings, known, descriptor, describe, training, data, before)
    else:
        features = zip(describe(training.ids, ordered), kinds, strict=True)
        pooled = np.array([pool(vectors, kind, len(known), settings) for vectors, kind in features])
        gp, feature_scale, size_scale = _fit_scaled(settings, pooled, training)
    return EmbeddingCorrection(
        settings,
        known,
        origin(foundation.identity),
        training,
        gp.kernel_,
        gp.posterior_,
        gp.diagnostics_,
        feature_scale,
        size_scale,
        gp.rows_,
        selected,
        gp.left_out_,
    )


@dataclass(frozen=True)
class OnFeatures:
    """A foundation's features as what atoms are compared by."""

    foundation: EmbeddingFoundation
    species: tuple[int, ...]
    differentiate: Differentiate = slopes_of

    def kinds(self, atoms: Atoms) -> IntArray:
        """(n,) index of each atom's species."""
        return species_indices(atoms, self.species)

    def features(self, atoms: Atoms) -> FloatArray:
        """(n, d) features of the atoms."""
        return features_of(self.foundation, [atoms])[0]

    def slopes(self, atoms: Atoms, directions: Sequence[FloatArray]) -> FloatArray:
        """Derivatives (D, n, d) of the features along directions (n, 3), per Å."""
        return self.differentiate(self.foundation, atoms, directions)


def _fit_scaled(
    settings: DeltaSettings, pooled: FloatArray, training: TrainingSet
) -> tuple[SparseGP, FloatArray, float]:
    """The GP on whole structures (N, D), with the units of their features (D,) and of their sizes.

    The units are those of what was evaluated, without its displaced copies.
    """
    feature_scale = _spreads(pooled[training.evaluated])
    sizes = training.counts.sum(axis=1).astype(np.float64)
    size_scale = float(np.sqrt(sizes[training.evaluated].mean()))
    return (
        _fit_structures(settings, pooled / feature_scale, sizes / size_scale, training),
        feature_scale,
        size_scale,
    )


def _fit_structures(
    settings: DeltaSettings, features: FloatArray, weights: FloatArray, training: TrainingSet
) -> SparseGP:
    """The GP on one vector (D,) per structure: exact, as every structure is an inducing point.

    Parameters
    ----------
    features, weights
        (N, D) vectors, and what each counts (N,).
    """
    rng = np.random.default_rng(settings.seed)
    inducing = tuple(choose_inducing([features], settings.inducing_points, settings.inducing_selection, rng))
    median = median_distance([features[training.evaluated]], rng)
    if settings.hyperparameters == "fixed":
        lengths = [settings.length_scale or 2.0 * median]
    else:
        lengths = [median * factor for factor in _LENGTH_FACTORS]
    counts = training.counts.astype(np.float64)
    counts = counts if settings.species_mean else counts.sum(axis=1, keepdims=True)
    best: SparseGP | None = None
    for length in lengths:
        kernel = LocalKernel(inducing, length)
        rows = np.array([_row(kernel, *one) for one in zip(features, weights, strict=True)])
        gp = SparseGP(training.counts.shape[1], settings)
        gp.fit_rows(kernel, rows, counts, training.residuals, training.excess, owners=training.owners)
        if best is None or gp.diagnostics_.log_evidence > best.diagnostics_.log_evidence:
            best = gp
    assert best is not None  # there is always a length
    return best


def _row(kernel: LocalKernel, vector: FloatArray, weight: float) -> FloatArray:
    """(M,) kernel of a structure that counts `weight` and is one vector (D,), with the inducing points."""
    return weight * kernel.row(kernel.values(_single(vector)))


def _single(vector: FloatArray) -> Environments:
    return Environments(vector[None, :], np.zeros(1, dtype=np.int64))


def _spreads(features: FloatArray) -> FloatArray:
    """Standard deviations of features (N, D) over structures, with a floor: round-off is no feature."""
    deviations = features.std(axis=0)
    widest = float(deviations.max())
    if widest == 0.0:
        return np.ones(features.shape[1])
    return np.asarray(np.maximum(deviations, _SPREAD_FLOOR * widest), dtype=np.float64)


def features_of(foundation: EmbeddingFoundation, structures: Sequence[Atoms]) -> list[FloatArray]:
    """Features (n, d) of each structure, by itself: in a batch, its last bits would depend on the others."""
    return [foundation.features([atoms])[0] for atoms in structures]


def origin(identity: FoundationIdentity) -> str:
    """What features of a foundation depend on, apart from round-off: its name and its weights."""
    return f"{identity.name} {identity.weights_sha256 or ''}".strip()


def with_features(foundation: Foundation) -> EmbeddingFoundation:
    """The foundation, if it has features of atoms.

    Raises
    ------
    InputError
        It has none.
    """
    if isinstance(foundation, EmbeddingFoundation):
        return foundation
    raise InputError(
        "a Δ-model on an embedding needs a foundation that has features of atoms, and this one has none",
        where=type(foundation).__name__,
        mend="take another foundation, or `delta.descriptor: soap`",
    )


def species_indices(atoms: Atoms, species: Sequence[int]) -> IntArray:
    """(n,) index of each atom's species; raises InputError for one that is not among them."""
    kinds: IntArray = _kind_of(species)[atoms.numbers]
    if (kinds < 0).any():
        _refuse(atoms, species)
    return kinds


def _refuse(atoms: Atoms, species: Sequence[int]) -> NoReturn:
    foreign = next(z for z in atoms.numbers if z not in species)
    known = ", ".join(chemical_symbols[z] for z in species)
    raise InputError(
        f"the Δ-model covers {known}, but the structure contains {chemical_symbols[int(foreign)]}",
        mend="train it with every species that occurs",
    )


def _kind_of(species: Sequence[int]) -> IntArray:
    """(119,) index of a species by atomic number; -1 for others."""
    kind_of = np.full(len(chemical_symbols) + 1, -1, dtype=np.int64)
    kind_of[list(species)] = np.arange(len(species))
    return kind_of


def _check_features(ids: Sequence[str], features: Sequence[FloatArray], size: int) -> None:
    for name, array in zip(ids, features, strict=True):
        if array.ndim != 2 or array.shape[1] != size or not np.isfinite(array).all():
            raise GodeltaError(
                f"features of the shape {array.shape} cannot be learnt from: {size} finite ones per atom are"
                " needed",
                where=f"evaluation {name}",
                mend="leave the structure out",
            )
