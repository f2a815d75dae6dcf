import numpy as np
import pytest

from godelta.search.generators import PlacementRule, random_positions
from godelta.search.mover import Mover
from godelta.search.orbits import OrbitPlacer, fill, random_group
from godelta.search.symmetric_rattle import symmetric_rattle
from godelta.search.weights import MoveWeights
from godelta.systems.symmetry import point_group

PROBLEMS = {
    "cluster": lambda cluster, surface: cluster("Ag6S3", edge=9.0),
    "slab": lambda cluster, surface: surface("Ag3O3"),
    "flat": lambda cluster, surface: surface("Ag2O4", dimensions=2),
}


def _symmetric(problem, rng):
    while True:
        group = random_group(problem, rng)
        positions, present = fill(OrbitPlacer(PlacementRule(problem), group), rng)
        if present.all():
            return positions


def _held(problem, positions, rotation, shift, image):
    """Whether an operation carries the placed atoms onto their like, to within 1e-6 Å."""
    placed = positions[problem.placed]
    there = placed @ rotation.T + shift
    for z in set(problem.numbers.tolist()):
        alike = problem.numbers == z
        if image.distances(there[alike], placed[alike]).min(axis=1).max() > 1e-6:
            return False
    return True


@pytest.mark.parametrize("kind", list(PROBLEMS))
def test_a_symmetry_stays_and_becomes_exact(kind, cluster, surface, monkeypatch):
    problem = PROBLEMS[kind](cluster, surface)
    rule = PlacementRule(problem)
    rng = np.random.default_rng(0)
    drawn = []
    init = OrbitPlacer.__init__

    def remember(self, rule, group):
        drawn.append(group)
        init(self, rule, group)

    moved = 0
    for _ in range(8):
        start = _symmetric(problem, rng)
        rough = start.copy()
        noise = 0.01 * rng.normal(size=(len(problem.numbers), 3))
        rough[problem.placed] += noise * (1.0, 1.0, kind != "flat")
        monkeypatch.setattr(OrbitPlacer, "__init__", remember)
        new = symmetric_rattle(rule, rough, 0.5, rng)
        monkeypatch.setattr(OrbitPlacer, "__init__", init)
        if new is None:
            continue
        moved += 1
        group = drawn[-1]
        assert len(group) > 1
        assert all(
            _held(problem, new, r, t, group.image) for r, t in zip(group.rotations, group.shifts, strict=True)
        )
        assert not _held(problem, rough, group.rotations[1], group.shifts[1], group.image)
        np.testing.assert_array_equal(new[~problem.placed], problem.template.positions)
        shifts = np.linalg.norm(rule.image.vectors(new - rough), axis=1)
        assert shifts.max() < 0.5 + 0.1
        assert problem.confinement.contains(new[problem.placed]).all()
        radii = rule.radii[:, None] + rule.radii
        ratios = (rule.image.distances(new, new) / radii + 9 * np.eye(len(new)))[problem.placed]
        assert ratios.min() > 0.75
    assert moved >= 6


def test_a_structure_without_symmetry_is_left_to_other_moves(cluster, surface):
    rng = np.random.default_rng(0)
    for problem in (cluster("Ag4S2"), surface("Ag3O4")):
        positions = random_positions(PlacementRule(problem), rng)
        mover = Mover(problem, MoveWeights(rattle=1e-9, permutation=0, symmetric_rattle=1))
        assert mover.propose(positions, 0.5, rng)[0] == "rattle"
        assert mover.impossible == {"symmetric_rattle": 1}


def test_the_symmetries_of_an_icosahedron_are_found(cluster):
    problem = cluster("Ar13", edge=12.0)
    rule = PlacementRule(problem)
    group = point_group("Ih", np.eye(3), np.full(3, 10.0))
    placer = OrbitPlacer(rule, group)
    rng = np.random.default_rng(0)
    while True:
        positions, present = fill(placer, rng)
        if present.all():
            break
    sizes = set()
    for _ in range(60):
        new = symmetric_rattle(rule, positions, 0.4, rng)
        if new is None:
            continue
        _, counts = np.unique(np.linalg.norm(new - new.mean(axis=0), axis=1).round(6), return_counts=True)
        sizes |= set(counts.tolist())
    assert {2, 3, 5} <= sizes  # orbits of turns by 180, 120 and 72 degrees


def test_same_seed_same_structure(surface):
    problem = surface("Ag3O3")
    start = _symmetric(problem, np.random.default_rng(0))
    one, two = (
        symmetric_rattle(PlacementRule(problem), start, 0.5, np.random.default_rng(1)) for _ in range(2)
    )
    np.testing.assert_array_equal(one, two)
