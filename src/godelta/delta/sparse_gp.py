"""Sparse (DTC) Gaussian process on residual energies, as a scikit-learn style estimator.

Equations: Quiñonero-Candela & Rasmussen, JMLR 6, 1939 (2005), for energies that are sums over atoms:

    k_M(x)_m = sum_i k(p_i, z_m),  K_MM = L L^T,  d_A² = n_A,  t = (y - C mu)/d
    G = diag(1/d) K_NM L^-T,  B = G G^T + lambda I = L_B L_B^T,  W = L_B^-1 G L^-1,  alpha = W^T L_B^-1 t
    mean = C mu + k_M . alpha,   variance = s² [sum_ij k(p_i, p_j) - |W k_M|²]

The prior mean's uncertainty is part of the kernel: the numbers of atoms are further columns of K_NM, with
prior variance (s_mu/s)². mu is only a robust guess of where that prior is centred. That guess follows a
constant per atom of a species exactly, whatever s_mu.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self, TypeGuard

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.validation import check_is_fitted, validate_data

from godelta.arrays import BoolArray, FloatArray, IntArray
from godelta.delta import leave_one_out, regression
from godelta.delta.inducing import choose_inducing, median_distance
from godelta.delta.left_out import LeftOut, diagnose, uncertainty_scale
from godelta.delta.local_kernel import BlockValues, Environments, LocalKernel
from godelta.delta.settings import DeltaSettings

_NOISES = np.geomspace(regression.NOISE_FLOOR, 1.0, 26)
# With thousands of derivatives the evidence would rather fit each of them, with amplitudes of many eV per
# atom, than leave anything to the noise: what is then predicted elsewhere is worse (docs/design.md).
_NOISES_WITH_DERIVATIVES = np.geomspace(1e-3, 1.0, 16)
_LENGTH_FACTORS = (1.0, 1.25, 1.5)  # of the median distance: longer ones make everything look known
_FLAT = 0.03  # eV per atom: smaller amplitudes in the data say nothing about a length scale
_MEAN_SCALE = 1.0  # eV per atom: least prior deviation of the mean
_MEAN_RATIO_MAX = 1e4  # (s_mu/s)²: beyond it round-off reaches the smallest noise
_SLOPE_NOISE = 3.0  # Å^-2, noise variance of a force over that of an energy per atom: 1 to 10 are as good
_WINDOW_NOISE = 0.02  # eV of extra noise deviation per eV outside the energy window


@dataclass(frozen=True)
class Posterior:
    """What a prediction needs besides the kernel.

    mean: mu (c,) in eV per atom, c = species or 1. mean_scale: s_mu/s. amplitude: s in eV per atom, with the
    scale correction of uncertainties in it, which is `scale`. weights: alpha (M + c,). projection: W
    (rank, M + c). unseen: (k, c) directions of composition in which the data do not differ from zero, times
    the further prior deviation of mu along them over s; None: none. discrepancy: variance over s², per atom,
    of what the kernel cannot express: the fitted noise, since reference energies have none. It counts in
    every prediction; zero where hyper-parameters are fixed.
    """

    mean: FloatArray
    mean_scale: float
    amplitude: float
    noise: float
    weights: FloatArray
    projection: FloatArray
    unseen: FloatArray | None = None
    scale: float = 1.0
    discrepancy: float = 0.0


class SparseGP(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Gaussian process regression of summed local energies: a scikit-learn regressor.

    X are `Environments`, one per structure; y energies in eV. A matrix (N, f) is taken for N structures of
    one environment each, so that it is an ordinary regressor as well. `estimator.DeltaRegressor` is the same
    for ASE's Atoms.

    Parameters
    ----------
    n_species
        Number of species that `Environments.kinds` counts.
    settings
        Δ-model settings, by default `DeltaSettings()`; the descriptor's part is not used here.

    Attributes
    ----------
    kernel_, rows_, posterior_, left_out_, diagnostics_
        Set by `fit`: kernel with inducing points, kernel rows (N, M), posterior, what leaving out tells.
    n_features_in_
        Set by `fit` on a matrix: its number of columns.
    """

    def __init__(self, n_species: int = 1, settings: DeltaSettings | None = None) -> None:
        self.n_species = n_species
        self.settings = settings

    def fit(
        self,
        X: Sequence[Environments] | FloatArray,
        y: FloatArray,
        excess: FloatArray | None = None,
        owners: IntArray | None = None,
    ) -> Self:
        """Choose inducing points and hyper-parameters, and fit.

        Parameters
        ----------
        X, y
            N structures, or rows (N, f), and their energies (N,) in eV.
        excess
            (N,) eV of each structure above the best one; those beyond the energy window count softly.
        owners
            (N,) index of the structure that each one is a displaced copy of, by default its own. Copies give
            no inducing points, and are left out together with their owner.

        Raises
        ------
        ValueError
            From scikit-learn, for a matrix or energies that are not finite, or differ in length.
        """
        X, y = self._checked_data(X, y)
        owners = np.arange(len(X)) if owners is None else owners
        own = [x for k, x in enumerate(X) if owners[k] == k]
        return self.fit_choosing(
            own, lambda kernels: [kernel.rows(X) for kernel in kernels], self.counts(X), y, excess, owners
        )

    def fit_choosing(
        self,
        own: Sequence[Environments],
        rows_of: Callable[[Sequence[LocalKernel]], list[FloatArray]],
        counts: FloatArray,
        y: FloatArray,
        excess: FloatArray | None = None,
        owners: IntArray | None = None,
    ) -> Self:
        """Choose inducing points from the environments of `own` structures, and a length scale, and fit.

        rows_of: gives the rows (N, M) of the data for each of some kernels, which may be derivatives: those
        have counts of zero, and y in eV/Å.
        """
        settings = self._settings
        rng = np.random.default_rng(settings.seed)
        groups = self._groups(own)
        inducing = tuple(choose_inducing(groups, settings.inducing_points, settings.inducing_selection, rng))
        median = median_distance(groups, rng)
        if settings.hyperparameters == "fixed":
            lengths = [settings.length_scale or 2.0 * median]
        else:
            lengths = [median * factor for factor in _LENGTH_FACTORS]
        kernels = [LocalKernel(inducing, length) for length in lengths]
        best: tuple[float, LocalKernel, FloatArray] | None = None
        for kernel, rows in zip(kernels, rows_of(kernels), strict=True):
            problem = self._problem(kernel, rows, counts, y, excess, owners)
            chosen = problem.hyperparameters(settings, problem.spectrum())
            if best is None or chosen.log_evidence > best[0]:
                best = (chosen.log_evidence, kernel, rows)
            if kernel is kernels[0] and chosen.data_amplitude < _FLAT:
                break
        assert best is not None  # there is always a length
        return self.fit_rows(best[1], best[2], counts, y, excess, owners)

    def fit_rows(
        self,
        kernel: LocalKernel,
        rows: FloatArray,
        counts: FloatArray,
        y: FloatArray,
        excess: FloatArray | None = None,
        owners: IntArray | None = None,
    ) -> Self:
        """Fit with given inducing points, length scale and kernel rows (N, M); only s and lambda change."""
        problem = self._problem(kernel, rows, counts, y, excess, owners)
        spectrum = problem.spectrum()
        chosen = problem.hyperparameters(self._settings, spectrum)
        solution, left_out = problem.solve(chosen, spectrum)
        # Hyper-parameters that somebody has fixed stay as they are, and mean what they mean to him.
        fixed = self._settings.hyperparameters == "fixed"
        scale = 1.0 if fixed else uncertainty_scale(left_out)
        extended = np.vstack([solution.weights[None, :], solution.projection])
        extended = kernel.unwhiten(extended)
        self.kernel_, self.rows_ = kernel, rows
        self.left_out_ = replace(
            left_out,
            deviations=scale * left_out.deviations,
            influence=kernel.unwhiten(left_out.influence),
        )
        self.diagnostics_ = diagnose(self.left_out_, problem.sizes, chosen.log_evidence)
        self.posterior_ = Posterior(
            mean=problem.mean,
            mean_scale=problem.mean_scale,
            amplitude=scale * chosen.amplitude,
            noise=chosen.noise,
            weights=extended[0].copy(),
            projection=extended[1:].copy(),
            unseen=problem.unseen,
            scale=scale,
            discrepancy=0.0 if fixed else chosen.noise,
        )
        return self

    def predict(
        self, X: Sequence[Environments] | FloatArray, return_std: bool = False
    ) -> FloatArray | tuple[FloatArray, FloatArray]:
        """Energies (N,) in eV and, on request, their standard deviations (N,) in eV.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        check_is_fitted(self)
        X = self._checked(X)
        results = [energy_and_deviation(self.kernel_, self.posterior_, x, self.counts([x])[0]) for x in X]
        energies, deviations = (np.array(column) for column in zip(*results, strict=True))
        return (energies, deviations) if return_std else energies

    def counts(self, X: Sequence[Environments]) -> FloatArray:
        """(N, c) numbers of atoms that the prior mean multiplies: by species, or all of them."""
        by_species = np.array([np.bincount(x.kinds, minlength=self.n_species) for x in X], dtype=np.float64)
        return by_species if self._settings.species_mean else by_species.sum(axis=1, keepdims=True)

    def _checked_data(
        self, X: Sequence[Environments] | FloatArray, y: FloatArray
    ) -> tuple[Sequence[Environments], FloatArray]:
        if _are_environments(X):
            energies = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
            check_consistent_length(X, energies)
            return X, energies
        rows, energies = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        return _one_environment_each(rows), np.asarray(energies, dtype=np.float64)

    def _checked(self, X: Sequence[Environments] | FloatArray) -> Sequence[Environments]:
        if _are_environments(X):
            return X
        return _one_environment_each(validate_data(self, X, reset=False, dtype=np.float64))

    @property
    def _settings(self) -> DeltaSettings:
        return self.settings if self.settings is not None else DeltaSettings()

    def _groups(self, X: Sequence[Environments]) -> list[FloatArray]:
        features = np.concatenate([x.features for x in X])
        if not self._settings.species_kernels:
            return [features]
        kinds = np.concatenate([x.kinds for x in X])
        return [features[kinds == k] for k in range(self.n_species)]

    def _problem(
        self,
        kernel: LocalKernel,
        rows: FloatArray,
        counts: FloatArray,
        y: FloatArray,
        excess: FloatArray | None,
        owners: IntArray | None,
    ) -> "_Problem":
        settings = self._settings
        owners = np.arange(len(y)) if owners is None else owners
        excess = np.zeros(len(y)) if excess is None else excess
        slopes = np.asarray(~counts.any(axis=1), dtype=np.bool_)
        residual, outside = np.array(y, dtype=np.float64), np.zeros(len(y))
        residual[~slopes], outside[~slopes], mean = _apply_window(
            counts[~slopes], y[~slopes], excess[~slopes], settings.energy_window
        )
        outside[slopes] = outside[owners[slopes]]
        atoms = np.where(slopes, _SLOPE_NOISE, counts.sum(axis=1))
        reference = settings.amplitude or regression.PRIOR_AMPLITUDE
        mean_scale = max(_MEAN_SCALE / reference, 1.0)
        unseen = _unseen_compositions(counts[~slopes], mean, reference, mean_scale)
        features = kernel.whiten(np.hstack([rows, mean_scale * counts]))
        return _Problem(features, residual, atoms, outside, mean, mean_scale, owners, unseen, slopes)


def _are_environments(X: object) -> TypeGuard[Sequence[Environments]]:
    return isinstance(X, list | tuple) and bool(X) and isinstance(X[0], Environments)


def _one_environment_each(rows: FloatArray) -> list[Environments]:
    kind = np.zeros(1, dtype=np.int64)
    return [Environments(row[None, :], kind) for row in rows]


@dataclass(frozen=True, slots=True)
class _Problem:
    """The regression in whitened coordinates, before the structures' weights are known.

    features: (N, M + c). residual, outside: (N,) eV. Structures outside the energy window have an extra
    noise, and no say in the hyper-parameters. atoms: (N,) numbers of atoms; `_SLOPE_NOISE` for derivatives,
    which `slopes` (N,) flags.
    """

    features: FloatArray
    residual: FloatArray
    atoms: FloatArray
    outside: FloatArray
    mean: FloatArray
    mean_scale: float
    owners: IntArray
    unseen: FloatArray
    slopes: BoolArray

    def spectrum(self) -> regression.Spectrum:
        """Spectrum of the data inside the energy window."""
        inside = self.outside == 0
        return regression.spectrum(self.features[inside] / np.sqrt(self.atoms[inside])[:, None])

    def hyperparameters(
        self, settings: DeltaSettings, spectrum: regression.Spectrum
    ) -> regression.Hyperparameters:
        fixed = settings.hyperparameters == "fixed"
        noises = _NOISES_WITH_DERIVATIVES if self.slopes.any() else _NOISES
        if fixed:
            noises = np.array([max(settings.noise, regression.NOISE_FLOOR)])
        inside = self.outside == 0
        d = np.sqrt(self.atoms[inside])
        amplitude = settings.amplitude if fixed else None
        t = self.residual[inside] / d
        # Derivatives say much about the slopes nearby, and little about how far the process can be off: by
        # the evidence of the first few evaluations alone it would run away from the foundation.
        slopes = int(np.count_nonzero(self.slopes[inside]))
        each = slopes / max(len(t) - slopes, 1)
        strength = regression.PRIOR_STRENGTH + regression.PRIOR_DERIVATIVES * each
        if settings.hyperparameters == "leave_one_out":
            owners = self.owners[inside]
            return leave_one_out.fit_hyperparameters(spectrum, t, noises, amplitude, owners, strength)
        return regression.fit_hyperparameters(spectrum, t, noises, amplitude, strength)

    def solve(
        self, chosen: regression.Hyperparameters, spectrum: regression.Spectrum
    ) -> tuple[regression.Solution, LeftOut]:
        """The solution, and what leaving evaluations out tells; influences in whitened coordinates."""
        d = self.deviations(chosen.amplitude, chosen.noise)
        known = None if self.outside.any() else spectrum
        solution = regression.solve(
            self.features / d[:, None], self.residual / d, chosen.noise, self.owners, known
        )
        own = self.owners == np.arange(len(d))
        left_out = LeftOut(
            errors=(solution.loo_residuals * d)[own],
            deviations=(chosen.amplitude * np.sqrt(solution.loo_variances) * d)[own],
            inside=np.asarray(self.outside == 0, dtype=np.bool_)[own],
            influence=solution.influence,
        )
        return solution, left_out

    @property
    def sizes(self) -> FloatArray:
        """Numbers of atoms of the evaluated structures, (n,)."""
        own = self.owners == np.arange(len(self.atoms))
        return np.asarray(self.atoms[own], dtype=np.float64)

    def deviations(self, amplitude: float, noise: float) -> FloatArray:
        """Noise deviations of the data over s sqrt(lambda), (N,)."""
        extra = (_WINDOW_NOISE * self.outside / amplitude) ** 2 / noise
        return np.asarray(np.sqrt(self.atoms + extra), dtype=np.float64)


def _apply_window(
    counts: FloatArray, y: FloatArray, excess: FloatArray, window: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Residuals from the prior mean (N,), how far structures are outside the window (N,), eV; mu (c,).

    A structure is outside when its energy is too far above the best: beyond the window, energies are
    compressed logarithmically, since a search only needs to know that they are high. It is outside too
    when y is that far above the usual y of its composition: the foundation has a hole there, which has to
    be filled, but says nothing about the errors elsewhere. Low y are never outside: they may be the
    minimum.
    """
    high = np.maximum(excess - window, 0.0)
    compositions, group = np.unique(counts, axis=0, return_inverse=True)
    group = group.reshape(-1)
    usual = np.empty(len(compositions))
    for k in range(len(compositions)):
        members = (group == k) & (high == 0)
        chosen = y[members] if members.any() else y[group == k]
        usual[k] = np.sort(chosen)[(len(chosen) - 1) // 2]  # lower median: outliers are high
    mean = np.asarray(np.linalg.lstsq(compositions, usual, rcond=1e-10)[0], dtype=np.float64)
    outside = np.maximum(high, np.maximum(y - usual[group] - window, 0.0))
    residual = y - counts @ mean
    shaved = high - window * np.log1p(high / window)
    return np.sign(residual) * np.maximum(np.abs(residual) - shaved, 0.0), outside, mean


def _unseen_compositions(
    counts: FloatArray, mean: FloatArray, reference: float, mean_scale: float
) -> FloatArray:
    """`Posterior.unseen`: along these directions mu is no guess at all, and as uncertain as it is large.

    Where the data do tell mu, its prior must not depend on how large it is: a constant per atom of a
    species, added to all energies, is then added to all predictions, exactly.
    """
    _, singular, axes = np.linalg.svd(np.unique(counts, axis=0))
    rank = int(np.count_nonzero(singular > 1e-10 * singular[0]))
    ratio = min((float(np.abs(mean).max()) / reference) ** 2, _MEAN_RATIO_MAX)
    return np.asarray(np.sqrt(max(ratio - mean_scale**2, 0.0)) * axes[rank:], dtype=np.float64)


def deviation(
    kernel: LocalKernel,
    posterior: Posterior,
    values: list[BlockValues],
    row: FloatArray,
    counts: FloatArray,
    weight: float = 1.0,
) -> tuple[float, FloatArray, list[FloatArray]]:
    """Standard deviation [eV], W^T W k_M (M,), and the matrices k(p_i, p_j) of one structure.

    row: its k_M (M,); counts: (c,) as in `SparseGP.counts`; weight: what its environments count.
    """
    scaled = posterior.mean_scale * counts
    prior, matrices = kernel.self_values(values)
    prior *= weight**2
    seen = posterior.projection @ np.concatenate([row, scaled])
    if posterior.unseen is not None:
        prior += float(np.sum((posterior.unseen @ counts) ** 2))
    prior += posterior.discrepancy * float(counts.sum())
    relative = max(prior + float(scaled @ scaled - seen @ seen), 1e-12)
    explained = seen @ posterior.projection
    return posterior.amplitude * float(np.sqrt(relative)), explained[: kernel.size], matrices


def energy_and_deviation(
    kernel: LocalKernel, posterior: Posterior, environments: Environments, counts: FloatArray
) -> tuple[float, float]:
    """Mean and standard deviation [eV] of one structure; counts (c,) as in `SparseGP.counts`."""
    values = kernel.values(environments)
    row = kernel.row(values)
    energy = mean_energy(posterior, counts) + float(row @ posterior.weights[: kernel.size])
    return energy, deviation(kernel, posterior, values, row, counts)[0]


def mean_energy(posterior: Posterior, counts: FloatArray) -> float:
    """Part of the energy [eV] that depends on the numbers of atoms only: prior mean and its correction."""
    extra = posterior.weights[len(posterior.weights) - len(counts) :]
    return float(counts @ (posterior.mean + posterior.mean_scale * extra))
