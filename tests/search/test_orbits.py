import numpy as np
import pytest
from ase.data import covalent_radii

from godelta.search.generators import PlacementRule
from godelta.search.orbits import OrbitPlacer, fill, random_group, symmetric_positions
from godelta.systems.symmetry import point_group

SLABS = {
    "slab": lambda surface: surface("Ag3O3"),
    "flat": lambda surface: surface("Ag2O4", dimensions=2),
}


def _keeps_the_rule(problem, positions):
    atoms = problem.structure(positions[problem.n_template :])
    radii = covalent_radii[atoms.numbers]
    ratios = atoms.get_all_distances(mic=True) / (radii[:, None] + radii)
    np.fill_diagonal(ratios, np.inf)
    nearest = ratios[problem.placed].min(axis=1)
    assert nearest.min() > 0.75
    assert nearest.max() < 1.25
    assert problem.confinement.contains(positions[problem.placed]).all()
    np.testing.assert_array_equal(positions[~problem.placed], problem.template.positions)


def _filled(problem, count, seed=0):
    """Structures that a random group took all atoms of, each with its group."""
    rule = PlacementRule(problem)
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(1000):
        group = random_group(problem, rng)
        positions, present = fill(OrbitPlacer(rule, group), rng)
        if present.all():
            made.append((group, positions))
        if len(made) == count:
            return made
    raise AssertionError("too few symmetric structures")


def _obeys(problem, group, positions):
    """Every operation carries every placed atom onto one of its species."""
    numbers = problem.numbers
    placed = positions[problem.placed]
    images = group.images(placed)
    for z in set(numbers.tolist()):
        alike = placed[numbers == z]
        for k in range(len(group)):
            assert group.image.distances(images[numbers == z, k], alike).min(axis=1).max() < 0.05


@pytest.mark.parametrize("formula", ["Ag4S2", "Cu12Ag", "Ar13"])
def test_symmetric_clusters_have_the_symmetry(formula, cluster):
    analyzer = pytest.importorskip("pymatgen.symmetry.analyzer").PointGroupAnalyzer
    from pymatgen.core import Molecule

    problem = cluster(formula, edge=9.0)
    seen = set()
    for group, positions in _filled(problem, 12):
        _keeps_the_rule(problem, positions)
        _obeys(problem, group, positions)
        found = analyzer(Molecule(problem.numbers.tolist(), positions), tolerance=0.05, eigen_tolerance=1e-4)
        seen.add(str(found.sch_symbol))
        if "*" not in str(found.sch_symbol):  # linear ones have any number of operations
            assert len(found.get_symmetry_operations()) % len(group) == 0
    assert "C1" not in seen
    assert len(seen) > 3


@pytest.mark.parametrize("kind", list(SLABS))
def test_symmetric_structures_on_a_slab_have_part_of_its_symmetry(kind, surface):
    spglib = pytest.importorskip("spglib")
    problem = SLABS[kind](surface)
    for group, positions in _filled(problem, 8):
        _keeps_the_rule(problem, positions)
        _obeys(problem, group, positions)
        atoms = problem.structure(positions[problem.placed])
        found = spglib.get_symmetry(
            (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=0.05
        )
        keep = (found["rotations"][:, 2] == [0, 0, 1]).all(axis=1)
        assert keep.sum() % len(group) == 0
        assert keep.sum() >= len(group) > 1


def test_an_icosahedron_is_a_matter_of_its_group(cluster):
    """Twelve atoms on the fivefold axes and one in the centre: special positions of two kinds."""
    problem = cluster("Ar13", edge=12.0)
    group = point_group("I", np.eye(3), np.full(3, 10.0))
    placer = OrbitPlacer(PlacementRule(problem), group)
    for seed in range(200):
        positions, present = fill(placer, np.random.default_rng(seed))
        if present.all():
            break
    r = np.sort(np.linalg.norm(positions - 10.0, axis=1))
    assert r[0] == pytest.approx(0.0, abs=1e-9)
    np.testing.assert_allclose(r[1:], r[1], atol=1e-9)


@pytest.mark.parametrize("kind", ["cluster", "slab", "flat"])
def test_what_fits_no_orbit_is_placed_alone(kind, cluster, surface):
    problem = cluster("Ag5S2Cu", edge=9.0) if kind == "cluster" else SLABS[kind](surface)
    rng = np.random.default_rng(2)
    for _ in range(6):
        positions = symmetric_positions(PlacementRule(problem), rng)
        if positions is not None:
            _keeps_the_rule(problem, positions)


def test_axes_have_no_preferred_direction(cluster):
    from scipy.stats import kstest

    problem = cluster("Ag4S2")
    rng = np.random.default_rng(0)
    normals = []
    while len(normals) < 400:
        group = random_group(problem, rng)
        turns = [r for r in group.rotations[1:] if np.linalg.det(r) > 0]
        if len(turns) == 2:  # C3: one axis
            normals.append(np.array([turns[0][2, 1] - turns[0][1, 2], turns[0][0, 2] - turns[0][2, 0],
                                     turns[0][1, 0] - turns[0][0, 1]]))  # fmt: skip
    axes = np.array(normals) / np.linalg.norm(normals, axis=1, keepdims=True)
    for k in range(3):
        assert kstest(axes[:, k], "uniform", args=(-1, 2)).pvalue > 1e-3


def test_same_seed_same_structure(surface):
    rule = PlacementRule(surface("Ag3O3"))
    one, two = (symmetric_positions(rule, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_where_there_is_no_symmetry_there_is_no_structure(surface):
    problem = surface("Ag2O2")
    problem.template.positions += np.random.default_rng(0).uniform(-0.3, 0.3, size=(18, 3))
    assert symmetric_positions(PlacementRule(problem), np.random.default_rng(0)) is None
