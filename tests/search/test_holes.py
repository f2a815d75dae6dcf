"""Holes of a potential: geometries far below all others that nothing falls into, as it starts there."""

from dataclasses import replace

import numpy as np
import pytest
from ase.calculators.emt import EMT
from every_method import EVERY, FEW, METHODS, Springs, rounds

from godelta.search import make_method
from godelta.search.holes import drop_holes, held_floor
from godelta.search.relax import ABSURDLY_LOW, MAX_FALL, Relaxed
from godelta.search.settings import BHSettings, GOFEESettings, RelaxSettings, REXSettings, RSSSettings
from godelta.search.state import Evaluated, InformedMethod

REUSE = {"random": 1, "reuse": 1}
KEEPING = {
    "rex": REXSettings(walkers=4, iterations_per_round=10, swap_every=3, relax=FEW),
    "rex of two": REXSettings(walkers=2, iterations_per_round=20, relax=FEW),
    "rex-every": REXSettings(walkers=4, iterations_per_round=10, relax=FEW, **EVERY),
    "bh": BHSettings(walkers=3, iterations_per_round=4, relax=FEW),
    "bh of one": BHSettings(walkers=1, iterations_per_round=8, relax=FEW),
    "rss": RSSSettings(structures_per_round=12, batch=4, relax=FEW, generators=REUSE),
}
CALM = {**KEEPING, "gofee": GOFEESettings(candidates=5, random_until=2, relax=FEW)}


class Holes(Springs):
    """Springs, and 1e6 eV less for one geometry in twenty: by the centre, which relaxations do not move."""

    def evaluate(self, structures, *, kappa=0.0, uncertainty=False):
        batch = super().evaluate(structures, kappa=kappa, uncertainty=uncertainty)
        centres = np.array([atoms.positions.mean(axis=0)[0] for atoms in structures])
        return replace(batch, energies=batch.energies - 1e6 * (np.floor(centres * 1e3) % 20 == 0))


class HoleUnder(Springs):
    """Springs, and 1e6 eV less wherever the first atom is within 1e-6 Å of given ones."""

    def __init__(self, *positions):
        self.places = [p[0] for p in positions]

    def evaluate(self, structures, *, kappa=0.0, uncertainty=False):
        batch = super().evaluate(structures, kappa=kappa, uncertainty=uncertainty)
        for k, atoms in enumerate(structures):
            if any(np.abs(atoms.positions[0] - place).max() < 1e-6 for place in self.places):
                batch.energies[k] -= 1e6
        return batch


def kept(state):
    """Energies in eV of all that a search keeps."""
    groups = [getattr(state, name, ()) for name in ("walkers", "here", "trials", "held")]
    return [w.energy for group in groups for w in group if w is not None] + list(
        getattr(state, "energies", ())
    )


def relaxed(*energies, dropped=None):
    return [Relaxed(None, e, e, 0.0, 0, 1, True, dropped) for e in energies]


@pytest.mark.parametrize("name", KEEPING)
@pytest.mark.parametrize("seed", [0, 1])
def test_nothing_is_kept_in_a_hole(name, seed, cluster):
    method, potential = make_method(KEEPING[name], cluster("Cu3Ag")), Holes()
    state, told, dropped = None, [], 0
    for k in range(12):
        rng = np.random.default_rng([seed, k])
        state = method.start(potential, rng) if state is None else method.next_round(state, potential, rng)
        if isinstance(method, InformedMethod):
            state = method.inform(state, told, potential)
        while not method.finished(state):
            result = method.step(state, potential)
            state = result.state
            assert min(kept(state), default=0.0) > -1e4
            assert all(c.energy > -1e4 for c in result.candidates)
            dropped += result.statistics.dropped.get(ABSURDLY_LOW, 0)
            told += [
                Evaluated((c.id,), c.atoms.positions, c.energy, c.atoms.positions * 0)
                for c in result.candidates[::3]
            ]
    assert dropped > 0


@pytest.mark.parametrize("name", ["gofee", "gofee-every", "rss-every", "own"])
def test_nothing_in_a_hole_is_proposed(name, cluster):
    settings = METHODS[name]
    if name.startswith("rss"):
        settings = settings.model_copy(update={"structures_per_round": 12, "batch": 4})
    candidates, statistics = rounds(make_method(settings, cluster("Cu3Ag")), Holes(), 12, 0)
    assert candidates
    assert all(c.energy > -1e4 for c in candidates)
    assert sum(one.dropped.get(ABSURDLY_LOW, 0) for one in statistics) > 0


def _round(method, potential, state=None, told=()):
    rng = np.random.default_rng(0 if state is None else state.iteration)
    state = method.start(potential, rng) if state is None else method.next_round(state, potential, rng)
    return method.inform(state, told, potential) if isinstance(method, InformedMethod) else state


def test_a_walker_under_which_a_new_model_has_a_hole_is_emptied_and_counted(cluster):
    settings = REXSettings(walkers=4, iterations_per_round=3, swap_every=9, permutations=0.0, relax=FEW)
    method = make_method(settings, cluster("Cu3Ag"))
    state = _round(method, Springs())
    while not method.finished(state):
        state = method.step(state, Springs()).state
    lost = state.walkers[1]
    potential = HoleUnder(lost.positions)
    state = _round(method, potential, state)
    assert state.walkers[1].energy < -1e5
    result = method.step(state, potential)
    assert result.statistics.dropped == {ABSURDLY_LOW: 1}
    assert lost.id not in {c.id for c in result.candidates}
    assert result.state.walkers[1].iteration == 4
    assert min(kept(result.state)) > -1e4


