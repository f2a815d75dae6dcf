"""Confinements in which most random structures fit and some do not."""

from collections import Counter

import numpy as np
import pytest
from every_method import METHODS, Springs, rounds

from godelta.errors import GodeltaError
from godelta.search import make_method, mover
from godelta.search.generators import NO_ROOM, PlacementRule, random_positions
from godelta.search.mover import CHANCES, Generator
from godelta.search.settings import RelaxSettings, REXSettings
from godelta.search.weights import GeneratorWeights

# A method of one's own calls `make`, which does not do without a structure.
OURS = [name for name in METHODS if name != "own"]
RANDOM = [name for name, one in METHODS.items() if getattr(one, "generators", None) is None]


def counted(statistics):
    return sum((Counter(one.dropped) for one in statistics), Counter())[NO_ROOM]


@pytest.fixture
def fitting(monkeypatch):
    """Let only those calls find a random structure of whose number a function says so; counted from 1."""
    calls, found = Counter(), mover.some_random_positions

    def set_up(fits):
        def some(rule, rng):
            calls["all"] += 1
            positions = found(rule, rng)
            return positions if fits(calls["all"]) else None

        monkeypatch.setattr(mover, "some_random_positions", some)
        return calls

    return set_up


@pytest.mark.slow
def test_a_ladder_outlives_random_structures_that_do_not_fit(cluster):
    settings = REXSettings(walkers=3, iterations_per_round=150, relax=RelaxSettings(steps=2))
    method = make_method(settings, cluster("Cu13", edge=4.4))
    state = method.start(Springs(), np.random.default_rng(0))
    dropped, top = Counter(), []
    while not method.finished(state):
        result = method.step(state, Springs())
        assert method.load(result.state.to_bytes()).to_bytes() == result.state.to_bytes()
        state = result.state
        dropped.update(result.statistics.dropped)
        if NO_ROOM in result.statistics.dropped:
            top += [c for c in result.candidates if c.walker == 2]
    assert state.iteration == 150
    assert dropped[NO_ROOM] > 0
    assert all(c.parents for c in top)  # moved from where the rung was


@pytest.mark.parametrize("name", OURS)
def test_one_structure_is_enough_to_go_on(name, cluster, fitting):
    calls = fitting(lambda call: call == 1)
    candidates, statistics = rounds(make_method(METHODS[name], cluster("Cu3Ag")), Springs(), 6, 0)
    assert candidates
    assert counted(statistics) == calls["all"] - 1
    if name != "bh-paper":  # whose only walker has its structure by then
        assert calls["all"] > 1


@pytest.mark.parametrize("name", RANDOM)
def test_the_first_structure_may_want_several_attempts(name, cluster, fitting):
    calls = fitting(lambda call: call > CHANCES - 1)
    candidates, statistics = rounds(make_method(METHODS[name], cluster("Cu3Ag")), Springs(), 2, 0)
    assert candidates
    assert calls["all"] >= CHANCES
    if name in OURS:
        assert counted(statistics) == CHANCES - 1


@pytest.mark.parametrize("name", ["rss", "rss-paper"])
def test_a_batch_without_a_structure_is_followed_by_others(name, cluster, fitting):
    fitting(lambda call: call == 1 or call > 12)
    candidates, statistics = rounds(make_method(METHODS[name], cluster("Cu3Ag")), Springs(), 20, 0)
    assert counted(statistics) == 11
    assert statistics[-1].best_energy is not None
    assert any(one.best_energy is None and one.evaluations == 0 for one in statistics)
    assert candidates


def test_an_offer_is_one_attempt_and_a_demand_is_many(cluster):
    rng = np.random.default_rng(0)
    generator = Generator(cluster("Cu30", edge=2.0), GeneratorWeights())
    assert generator.offer(rng) is None
    assert generator.events == {NO_ROOM: 1}
    with pytest.raises(GodeltaError, match="no random structure fits into the confinement after 4000"):
        generator.offer(rng, needed=True)
    assert generator.events == {NO_ROOM: 1 + CHANCES}


def test_where_there_is_room_offers_draw_as_ever(cluster):
    problem = cluster("Cu3Ag")
    name, positions = Generator(problem, GeneratorWeights()).make(np.random.default_rng(3))
    offered = Generator(problem, GeneratorWeights()).offer(np.random.default_rng(3))
    assert name == offered[0] == "random"
    expected = random_positions(PlacementRule(problem), np.random.default_rng(3))
    np.testing.assert_array_equal(positions, expected)
    np.testing.assert_array_equal(offered[1], expected)
