"""Fitting the Gaussian process of atoms: from nothing, or with the inducing points of the model before."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from ase import Atoms

from godelta.arrays import FloatArray
from godelta.delta.gradients import Datum, Descriptor, kernel_rows
from godelta.delta.local_kernel import Environments, LocalKernel
from godelta.delta.settings import DeltaSettings
from godelta.delta.sparse_gp import SparseGP
from godelta.delta.training import TrainingSet

Describe = Callable[[Sequence[str], Sequence[Atoms]], list[FloatArray]]  # features of structures with ids


class Continued(Protocol):
    """A trained model that the next training may continue from."""

    @property
    def settings(self) -> DeltaSettings:
        """What it was trained with."""
        ...

    @property
    def species(self) -> tuple[int, ...]:
        """Sorted atomic numbers."""
        ...

    @property
    def training(self) -> TrainingSet:
        """Its data."""
        ...

    @property
    def kernel(self) -> LocalKernel:
        """Its inducing points and length scale."""
        ...

    @property
    def rows(self) -> FloatArray | None:
        """(N, M) kernel of its data with the inducing points; None where they were not kept."""
        ...

    @property
    def selected_environments(self) -> int:
        """Number of atoms in the training set when its inducing points were chosen."""
        ...


def same_model(previous: Continued, settings: DeltaSettings, species: tuple[int, ...]) -> bool:
    """Whether it was trained with these settings for these species."""
    return previous.settings == settings and previous.species == species


def fit_atoms(
    settings: DeltaSettings,
    species: tuple[int, ...],
    descriptor: Descriptor,
    describe: Describe,
    training: TrainingSet,
    data: Sequence[Datum],
    previous: Continued | None,
) -> tuple[SparseGP, int]:
    """The fitted process, and the number of atoms that its inducing points were chosen from.

    Parameters
    ----------
    descriptor
        What atoms are compared by.
    describe
        Gives its features of structures with these ids, e.g. stored ones.
    training, data
        Energies and derivatives; structures and directions.
    previous
        A model whose inducing points and kernel rows are kept, if they still serve.
    """
    gp = SparseGP(len(species), settings)
    counts = training.counts.astype(np.float64)
    counts = counts if settings.species_mean else counts.sum(axis=1, keepdims=True)
    labels = counts, training.residuals, training.excess, training.owners
    if previous is not None and can_continue(previous, settings, species, training):
        rows, new = _kept_rows(previous, training)
        missing = [data[k] for k in new]
        plain = _described(missing, describe)
        rows[new] = kernel_rows([previous.kernel], descriptor, missing, plain)[0]
        return gp.fit_rows(previous.kernel, rows, *labels), previous.selected_environments
    plain = _described(data, describe)
    own = [
        Environments(plain[datum.id], descriptor.kinds(datum.atoms))
        for datum, evaluated in zip(data, training.evaluated, strict=True)
        if evaluated
    ]
    gp.fit_choosing(own, lambda kernels: kernel_rows(kernels, descriptor, data, plain), *labels)
    return gp, training.environments


def can_continue(
    previous: Continued, settings: DeltaSettings, species: tuple[int, ...], training: TrainingSet
) -> bool:
    """Whether its inducing points are still good: all data are there, and not twice as many atoms as then."""
    return (
        same_model(previous, settings, species)
        and previous.rows is not None
        and previous.selected_environments > settings.inducing_points
        and training.environments < 2 * previous.selected_environments
        and previous.training.evaluated_ids <= training.evaluated_ids
    )


def _kept_rows(previous: Continued, training: TrainingSet) -> tuple[FloatArray, list[int]]:
    """(N, M) kernel rows of the data, and the places of those that `previous` does not have."""
    assert previous.rows is not None
    place = {name: k for k, name in enumerate(previous.training.ids)}
    rows = np.full((len(training.ids), previous.kernel.size), np.nan)
    for k, name in enumerate(training.ids):
        if name in place:
            rows[k] = previous.rows[place[name]]
    return rows, [k for k in range(len(rows)) if np.isnan(rows[k]).any()]


def _described(data: Sequence[Datum], describe: Describe) -> dict[str, FloatArray]:
    """Features of the structures among the data, by id."""
    plain = [datum for datum in data if datum.direction is None]
    names = [datum.id for datum in plain]
    return dict(zip(names, describe(names, [datum.atoms for datum in plain]), strict=True))
