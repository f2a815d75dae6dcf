"""The search job: it goes on where it was stopped, to the same bits."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from godelta.makers.search import run_search
from godelta.makers.session import Session, StopRequestedError
from godelta.store import rounds, structures
from godelta.store.documents import RoundKey


@dataclass
class StopAt:
    """Asks for a stop at the n-th look, and at every one after it."""

    n: int
    looks: int = 0

    def __call__(self) -> bool:
        self.looks += 1
        return self.looks >= self.n


def search_with_stops(session: Session, key: RoundKey, *after: int) -> int:
    """Stop the search at these calls of the potential, then let it run to the end; the number of stops."""
    stops = 0
    for n in after:
        try:
            run_search(replace(session, should_stop=StopAt(n)), key, 0)
        except StopRequestedError:
            stops += 1
    run_search(session, key, 0)
    return stops


def outcome(session: Session, key: RoundKey) -> tuple[object, ...]:
    """Everything that a search leaves behind, except ids that hold the campaign's random id."""
    found = sorted(structures.round_candidates(session.store, key), key=lambda item: item.candidate_id)
    values = [
        (c.candidate_id, c.move, c.walker, c.iteration, c.parents, c.accepted, c.foundation_energy,
         c.model_energy, c.uncertainty, c.positions)
        for c in found
    ]  # fmt: skip
    round_ = rounds.get_round(session.store, key)
    return values, rounds.load_search_state(session.store, key), round_.progress, round_.statistics


@pytest.mark.parametrize("rex", [False, True])
def test_a_stopped_search_ends_like_one_that_was_not(session, begin, rex):
    whole = begin("whole", rex=rex)
    answer = run_search(session, whole, 0)
    assert answer["status"] == "searched"
    expected = outcome(session, whole)
    assert len(expected[0]) >= 2
    counts = expected[3]["moves"]
    assert sum(one["relaxed"] for one in counts.values()) == len(expected[0])
    for number, stops in enumerate([(1,), (2,), (9,), (14,), (3, 1, 10, 1, 2)]):
        key = begin(f"stopped-{number}", rex=rex)
        assert search_with_stops(session, key, *stops) == len(stops)
        assert outcome(session, key) == expected


@pytest.mark.parametrize("rex", [False, True])
def test_a_stop_in_a_later_round_with_a_model(session, begin, run_round, rex):
    results = []
    for name, stops in (("whole", ()), ("stopped", (1, 2, 12))):
        first = begin(name, rex=rex)
        model_id = run_round(first)
        assert model_id is not None
        second = RoundKey(first.campaign_id, 0, 1)
        rounds.plan_round(session.store, second, model_id)
        assert search_with_stops(session, second, *stops) == len(stops)
        results.append(outcome(session, second))
        assert any(c[8] is not None for c in results[-1][0])  # the model gave uncertainties
    assert results[0] == results[1]


def test_another_seed_chain_and_round_are_other_structures(session, begin):
    keys = [begin("a"), begin("b", seed=4), RoundKey(begin("c", budget={"chains": 2}).campaign_id, 1, 0)]
    for key in keys:
        run_search(session, key, 0)
    later = RoundKey(keys[0].campaign_id, 0, 1)
    rounds.plan_round(session.store, later, None)
    run_search(session, later, 0)
    positions = [outcome(session, key)[0][0][-1] for key in (*keys, later)]
    for i, first in enumerate(positions):
        for second in positions[:i]:
            assert not np.allclose(first, second)


def test_a_round_that_was_searched_is_left_alone(session, begin, monkeypatch):
    key = begin()
    run_search(session, key, 0)
    rounds.change_state(session.store, key, 0, "searching", "selected", selection=[])
    monkeypatch.setattr(Session, "potential", None)
    assert run_search(session, key, 0) == {"status": "done before"}


def test_an_old_epoch_stops_quietly_and_writes_nothing(session, begin):
    key = begin()
    rounds.bump_epoch(session.store, key, 0)
    assert run_search(session, key, 0) == {"status": "superseded"}
    assert rounds.get_round(session.store, key).state == "planned"
    assert rounds.load_search_state(session.store, key) is None
    assert structures.round_candidates(session.store, key) == []


def test_a_new_epoch_in_the_middle_of_a_search(session, begin):
    key = begin()

    def replan() -> bool:
        if rounds.get_round(session.store, key).epoch == 0:
            rounds.bump_epoch(session.store, key, 0)
        return False

    assert run_search(replace(session, should_stop=replan), key, 0) == {"status": "superseded"}
    assert rounds.load_search_state(session.store, key) is None
    assert run_search(session, key, 1)["status"] == "searched"


def test_time_is_added_up(session, begin):
    key = begin()
    run_search(session, key, 0)
    timings = rounds.get_round(session.store, key).timings
    assert 0 < timings["potential_s"] <= timings["search_s"]


def test_stops_are_asked_for_only_between_calls(session, begin):
    calls: Callable[[], bool] = StopAt(10**9)
    run_search(replace(session, should_stop=calls), begin(), 0)
    assert calls.looks > 4
