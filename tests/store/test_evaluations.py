"""Evaluations: one worker at a time, paid for once, and only the last lease may commit."""

import subprocess
import sys
import threading
import time
from datetime import timedelta

import numpy as np
import pytest

from godelta.errors import GodeltaError
from godelta.store import evaluations, rounds
from godelta.store.database import Store, Superseded, connect
from godelta.store.documents import RoundKey
from godelta.store.evaluations import Busy, Claim, Stored, claim, commit_failed, commit_ok
from godelta.store.structures import add_candidates

H, R = "h" * 64, "r" * 64
FORCES = np.array([[0.1, 0.0, -1.0 / 3.0], [-0.1, 0.0, 1.0 / 3.0]])


def claimed(store: Store, owner: str = "me", seconds: float = 60.0) -> Claim:
    answer = claim(store, H, R, owner, seconds)
    assert isinstance(answer, Claim)
    return answer


def test_a_result_is_computed_once_and_kept_exactly(store: Store) -> None:
    mine = claimed(store)
    busy = claim(store, H, R, "another", 60)
    assert isinstance(busy, Busy)
    assert (busy.owner, busy.until) == ("me", mine.until)
    commit_ok(store, mine, -1.0 / 3.0, FORCES, {"wall_s": 2.5})
    stored = claim(store, H, R, "another", 60)
    assert isinstance(stored, Stored)
    result = stored.evaluation
    assert (stored.status, result.energy, result.energy_per_atom) == ("ok", -1.0 / 3.0, -1.0 / 6.0)
    assert np.array_equal(np.array(result.forces), FORCES)
    assert result == evaluations.get_evaluation(store, H, R)
    [attempt] = result.attempts
    assert (attempt.outcome, attempt.owner, attempt.cost) == ("ok", "me", {"wall_s": 2.5})
    assert result.lease is None
    assert result.evaluated_at == attempt.ended_at


def test_the_same_structure_at_another_level_is_another_evaluation(store: Store) -> None:
    commit_ok(store, claimed(store), -1.0, FORCES)
    assert isinstance(claim(store, H, "q" * 64, "me", 60), Claim)
    with pytest.raises(GodeltaError, match="no evaluation"):
        evaluations.get_evaluation(store, "x" * 64, R)


def test_a_commit_may_be_repeated_but_not_changed(store: Store) -> None:
    mine = claimed(store)
    commit_ok(store, mine, -1.0, FORCES)
    commit_ok(store, mine, -1.0, FORCES)
    assert len(evaluations.get_evaluation(store, H, R).attempts) == 1
    with pytest.raises(Superseded):
        commit_failed(store, mine, "crashed", "changed my mind")


def test_nonsense_is_refused_and_the_claim_still_holds(store: Store) -> None:
    mine = claimed(store)
    for energy, forces in [
        (np.nan, FORCES),
        (-1.0, np.full((2, 3), np.inf)),
        (-1.0, FORCES[0]),
        (-1.0, FORCES[:0]),
    ]:
        with pytest.raises(ValueError, match="forces"):
            commit_ok(store, mine, energy, forces)
    commit_ok(store, mine, -1.0, FORCES)


def test_who_overslept_the_lease_cannot_commit_over_the_next_one(store: Store) -> None:
    slow = claimed(store, "slow", 0.05)
    time.sleep(0.1)
    quick = claimed(store, "quick")
    assert quick.token == slow.token + 1
    with pytest.raises(Superseded):
        commit_ok(store, slow, -99.0, FORCES)
    with pytest.raises(Superseded):
        evaluations.prolong(store, slow)
    evaluations.release(store, slow)
    assert isinstance(claim(store, H, R, "third", 60), Busy)
    commit_ok(store, quick, -1.0, FORCES)
    result = evaluations.get_evaluation(store, H, R)
    assert result.energy == -1.0
    assert [(item.owner, item.outcome) for item in result.attempts] == [("slow", "lost"), ("quick", "ok")]


def test_a_late_result_counts_while_nobody_else_has_begun(store: Store) -> None:
    slow = claimed(store, "slow", 0.05)
    time.sleep(0.1)
    commit_ok(store, slow, -1.0, FORCES)
    assert evaluations.get_evaluation(store, H, R).state == "ok"


def test_prolonging_keeps_others_out(store: Store) -> None:
    mine = claimed(store, seconds=0.4)
    for _ in range(3):
        time.sleep(0.2)
        longer = evaluations.prolong(store, mine)
        assert longer.until > mine.until
        assert isinstance(claim(store, H, R, "another", 60), Busy)
    assert longer.token == mine.token


