"""What a prediction consists of, against sums and training without an evaluation."""

import numpy as np
import pytest

from godelta.delta.explain import atomic_corrections, influences
from godelta.delta.local_kernel import Environments
from godelta.delta.model import train
from godelta.delta.settings import DeltaSettings
from godelta.delta.sparse_gp import mean_energy


def seen(correction, atoms):
    features, context = correction.soap.describe(atoms)
    return Environments(features, context.kinds)


@pytest.fixture(
    params=[
        {},
        {"species_kernels": False, "species_mean": False},
        {"inducing_points": 42},
        {"forces_as": "copies", "force_directions": 1},
        {"forces_as": "copies", "force_directions": 1, "inducing_points": 12},
    ],
    ids=str,
)
def trained(request, cluster, toy_energy):
    structures = [cluster(seed) for seed in range(14)] + [cluster(seed, "Ag3S2") for seed in range(14, 20)]
    foundation = np.zeros(len(structures))
    reference = np.array([toy_energy(atoms) for atoms in structures])
    forces = [np.random.default_rng(k).normal(size=(len(a), 3)) for k, a in enumerate(structures)]
    reference[3] += 30.0  # outside the energy window
    ids = [f"s{k:02}" for k in range(len(structures))]
    settings = DeltaSettings(**request.param)
    return train(settings, [16, 47], structures, foundation, reference, ids, residual_forces=forces)


def test_energies_of_atoms_add_up(trained, cluster):
    for atoms in (cluster(50), cluster(51, "AgS5")):
        parts = atomic_corrections(trained, seen(trained, atoms))
        assert parts.shape == (len(atoms),)
        assert parts.sum() == pytest.approx(trained.predict(atoms).energy, abs=1e-9)


def test_an_influence_is_what_training_without_it_gives(trained, cluster, whitened):
    """The same linear system without the rows of the evaluation and of its forces."""
    atoms = cluster(60)
    found = influences(trained, seen(trained, atoms))
    assert [abs(one.shift) for one in found] == sorted((abs(one.shift) for one in found), reverse=True)
    training, posterior, kernel = trained.training, trained.posterior, trained.kernel
    assert {one.structure_id for one in found} == {i for i in training.ids if "~" not in i}
    _, _, G, t = whitened(trained)
    x = seen(trained, atoms)
    row = kernel.row(kernel.values(x))
    counts = np.bincount(x.kinds, minlength=2).astype(float)
    counts = counts if len(posterior.mean) > 1 else counts.sum(keepdims=True)
    g = kernel.whiten(np.concatenate([row, posterior.mean_scale * counts])[None, :])[0]

    def predicted(kept):
        B = G[kept] @ G[kept].T + posterior.noise * np.eye(kept.sum())
        return float(counts @ posterior.mean + g @ G[kept].T @ np.linalg.solve(B, t[kept]))

    beyond = {one.structure_id: one.residual for one in found}
    first = training.ids[0]
    size = training.counts[0] if len(posterior.mean) > 1 else training.counts[0].sum(keepdims=True)
    assert beyond[first] == pytest.approx(training.residuals[0] - size @ posterior.mean)
    copies = trained.settings.forces_as == "copies"
    everything = np.ones(len(t), dtype=bool)
    assert predicted(everything) == pytest.approx(trained.predict(atoms).energy, abs=1e-6)
    for one in found[:6] + found[-2:]:
        own = training.ids.index(one.structure_id)
        kept = training.owners != own
        assert (~kept).sum() == 1 + (1 if copies else 3 * training.counts[own].sum())
        assert one.shift == pytest.approx(predicted(everything) - predicted(kept), abs=1e-6)


def test_the_mean_of_the_composition_is_part_of_it(trained, cluster):
    atoms = cluster(70)
    counts = np.array([3.0, 4.0]) if len(trained.posterior.mean) > 1 else np.array([7.0])
    local = atomic_corrections(trained, seen(trained, atoms)).sum() - mean_energy(trained.posterior, counts)
    assert local == pytest.approx(trained.predict(atoms).energy - mean_energy(trained.posterior, counts))
