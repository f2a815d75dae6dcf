"""The Δ-model as a scikit-learn regressor of structures."""

from collections.abc import Sequence
from typing import Self

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from godelta.arrays import FloatArray
from godelta.delta.model import Correction, train
from godelta.delta.settings import DeltaSettings
from godelta.errors import InputError
from godelta.systems.formula import check_element


class DeltaRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Sparse Gaussian process on local SOAP (arXiv 2507.18485) for lists of ASE's Atoms.

    The same model as in a campaign, for use with scikit-learn's cross validation, grid search and metrics:

        cross_val_score(DeltaRegressor(), structures, residuals, cv=5, scoring="neg_mean_absolute_error")

    Parameters
    ----------
    species
        Chemical symbols or atomic numbers that may occur; by default those of the structures in `fit`.
        Give it for cross validation where some of the structures lack a species.
    settings
        Settings of the Δ-model, by default `DeltaSettings()`; `DeltaSettings(preset="paper")` has the
        papers' choices.

    Attributes
    ----------
    correction_ : Correction
        The trained model, set by `fit`: forces with `predict`, storage with `to_bytes`.
    """

    def __init__(
        self, species: Sequence[str | int] | None = None, settings: DeltaSettings | None = None
    ) -> None:
        self.species = species
        self.settings = settings

    def fit(
        self, X: Sequence[Atoms], y: ArrayLike, residual_forces: Sequence[FloatArray] | None = None
    ) -> Self:
        """Train on residual energies and, where they are given, residual forces.

        Parameters
        ----------
        X
            N structures.
        y
            (N,) reference minus foundation energy of each, eV.
        residual_forces
            N arrays (n, 3), reference minus foundation forces, eV/Å; learnt as `settings` says.

        Raises
        ------
        InputError
            If X is no list of Atoms, or has a species that is not among `species`.
        GodeltaError
            If there are no data, or they differ in number, or are not finite.
        """
        structures = _structures(X)
        symbols = self.species if self.species is not None else {z for a in structures for z in a.numbers}
        energies = np.asarray(y, dtype=np.float64)
        self.correction_: Correction = train(
            self.settings if self.settings is not None else DeltaSettings(),
            [_atomic_number(symbol) for symbol in symbols],
            structures,
            np.zeros_like(energies),
            energies,
            [f"{k:08d}" for k in range(len(structures))],
            residual_forces=residual_forces,
        )
        return self

    def predict(
        self, X: Sequence[Atoms], return_std: bool = False
    ) -> FloatArray | tuple[FloatArray, FloatArray]:
        """Residual energies (N,) in eV and, on request, their standard deviations (N,) in eV.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        InputError
            If X is no list of Atoms, or has a species that the model does not know.
        """
        check_is_fitted(self)
        structures = _structures(X)
        energies, deviations = np.empty(len(structures)), np.empty(len(structures))
        for k, atoms in enumerate(structures):
            no_forces = np.zeros(len(atoms), dtype=np.bool_)
            p = self.correction_.predict(atoms, uncertainty=return_std, moving=no_forces)
            energies[k], deviations[k] = p.energy, p.uncertainty
        return (energies, deviations) if return_std else energies

    def predict_forces(self, X: Sequence[Atoms]) -> list[FloatArray]:
        """Residual forces of the structures, arrays (n, 3) in eV/Å; raises what `predict` does."""
        check_is_fitted(self)
        return [self.correction_.predict(atoms).forces for atoms in _structures(X)]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.no_validation = True
        return tags


def _atomic_number(symbol: str | int) -> int:
    if not isinstance(symbol, str):
        return int(symbol)
    try:
        return check_element(symbol)
    except ValueError as error:
        raise InputError(str(error), where="species", mend="give chemical symbols") from None


def _structures(X: Sequence[Atoms]) -> list[Atoms]:
    structures = [] if isinstance(X, Atoms) else list(X)
    if isinstance(X, Atoms) or not all(isinstance(atoms, Atoms) for atoms in structures):
        raise InputError("X is no list of ASE's Atoms", mend="give a list of structures, e.g. [atoms]")
    return structures
