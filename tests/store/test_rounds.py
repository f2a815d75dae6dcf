"""Rounds: compare-and-set, epochs, and walkers that are whole at every moment."""

import threading

import numpy as np
import pytest

from godelta.errors import GodeltaError
from godelta.store import rounds
from godelta.store.database import Store, Superseded
from godelta.store.documents import RoundKey

KEY = RoundKey("c", 0, 0)


def blob_count(store: Store) -> int:
    return store.db["blobs.files"].count_documents({})


def test_planning_twice_gives_the_first_plan(store: Store) -> None:
    first = rounds.plan_round(store, KEY, None, {"seed": 1})
    again = rounds.plan_round(store, KEY, "model", {"seed": 2})
    assert again == rounds.get_round(store, KEY)
    assert (again.model_id, again.seed, again.epoch, again.state) == (None, {"seed": 1}, 0, "planned")
    assert first.key == again.key == KEY


def test_planning_at_once_from_many_threads_gives_one_round(store: Store) -> None:
    threads = [threading.Thread(target=rounds.plan_round, args=(store, KEY, f"model{i}")) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.rounds.count_documents({}) == 1


def test_rounds_are_listed_in_order(store: Store) -> None:
    for chain, k in [(1, 1), (0, 1), (1, 0), (0, 0), (0, 10), (0, 2)]:
        rounds.plan_round(store, RoundKey("c", chain, k), None)
    rounds.plan_round(store, RoundKey("other", 0, 0), None)
    listed = [(item.chain, item.k) for item in rounds.rounds_of(store, "c")]
    assert listed == [(0, 0), (0, 1), (0, 2), (0, 10), (1, 0), (1, 1)]
    assert [item.k for item in rounds.rounds_of(store, "c", chain=1)] == [0, 1]
    last = rounds.last_round(store, "c", 0)
    assert last is not None
    assert last.k == 10
    assert rounds.last_round(store, "c", 7) is None
    assert rounds.find_round(store, RoundKey("c", 7, 0)) is None
    with pytest.raises(GodeltaError, match="c/7/0"):
        rounds.get_round(store, RoundKey("c", 7, 0))


def test_states_move_forward_with_their_fields(store: Store) -> None:
    rounds.plan_round(store, KEY, None)
    rounds.change_state(store, KEY, 0, ("planned", "searching"), "searching")
    selected = rounds.change_state(store, KEY, 0, "searching", "selected", selection=["b", "a"])
    assert selected.selection == ("b", "a")
    rounds.change_state(store, KEY, 0, "selected", "evaluating")
    closed = rounds.change_state(store, KEY, 0, "evaluating", "closed", next_model_id="m")
    assert (closed.state, closed.next_model_id, closed.selection) == ("closed", "m", ("b", "a"))
    assert closed.changed_at >= closed.planned_at
    with pytest.raises(ValueError, match="never goes back"):
        rounds.change_state(store, KEY, 0, "closed", "searching")
    with pytest.raises(ValueError, match="epoch"):
        rounds.change_state(store, KEY, 0, "closed", "closed", **{"epoch.x": 3})


def test_a_change_of_another_state_epoch_or_round_is_superseded(store: Store) -> None:
    rounds.plan_round(store, KEY, None)
    for key, epoch, expected in [
        (KEY, 0, "searching"),
        (KEY, 1, "planned"),
        (RoundKey("c", 0, 1), 0, "planned"),
    ]:
        with pytest.raises(Superseded):
            rounds.change_state(store, key, epoch, expected, "selected")
    assert rounds.get_round(store, KEY).state == "planned"


def test_only_one_of_many_wins_a_change(store: Store) -> None:
    rounds.plan_round(store, KEY, None)
    wins: list[int] = []

    def compete(number: int) -> None:
        try:
            rounds.change_state(store, KEY, 0, "planned", "selected", selection=[str(number)])
        except Superseded:
            return
        wins.append(number)

    threads = [threading.Thread(target=compete, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1
    assert rounds.get_round(store, KEY).selection == (str(wins[0]),)


@pytest.mark.parametrize(
    ("state", "after"),
    [("planned", "planned"), ("searching", "planned"), ("selected", "selected"), ("evaluating", "selected")],
)
def test_a_new_epoch_keeps_walkers_and_selection_and_shuts_the_old_one_out(
    store: Store, state: rounds.RoundState, after: str
) -> None:
    rounds.plan_round(store, KEY, "m")
    rounds.change_state(store, KEY, 0, "planned", "searching")
    rounds.save_search_state(store, KEY, 0, b"walkers", {"iteration": 3})
    if state in ("selected", "evaluating"):
        rounds.change_state(store, KEY, 0, "searching", state, selection=["a"])
    elif state == "planned":
        store.rounds.update_one(KEY.query(), {"$set": {"state": "planned"}})
    assert rounds.bump_epoch(store, KEY, 0) == 1
    now = rounds.get_round(store, KEY)
    assert (now.epoch, now.state, now.model_id) == (1, after, "m")
    assert now.selection == (("a",) if after == "selected" else ())
    assert rounds.load_search_state(store, KEY) == b"walkers"
    for stale in (
        lambda: rounds.bump_epoch(store, KEY, 0),
        lambda: rounds.change_state(store, KEY, 0, rounds.ROUND_STATES, "closed"),
        lambda: rounds.save_search_state(store, KEY, 0, b"old", {}),
    ):
        with pytest.raises(Superseded):
            stale()
    assert rounds.load_search_state(store, KEY) == b"walkers"


def test_a_closed_round_is_never_planned_anew(store: Store) -> None:
    rounds.plan_round(store, KEY, None)
    rounds.change_state(store, KEY, 0, "planned", "closed")
    with pytest.raises(Superseded):
        rounds.bump_epoch(store, KEY, 0)


def test_saved_walkers_replace_the_old_ones_and_leave_no_orphans(store: Store) -> None:
    rounds.plan_round(store, KEY, None)
    assert rounds.load_search_state(store, KEY) is None
    with pytest.raises(Superseded):
        rounds.save_search_state(store, KEY, 0, b"too early", {})
    assert blob_count(store) == 0
    rounds.change_state(store, KEY, 0, "planned", "searching")
    large = np.random.default_rng(0).bytes(3_000_000)
    for iteration, blob in enumerate([b"", b"second", large]):
        rounds.save_search_state(store, KEY, 0, blob, {"iteration": iteration, "acceptance": [0.5, 0.25]})
        assert rounds.load_search_state(store, KEY) == blob
        assert blob_count(store) == 1
    assert rounds.get_round(store, KEY).progress == {"iteration": 2, "acceptance": [0.5, 0.25]}


def test_readers_always_find_whole_walkers_while_they_are_replaced(store: Store) -> None:
    rounds.plan_round(store, KEY, None)
    rounds.change_state(store, KEY, 0, "planned", "searching")
    rounds.save_search_state(store, KEY, 0, bytes([0]) * 300_000, {})
    done = threading.Event()
    failures: list[Exception] = []

    def write() -> None:
        for number in range(1, 40):
            rounds.save_search_state(store, KEY, 0, bytes([number]) * 300_000, {"iteration": number})
        done.set()

    def read() -> None:
        try:
            while not done.is_set():
                blob = rounds.load_search_state(store, KEY)
                assert blob is not None
                assert blob == blob[:1] * 300_000
        except Exception as error:  # noqa: BLE001 - handed to the main thread
            failures.append(error)

    threads = [threading.Thread(target=write), threading.Thread(target=read), threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert blob_count(store) == 1


def test_lost_walkers_are_an_error_and_not_a_fresh_start(store: Store) -> None:
    rounds.plan_round(store, KEY, None)
    rounds.change_state(store, KEY, 0, "planned", "searching")
    rounds.save_search_state(store, KEY, 0, b"walkers", {})
    store.db["blobs.files"].delete_many({})
    with pytest.raises(GodeltaError, match="missing"):
        rounds.load_search_state(store, KEY)


def test_timings_add_up_from_many_threads(store: Store) -> None:
    rounds.plan_round(store, KEY, None)
    threads = [
        threading.Thread(target=rounds.add_timings, args=(store, KEY), kwargs={"search_s": 0.5, "train_s": i})
        for i in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rounds.get_round(store, KEY).timings == {"search_s": 3.0, "train_s": 15.0}
