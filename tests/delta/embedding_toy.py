"""A foundation that has features and nothing else, and Δ-models on them."""

import numpy as np

from godelta.delta.embedding import EmbeddingCorrection, train_embedding
from godelta.delta.settings import DeltaSettings
from godelta.foundation.base import FoundationIdentity

SPECIES = (16, 47)
SIZE = 5


def embedding(**changes) -> DeltaSettings:
    return DeltaSettings.model_validate(
        {"descriptor": "embedding", "aggregation": "global", "force_directions": 0} | changes
    )


class Features:
    """A foundation that has features and nothing else: smooth functions of distances and species."""

    identity = FoundationIdentity(
        name="toy", version="1", weights_sha256="0" * 64, dtype="float64", device="cpu", energy_scale="toy"
    )
    feature_size = SIZE

    def features(self, structures):
        widths = np.linspace(1.5, 4.0, SIZE)
        found = []
        for atoms in structures:
            r = atoms.get_all_distances()[:, :, None]
            weight = atoms.numbers[None, :, None] / 47
            found.append(np.sum(weight * np.exp(-((r / widths) ** 2)), axis=1))
        return found

    def site_energies(self, structures):
        return None

    def evaluate(self, structures):
        raise NotImplementedError

    def evaluate_with(self, structures, head=None, *, stress=False):
        raise NotImplementedError


def latent(structures):
    import torch

    from godelta.foundation.torch_graph import Latent

    features = torch.tensor(np.concatenate(Features().features(structures)))
    numbers = torch.tensor(np.concatenate([a.numbers for a in structures]))
    owners = torch.repeat_interleave(torch.tensor([len(a) for a in structures]))
    return Latent(features, numbers, owners, len(structures))


def predict(correction, structures):
    """E_Δ and sigma in eV."""
    head = correction.head(structures, uncertainty=True)
    head(latent(structures))
    return head.results(len(structures))


def fit(settings, structures, energies, ids, species=SPECIES) -> EmbeddingCorrection:
    return train_embedding(
        settings, species, structures, np.zeros(len(ids)), energies, ids, foundation=Features()
    )


def truth(atoms):
    """An energy that the features can express."""
    return float(np.sum(Features().features([atoms])[0][:, 2]))


def true_forces(atoms, h=1e-4):
    gradient = np.zeros((len(atoms), 3))
    for index in np.ndindex(gradient.shape):
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[index] += sign * h
            gradient[index] -= sign * truth(moved) / (2 * h)
    return gradient


def fit_forces(structures, previous=None, foundation=None, **changes):
    names = [f"{k:03d}" for k in range(len(structures))]
    return train_embedding(
        embedding(**changes), SPECIES, structures, np.zeros(len(structures)), [truth(a) for a in structures],
        names, foundation=foundation or Features(), residual_forces=[true_forces(a) for a in structures],
        previous=previous,
    )  # fmt: skip
