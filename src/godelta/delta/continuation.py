"""When a training may keep the inducing points of the model before, and the kernel rows it has."""

from typing import Protocol

import numpy as np

from godelta.arrays import FloatArray
from godelta.delta.settings import DeltaSettings
from godelta.delta.training import TrainingSet


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
    def selected_environments(self) -> int:
        """Number of atoms in the training set when its inducing points were chosen."""
        ...


def same_model(previous: Continued, settings: DeltaSettings, species: tuple[int, ...]) -> bool:
    """Whether it was trained with these settings for these species."""
    return previous.settings == settings and previous.species == species


def can_continue(
    previous: Continued, settings: DeltaSettings, species: tuple[int, ...], training: TrainingSet
) -> bool:
    """Whether its inducing points are still good: all data are there, and not twice as many atoms as then."""
    return (
        same_model(previous, settings, species)
        and previous.selected_environments > settings.inducing_points
        and training.environments < 2 * previous.selected_environments
        and previous.training.evaluated_ids <= training.evaluated_ids
    )


def kept_rows(previous: Continued, rows: FloatArray, training: TrainingSet) -> tuple[FloatArray, list[int]]:
    """(N, M) kernel rows of the data, and the places of those that have to be computed.

    Parameters
    ----------
    rows
        Those of `previous`, whose inducing points are kept.
    """
    place = {name: k for k, name in enumerate(previous.training.ids)}
    kept = np.full((len(training.ids), rows.shape[1]), np.nan)
    for k, name in enumerate(training.ids):
        if name in place:
            kept[k] = rows[place[name]]
    return kept, [k for k in range(len(kept)) if np.isnan(kept[k]).any()]
