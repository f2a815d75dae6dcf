import numpy as np
import pytest
from ase.data import covalent_radii
from scipy.stats import kstest

from godelta.errors import GodeltaError
from godelta.search.generators import PlacementRule, random_positions


def _ratios(problem, positions):
    """Minimum-image distances of ASE over sums of covalent radii, (N, N), infinite on the diagonal."""
    atoms = problem.structure(positions[problem.n_template :])
    radii = covalent_radii[atoms.numbers]
    ratios = atoms.get_all_distances(mic=True) / (radii[:, None] + radii)
    np.fill_diagonal(ratios, np.inf)
    return ratios


@pytest.mark.parametrize("kind", ["cluster", "slab", "flat"])
def test_every_placed_atom_touches_something_and_overlaps_nothing(kind, cluster, surface):
    problem = {
        "cluster": lambda: cluster("Ag8S4"),
        "slab": lambda: surface("Ag3O4"),
        "flat": lambda: surface("Ag2O2", dimensions=2),
    }[kind]()
    rule = PlacementRule(problem)
    rng = np.random.default_rng(0)
    for _ in range(25):
        positions = random_positions(rule, rng)
        nearest = _ratios(problem, positions)[problem.placed].min(axis=1)
        assert nearest.min() > 0.75
        assert nearest.max() < 1.25
        assert problem.confinement.contains(positions[problem.placed]).all()
        np.testing.assert_array_equal(positions[~problem.placed], problem.template.positions)
        if kind == "flat":
            np.testing.assert_allclose(positions[problem.placed, 2], problem.confinement.corner[2])


def test_directions_are_uniform_on_the_sphere(cluster):
    u = PlacementRule(cluster("Ag2")).directions(np.random.default_rng(0), 20000)
    np.testing.assert_allclose(np.linalg.norm(u, axis=1), 1.0)
    for axis in range(3):  # Archimedes: every coordinate of a uniform direction is uniform
        assert kstest(u[:, axis], "uniform", args=(-1, 2)).pvalue > 1e-3
    assert kstest(np.arctan2(u[:, 1], u[:, 0]), "uniform", args=(-np.pi, 2 * np.pi)).pvalue > 1e-3


def test_directions_of_a_flat_confinement_lie_in_its_plane(surface):
    u = PlacementRule(surface("O2", dimensions=2)).directions(np.random.default_rng(0), 5000)
    np.testing.assert_allclose(u[:, 2], 0.0, atol=1e-12)
    assert kstest(np.arctan2(u[:, 1], u[:, 0]), "uniform", args=(-np.pi, 2 * np.pi)).pvalue > 1e-3


def test_the_distance_of_a_pair_is_uniform_in_volume(cluster):
    problem = cluster("Ag2", edge=400.0)
    rule = PlacementRule(problem)  # so large that walls hardly matter
    rng = np.random.default_rng(1)
    pairs = np.array([random_positions(rule, rng) for _ in range(1500)])
    r = np.linalg.norm(pairs[:, 1] - pairs[:, 0], axis=1) / (2 * covalent_radii[47])
    low, high = 0.75**3, 1.25**3
    assert kstest(r**3, "uniform", args=(low, high - low)).pvalue > 1e-3
    # Atoms come in shuffled order: neither is preferred as the first one, which lies anywhere.
    z = (pairs - problem.confinement.corner)[..., 2]
    np.testing.assert_allclose(z.mean(axis=0), 200.0, atol=10.0)


def test_same_seed_same_structure(surface):
    rule = PlacementRule(surface("Ag3O4"))
    one, two = (random_positions(rule, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, random_positions(rule, np.random.default_rng(6)))


def test_no_room_is_an_error(cluster):
    with pytest.raises(GodeltaError, match="no random structure fits"):
        random_positions(PlacementRule(cluster("Ag20", edge=2.5)), np.random.default_rng(0))
