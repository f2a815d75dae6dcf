"""Search methods of one's own."""

import sys

import numpy as np
import pytest
from ase.calculators.emt import EMT

from godelta.errors import InputError
from godelta.search import make_method
from godelta.search.settings import OwnSearchSettings

SHIPPED = "godelta.examples.monotonic_hopping.MonotonicHopping"


@pytest.fixture
def own(cluster):
    def make(program=SHIPPED, **arguments):
        settings = OwnSearchSettings(program=program, arguments=arguments, relax={"steps": 5})
        return make_method(settings, cluster("Cu3Ag"))

    return make


def test_the_shipped_example_goes_down_and_resumes_bit_for_bit(own, from_calculator):
    method, potential = own(climbers=3, iterations=4, patience=3), from_calculator(EMT())
    state = method.start(potential, np.random.default_rng(0))
    while not method.finished(state):
        result = method.step(state, potential)
        again = method.step(method.load(state.to_bytes()), potential)
        assert again.state.to_bytes() == result.state.to_bytes()
        accepted = [c for c in result.candidates if c.accepted]
        assert all(c.energy < state.energies[c.walker] for c in accepted)
        assert all(result.state.energies[c.walker] in (c.energy, np.inf) for c in accepted)
        state = result.state
    assert state.done_in_round == 4
    new = method.next_round(state, from_calculator(EMT(), offset=1.0), np.random.default_rng(1))
    np.testing.assert_allclose(new.energies, state.energies + 1.0)
    assert not method.finished(new)


def test_a_climber_without_success_begins_anew(own, from_calculator):
    method, potential = own(climbers=1, iterations=30, patience=2), from_calculator(EMT())
    state = method.start(potential, np.random.default_rng(0))
    begun = 0
    while not method.finished(state):
        result = method.step(state, potential)
        begun += result.statistics.moves.get("random", {}).get("proposed", 0)
        state = result.state
    assert begun > 1


@pytest.mark.parametrize(
    ("program", "arguments", "said"),
    [
        ("nothing", {}, "is no import path of a search method"),
        ("godelta.nothing.Search", {}, "cannot be imported"),
        ("godelta.search.rss.Nothing", {}, "godelta.search.rss has no Nothing"),
        ("godelta.search.rss.POOL", {}, "int object is no class"),
        (SHIPPED, {"climbres": 3}, "unexpected keyword argument 'climbres'"),
        ("own_search_of_a_test.Incomplete", {}, "lacks step, finished, next_round, walkers, load"),
    ],
)
def test_what_is_no_search_method(own, tmp_path, monkeypatch, program, arguments, said):
    (tmp_path / "own_search_of_a_test.py").write_text(
        "class Incomplete:\n"
        "    def __init__(self, settings, problem): pass\n"
        "    def start(self, potential, rng): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError) as caught:
        own(program, **arguments)
    assert said in str(caught.value)
    assert caught.value.where == program
    sys.modules.pop("own_search_of_a_test", None)