def test_the_servers_clock_decides(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = store.now()
    mine = claimed(store, seconds=100.0)
    after = store.now()
    assert before <= mine.until - timedelta(seconds=100) <= after


@pytest.mark.parametrize("hours", [-48, 48])
def test_a_servers_clock_that_is_set_holds_nobody_up(store: Store, hours: int) -> None:
    """Set forward, a lease seems over; set back, it seems to last for days: either way one result counts."""
    first = evaluations.claim(store, "s", "r", "first", 60.0)
    shifted = first.until + timedelta(hours=hours)
    store.evaluations.update_one({}, {"$set": {"lease.until": shifted}})
    second = evaluations.claim(store, "s", "r", "second", 60.0)
    assert isinstance(second, Claim)
    assert second.token == first.token + 1
    assert isinstance(evaluations.claim(store, "s", "r", "third", 60.0), Busy)
    with pytest.raises(Superseded):
        evaluations.commit_ok(store, first, -1.0, np.zeros((2, 3)))
    evaluations.commit_ok(store, second, -2.0, np.zeros((2, 3)))
    assert evaluations.get_evaluation(store, "s", "r").energy == -2.0


def test_a_released_claim_is_free_at_once_and_no_attempt(store: Store) -> None:
    evaluations.release(store, claimed(store))
    commit_ok(store, claimed(store, "another"), -1.0, FORCES)
    assert [item.owner for item in evaluations.get_evaluation(store, H, R).attempts] == ["another"]


def test_a_failure_stays_until_it_is_reopened(store: Store) -> None:
    mine = claimed(store)
    commit_failed(
        store, mine, "not_converged", "$SCF did not converge", "x" * 30_000 + "end", {"wall_s": 1.0}
    )
    commit_failed(store, mine, "not_converged", "$SCF did not converge")
    stored = claim(store, H, R, "another", 60)
    assert isinstance(stored, Stored)
    failed = stored.evaluation
    assert (failed.state, failed.reason, failed.message) == (
        "failed",
        "not_converged",
        "$SCF did not converge",
    )
    log = failed.attempts[0].log_tail
    assert log is not None
    assert log.endswith("end")
    assert len(log) == evaluations.LOG_CHARACTERS
    assert evaluations.reopen_failed(store, [H, "other"], R) == 1
    commit_ok(store, claimed(store), -1.0, FORCES)
    result = evaluations.get_evaluation(store, H, R)
    assert (result.state, result.reason, result.message) == ("ok", None, None)
    assert [item.outcome for item in result.attempts] == ["failed", "ok"]
    assert evaluations.reopen_failed(store, [H], R) == 0


def test_what_kills_its_workers_is_given_up(store: Store) -> None:
    for number in range(3):
        assert isinstance(claim(store, H, R, f"worker {number}", 0.01, max_lost=3), Claim)
        time.sleep(0.03)
    stored = claim(store, H, R, "worker 3", 60, max_lost=3)
    assert isinstance(stored, Stored)
    assert (stored.evaluation.state, stored.evaluation.reason, stored.evaluation.token) == (
        "failed",
        "lost",
        3,
    )
    assert [item.outcome for item in stored.evaluation.attempts] == ["lost"] * 3
    evaluations.reopen_failed(store, [H], R)
    assert isinstance(claim(store, H, R, "worker 4", 60, max_lost=3), Claim)


def compute_all(uri: str, name: str, worker: int, count: int) -> None:
    """A worker's loop over the same evaluations as all others; notes each computation."""
    store = connect(uri, name)
    order = np.random.default_rng(worker).permutation(count)
    for number in order:
        answer = claim(store, f"hash{number}", R, f"worker {worker}", 30)
        if isinstance(answer, Claim):
            store.db["computed"].insert_one({"number": int(number), "worker": worker})
            time.sleep(0.002)
            commit_ok(store, answer, -float(number), FORCES)
    store.close()


@pytest.mark.slow
def test_four_processes_compute_a_hundred_evaluations_exactly_once(store: Store, mongod_uri: str) -> None:
    # As scripts: a package in site-packages may be called `tests` as well, and then no child finds this one.
    workers = [
        subprocess.Popen([sys.executable, __file__, mongod_uri, store.db.name, str(worker), "100"])
        for worker in range(4)
    ]
    exits = [worker.wait(120) for worker in workers]
    assert exits == [0, 0, 0, 0]
    computed = [raw["number"] for raw in store.db["computed"].find()]
    assert sorted(computed) == list(range(100))
    assert store.evaluations.count_documents({"state": "ok", "token": 1}) == 100
    assert len(store.db["computed"].distinct("worker")) > 1


def test_many_threads_at_one_evaluation_get_one_claim(store: Store) -> None:
    answers: list[object] = []
    threads = [
        threading.Thread(target=lambda i=i: answers.append(claim(store, H, R, f"t{i}", 60)))
        for i in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(answer, Claim) for answer in answers) == 1
    assert sum(isinstance(answer, Busy) for answer in answers) == 11


@pytest.fixture
def campaign(store: Store, make_structure):
    """Two chains: 0 selected structures 1, 2, 3 and 1 selected 3, 4; 5 was never selected."""
    documents = {}
    for chain, numbers, selected in [(0, [1, 2, 3, 5], [1, 2, 3]), (1, [3, 4], [3, 4])]:
        key = RoundKey("c", chain, 0)
        rounds.plan_round(store, key, None)
        for number in numbers:
            documents[number] = make_structure(key, number, uncertainty=0.1)
            add_candidates(store, [documents[number]])
        ids = [documents[number].structure_id for number in selected]
        rounds.change_state(store, key, 0, "planned", "selected", selection=ids)
    for number, energy in [(2, -7.0), (1, -5.0), (5, -9.0)]:
        document = documents[number]
        wanted = None if number == 5 else document
        answer = claim(store, document.structure_hash, R, "w", 60, wanted=wanted)
        assert isinstance(answer, Claim)
        commit_ok(store, answer, energy, np.zeros((3, 3)))
    answer = claim(store, documents[4].structure_hash, R, "w", 60, wanted=documents[4])
    assert isinstance(answer, Claim)
    commit_failed(store, answer, "crashed", "signal 11")
    return documents


def test_the_training_set_is_what_was_selected_and_succeeded(store: Store, campaign) -> None:
    pairs = evaluations.training_set(store, "c", R)
    wanted = sorted([campaign[1].structure_id, campaign[2].structure_id])
    assert [structure.structure_id for structure, _ in pairs] == wanted
    for structure, evaluation in pairs:
        assert evaluation.structure_hash == structure.structure_hash
        assert (
            evaluation.energy
            == {campaign[1].structure_id: -5.0, campaign[2].structure_id: -7.0}[structure.id]
        )
    assert evaluations.training_set(store, "c", R, chain=1) == []
    assert evaluations.training_set(store, "c", "q" * 64) == []
    assert evaluations.training_set(store, "another", R) == []


def test_counts_and_failures_of_a_campaign(store: Store, campaign) -> None:
    assert evaluations.counts(store, "c", R) == {"ok": 2, "failed": 1, "pending": 1}
    assert evaluations.counts(store, "another", R) == {"ok": 0, "failed": 0, "pending": 0}
    assert evaluations.failed_hashes(store, "c", R) == {campaign[4].structure_hash: "crashed"}


def test_history_is_in_the_order_of_the_evaluations(store: Store, campaign) -> None:
    rows = evaluations.history(store, "c", R)
    assert [row["structure_id"] for row in rows] == [campaign[i].structure_id for i in (2, 1, 4)]
    assert [(row["status"], row["energy"]) for row in rows] == [("ok", -7.0), ("ok", -5.0), ("failed", None)]
    assert rows[0].items() >= {"chain": 0, "round": 0, "foundation_energy": -2.0, "uncertainty": 0.1}.items()
    assert rows[2]["reason"] == "crashed"


def test_an_evaluation_knows_who_asked_for_it_each_once(store: Store, make_structure) -> None:
    mine, theirs = (make_structure(RoundKey(name, 0, 2), 1, uncertainty=0.1) for name in ("a", "b"))
    assert mine.structure_hash == theirs.structure_hash
    first = claim(store, mine.structure_hash, R, "w", 60, wanted=mine)
    assert isinstance(first, Claim)
    (known,) = store.evaluations.find()
    assert (known["formula"], known["elements"]) == ("Ag2S", ["Ag", "S"])
    assert [request["campaign_id"] for request in known["requests"]] == ["a"]
    assert known["requests"][0].items() >= {"round": 2, "uncertainty": 0.1, "model_energy": -1.5}.items()
    # Others ask for what is being computed, and for what is there.
    assert isinstance(claim(store, mine.structure_hash, R, "v", 60, wanted=theirs), Busy)
    commit_ok(store, first, -1.0, np.zeros((3, 3)))
    third = make_structure(RoundKey("c", 1, 0), 1)
    for _ in range(3):
        assert isinstance(claim(store, mine.structure_hash, R, "v", 60, wanted=third), Stored)
    document = evaluations.get_evaluation(store, mine.structure_hash, R)
    assert [request.campaign_id for request in document.requests] == ["a", "b", "c"]
    assert [request.chain for request in document.requests] == [0, 0, 1]


def test_many_ask_for_one_evaluation_at_once(store: Store, make_structure) -> None:
    wanted = [make_structure(RoundKey(f"c{number}", 0, 0), 1) for number in range(12)]
    threads = [
        threading.Thread(
            target=lambda d=document: claim(store, d.structure_hash, R, d.campaign_id, 60, wanted=d)
        )
        for document in wanted * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (raw,) = store.evaluations.find()
    assert sorted(request["campaign_id"] for request in raw["requests"]) == sorted(
        document.campaign_id for document in wanted
    )


def test_one_that_nobody_asked_for_learns_what_it_is(store: Store, make_structure) -> None:
    document = make_structure(RoundKey("a", 0, 0), 1)
    assert isinstance(claim(store, document.structure_hash, R, "w", 60), Claim)
    assert store.evaluations.find_one()["formula"] == ""
    claim(store, document.structure_hash, R, "w", 60, wanted=document)
    assert store.evaluations.find_one()["formula"] == "Ag2S"


if __name__ == "__main__":
    compute_all(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