def test_a_hopper_goes_on_elsewhere_and_keeps_what_the_reference_said(cluster):
    method = make_method(BHSettings(walkers=3, iterations_per_round=1, relax=FEW), cluster("Cu3Ag"))
    state = method.step(_round(method, Springs()), Springs()).state
    told = [Evaluated((w.id,), w.positions, w.energy, w.positions * 0) for w in state.trials]
    potential = HoleUnder(state.trials[0].positions)
    state = _round(method, potential, state, told)
    result = method.step(state, potential)
    assert result.statistics.dropped == {ABSURDLY_LOW: 1}
    assert result.state.here[0].iteration == 2
    assert result.state.held[0].id == told[0].names[0]
    assert result.state.references[0] == told[0].energy


def test_low_minima_of_a_pool_leave_it_when_a_hole_opens(cluster):
    settings = RSSSettings(
        structures_per_round=6, batch=6, relax=FEW, generators={"random": 1, "reuse": 1e-6}
    )
    method = make_method(settings, cluster("Cu3Ag"))
    state = method.step(_round(method, Springs()), Springs()).state
    lost = state.pool[0]
    potential = HoleUnder(lost)
    result = method.step(_round(method, potential, state), potential)
    assert result.statistics.dropped == {ABSURDLY_LOW: 1}
    assert result.state.energies[0] > -1e4
    assert not any(np.array_equal(lost, one) for one in result.state.pool)


@pytest.mark.parametrize("walkers", [2, 3, 4])
def test_a_hole_that_came_in_alone_is_left_when_others_are_known(walkers, cluster):
    """The first batch had nothing to compare with."""
    settings = REXSettings(walkers=walkers, iterations_per_round=9, swap_every=1, relax=FEW)
    method = make_method(settings, cluster("Cu3Ag"))
    state = method.step(_round(method, Springs()), Springs()).state
    fallen = replace(state.walkers[0], energy=-1e6)
    state = replace(state, walkers=(fallen, *(None,) * (walkers - 1)))
    first = method.step(state, Springs())
    assert first.statistics.dropped == {}
    second = method.step(first.state, Springs())
    assert second.statistics.dropped == {ABSURDLY_LOW: 1}
    assert min(kept(second.state)) > -1e4


@pytest.mark.parametrize("name", ["rex", "bh"])
def test_a_model_that_goes_astray_upwards_empties_no_walker(name, cluster):
    class Astray(Springs):
        """A million eV more than the walkers have."""

        def evaluate(self, structures, *, kappa=0.0, uncertainty=False):
            batch = super().evaluate(structures, kappa=kappa, uncertainty=uncertainty)
            return replace(batch, energies=batch.energies + 1e6)

    method = make_method(KEEPING[name], cluster("Cu3Ag"))
    state = method.step(_round(method, Springs()), Springs()).state
    group = "walkers" if name == "rex" else "here"
    good = [w.id for w in getattr(state, group)][: 3 if name == "rex" else None]  # the top rung takes all
    for _ in range(3):
        result = method.step(state, Astray())
        state = result.state
        assert ABSURDLY_LOW not in result.statistics.dropped
        assert set(good) <= {w.id for w in getattr(state, group)}


def test_one_alone_is_not_judged_and_one_beside_a_walker_is(cluster):
    problem = cluster("Cu3Ag")
    deep = relaxed(-1e6)
    assert drop_holes(deep, [], problem) == deep
    assert [r.dropped for r in drop_holes(deep, [-3.0], problem)] == [ABSURDLY_LOW]
    assert drop_holes([], [-3.0], problem) == []
    assert drop_holes(relaxed(-1e6, 0.0, 1.0, dropped="other"), [], problem)[0].dropped == "other"


def test_the_depth_is_that_of_a_fall(cluster):
    problem = cluster("Cu3Ag")
    for below, verdict in [(4 * MAX_FALL - 1.0, None), (4 * MAX_FALL + 1.0, ABSURDLY_LOW)]:
        judged = drop_holes(relaxed(7.0 - below, 7.0, 7.0), [], problem)
        assert [r.dropped for r in judged] == [verdict, None, None]
    assert held_floor([0.0], [], problem) == -4 * MAX_FALL
    assert held_floor([], [], problem) == -np.inf


def test_what_is_kept_is_given_up_if_most_of_all_and_half_of_the_kept_speak_against_it(cluster):
    problem = cluster("Cu3Ag")
    good = [-10.0, -9.0, -8.0]
    assert held_floor(good, relaxed(1e6, 2e6, 3e6, 4e6), problem) < min(good)
    assert held_floor([-1e6, *good], relaxed(1.0, 2.0), problem) > -1e6
    assert held_floor([-1e6, -10.0], relaxed(1.0, 2.0), problem) > -1e6
    assert held_floor([-1e6, -10.0], [], problem) < -1e6
    assert held_floor([-1e6], relaxed(1.0, 2.0, 3.0), problem) < -1e6


@pytest.mark.parametrize("name", CALM)
@pytest.mark.parametrize("landscape", ["EMT", "Lennard-Jones", "unrelaxed", "far down"])
def test_ordinary_landscapes_have_no_holes(name, landscape, cluster, from_calculator, lennard_jones):
    settings = CALM[name]
    if landscape == "unrelaxed":
        settings = settings.model_copy(update={"relax": RelaxSettings(steps=0)})
    formula, potential = {
        "EMT": ("Cu4Ag", from_calculator(EMT())),
        "Lennard-Jones": ("Ar6", from_calculator(lennard_jones)),
        "unrelaxed": ("Ar6", from_calculator(lennard_jones)),
        "far down": ("Cu4Ag", from_calculator(EMT(), offset=-3e4)),
    }[landscape]
    candidates, statistics = rounds(make_method(settings, cluster(formula)), potential, 2, 0)
    assert candidates
    assert not any(ABSURDLY_LOW in one.dropped for one in statistics)
