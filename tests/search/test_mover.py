from collections import Counter

import numpy as np
import pytest

from godelta.search.generators import PlacementRule, random_positions
from godelta.search.mover import Generator, Mover
from godelta.search.moves import centre_of_geometry, permute, rattle
from godelta.search.weights import GeneratorWeights, MoveWeights


def test_moves_come_by_their_weights(surface):
    problem = surface("Cu3Ag2")
    rng = np.random.default_rng(0)
    start = random_positions(PlacementRule(problem), rng)
    mover = Mover(problem, MoveWeights(rattle=2, permutation=1, centre_of_geometry=1))
    names = Counter(mover.propose(start, 1.0, rng)[0] for _ in range(400))
    assert set(names) == {"rattle", "permutation", "centre_of_geometry"}
    made = 400 - sum(mover.impossible.values())
    assert names["rattle"] == pytest.approx(200, abs=60)
    assert made > 300


def test_the_default_weights_draw_as_the_old_key_did(surface):
    """A campaign of before goes on with the same random numbers."""
    problem = surface("Cu3Ag2")
    rule = PlacementRule(problem)
    one, two = (np.random.default_rng(1) for _ in range(2))
    positions = random_positions(rule, np.random.default_rng(2))
    mover = Mover(problem, MoveWeights())
    for _ in range(30):
        _, new = mover.propose(positions, 1.0, one)
        expected = permute(rule, positions, two) if two.random() < 0.2 else None
        expected = rattle(rule, positions, 1.0, two) if expected is None else expected
        np.testing.assert_array_equal(new, expected)
        positions = new
    assert one.random() == two.random()


def test_a_move_that_cannot_be_made_gives_way_and_is_counted(cluster):
    problem = cluster("Ag3")
    rng = np.random.default_rng(0)
    start = random_positions(PlacementRule(problem), rng)
    mover = Mover(problem, MoveWeights(rattle=0.01, permutation=1e6))
    assert {mover.propose(start, 1.0, rng)[0] for _ in range(5)} == {"rattle"}
    assert mover.impossible == {"permutation": 5}
    stuck = Mover(problem, MoveWeights(rattle=0, permutation=1))
    name, same = stuck.propose(start, 1.0, rng)
    assert name == "unchanged"
    np.testing.assert_array_equal(same, start)


def test_a_rattle_that_moves_nothing_is_impossible(cluster):
    problem = cluster("Ag2", edge=12.0)
    far = np.array([[5.0, 5.0, 5.0], [15.0, 15.0, 15.0]])
    mover = Mover(problem, MoveWeights(rattle=1, permutation=0))
    assert mover.propose(far, 0.5, np.random.default_rng(0))[0] == "unchanged"
    assert mover.impossible == {"rattle": 1}


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_outermost_atoms_come_nearer_to_the_centre(dimensions, surface):
    problem = surface("Ag3O4", dimensions=dimensions)
    rule = PlacementRule(problem)
    rng = np.random.default_rng(3)
    for _ in range(20):
        positions = random_positions(rule, rng)
        new = centre_of_geometry(rule, positions, rng)
        if new is None:
            continue
        changed = np.flatnonzero((new != positions).any(axis=1))
        assert len(changed) == 1  # a quarter of seven
        assert problem.placed[changed].all()
        for atom in changed:
            others = np.arange(len(new)) != atom
            assert rule.allows(new[atom][None], int(atom), new, others)[0]


def test_a_stray_atom_is_called_back(cluster):
    problem = cluster("Ag5", edge=12.0)
    rule = PlacementRule(problem)
    rng = np.random.default_rng(0)
    square = np.array([[0, 0, 0], [2.8, 0, 0], [0, 2.8, 0], [2.8, 2.8, 0], [0.0, 0, 6.0]]) + 8.0
    new = centre_of_geometry(rule, square, rng)
    np.testing.assert_array_equal(new[:4], square[:4])
    centre = square.mean(axis=0)
    assert np.linalg.norm(new[4] - centre) < np.linalg.norm(square[4] - centre)
    others = np.arange(5) != 4
    assert rule.allows(new[4][None], 4, new, others)[0]


def test_reuse_stays_near_a_minimum_of_the_pool(surface):
    problem = surface("Ag3O4")
    rng = np.random.default_rng(0)
    pool = [random_positions(PlacementRule(problem), rng) for _ in range(2)]
    generator = Generator(problem, GeneratorWeights(random=0, reuse=1), pool)
    seen = set()
    for _ in range(10):
        name, new = generator.make(rng)
        assert name == "reuse"
        image = generator.rule.image
        shifts = [np.linalg.norm(image.vectors(new - old), axis=1).max() for old in pool]
        assert 0 < min(shifts) <= 0.3 + 1e-9
        seen.add(int(np.argmin(shifts)))
    assert seen == {0, 1}
    empty = Generator(problem, GeneratorWeights(random=0, reuse=1))
    assert empty.make(rng)[0] == "random"
    assert empty.impossible == {"reuse": 1}
