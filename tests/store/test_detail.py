"""One campaign in detail: rounds, who computes what, what failed, who is there."""

from dataclasses import replace
from datetime import timedelta

import pytest

from godelta.store import evaluations, rounds, structures, workers
from godelta.store.detail import all_workers, detail
from godelta.store.documents import RoundKey
from godelta.store.retries import MAX_RETRIES
from godelta.store.workers import WorkerName

OWN = WorkerName.own()
DEAD = replace(OWN, pid=2**22 + 17, born=1.0)
FAR = WorkerName("node7", "0123456789ab", 12, 3.5)
LEVEL = "r" * 64


@pytest.fixture
def campaign(store, make_campaign):
    return make_campaign("a")


@pytest.fixture
def select(store, campaign, make_structure):
    def do(numbers, *, chain=0, k=0):
        key = RoundKey(campaign.campaign_id, chain, k)
        rounds.plan_round(store, key, None)
        rounds.change_state(store, key, 0, "planned", "searching")
        documents = [make_structure(key, number) for number in numbers]
        structures.add_candidates(store, documents)
        ids = [document.structure_id for document in documents]
        rounds.change_state(store, key, 0, "searching", "selected", selection=ids)
        return documents

    return do


def claim(store, document, owner=OWN, seconds=60):
    return evaluations.claim(store, document.structure_hash, LEVEL, str(owner), seconds, wanted=document)


def ok(store, document, energy):
    evaluations.commit_ok(store, claim(store, document), energy, document.atoms().positions * 0)


def fail(store, document, reason="not_converged"):
    evaluations.commit_failed(store, claim(store, document), reason, f"{reason}, it says")


def test_before_the_beginning(store, campaign):
    found = detail(store, campaign, [])
    assert (found.rounds, found.best, found.running, found.failed) == ([], None, [], [])


def test_rounds(store, campaign, select):
    first, second = select(range(3)), select([10, 11], chain=1)
    ok(store, first[0], -1.0)
    ok(store, first[1], -3.0)
    fail(store, first[2])
    claim(store, second[0])
    one, two = detail(store, campaign, []).rounds
    assert (one.chain, one.round, one.state, one.selected) == (0, 0, "selected", 3)
    assert (one.ok, one.failed, one.done, one.running, one.queued) == (2, 1, 3, 0, 0)
    assert one.best_energy == -3.0
    assert (two.chain, two.ok, two.running, two.queued, two.best_energy) == (1, 0, 1, 1, None)


def test_the_latest_round_of_each_chain_or_every_one(store, campaign, select):
    for chain, k in ((0, 0), (0, 1), (0, 10), (1, 2)):
        select([10 * chain + k], chain=chain, k=k)
    places = [(one.chain, one.round) for one in detail(store, campaign, []).rounds]
    assert places == [(0, 10), (1, 2)]
    places = [(one.chain, one.round) for one in detail(store, campaign, [], every_round=True).rounds]
    assert places == [(0, 0), (0, 1), (0, 10), (1, 2)]


def test_the_best_and_where_it_was_found(store, campaign, select):
    documents = select(range(2), chain=1, k=3)
    ok(store, documents[0], -1.0)
    ok(store, documents[1], -6.0)
    best = detail(store, campaign, []).best
    assert (best.structure_id, best.energy) == (documents[1].structure_id, -6.0)
    assert (best.energy_per_atom, best.chain, best.round) == (-2.0, 1, 3)


def test_who_computes_what_since_when(store, campaign, select):
    documents = select(range(4))
    workers.sign_on(store, OWN)
    workers.sign_on(store, FAR, batch_job="4711")
    for document, owner in zip(documents, (OWN, FAR, DEAD, "by hand"), strict=True):
        claim(store, document, owner)
    running = {one.structure_id: one for one in detail(store, campaign, all_workers(store)).running}
    here, far, dead, strange = (running[document.structure_id] for document in documents)
    assert (here.host, here.pid, here.batch_job, here.alive) == (OWN.host, OWN.pid, None, True)
    assert (far.host, far.pid, far.batch_job, far.alive) == ("node7", 12, "4711", True)
    assert (dead.pid, dead.alive) == (DEAD.pid, False)
    assert (strange.worker, strange.host, strange.pid) == ("by hand", "by hand", None)
    assert abs((here.since - store.now()).total_seconds()) < 10


def test_a_lease_that_has_run_out_is_nobodys(store, campaign, select):
    (document,) = select([1])
    claim(store, document, seconds=0)
    found = detail(store, campaign, [])
    assert (found.running, found.rounds[0].running, found.rounds[0].queued) == ([], 0, 1)


def test_failures_and_quarantine(store, campaign, select):
    bad, deadly, stubborn = select(range(3))
    fail(store, bad)
    for _ in range(evaluations.MAX_LOST):
        claim(store, deadly, seconds=0)
    claim(store, deadly)
    fail(store, stubborn)
    for _ in range(MAX_RETRIES):
        evaluations.reopen_failed(store, [stubborn.structure_hash], LEVEL)
        fail(store, stubborn)
    failed = {one.structure_id: one for one in detail(store, campaign, []).failed}
    assert len(failed) == 3
    one = failed[bad.structure_id]
    assert (one.reason, one.message) == ("not_converged", "not_converged, it says")
    assert (one.endings, one.in_quarantine, one.for_good) == (1, False, False)
    one = failed[deadly.structure_id]
    assert (one.reason, one.in_quarantine, one.for_good) == ("lost", True, False)
    one = failed[stubborn.structure_id]
    assert (one.endings, one.in_quarantine, one.for_good) == (MAX_RETRIES + 1, True, True)


def test_evaluations_at_another_level_are_not_the_campaigns(store, campaign, select):
    (document,) = select([1])
    answer = evaluations.claim(store, document.structure_hash, "s" * 64, "me", 60, wanted=document)
    evaluations.commit_ok(store, answer, -9.0, document.atoms().positions * 0)
    found = detail(store, campaign, [])
    assert (found.best, found.rounds[0].ok, found.rounds[0].queued) == (None, 0, 1)


def test_workers(store):
    workers.sign_on(store, OWN, campaign_id="c")
    workers.sign_on(store, FAR, takes=["search-ase", "light"], batch_job="4711")
    silent = replace(FAR, pid=13)
    workers.sign_on(store, silent)
    store.workers.update_one({"name": silent.process}, {"$set": {"seen": store.now() - timedelta(minutes=5)}})
    workers.give_sign(store, DEAD)
    found = {worker.name: worker for worker in all_workers(store)}
    own, far = found[OWN.process], found[FAR.process]
    assert (own.alive, own.takes, own.campaign_id, own.pid) == (True, [], "c", OWN.pid)
    assert own.serves("c", "evaluate-emt")
    assert not own.serves("d", "evaluate-emt")
    assert (far.host, far.batch_job, far.since is None) == ("node7", "4711", False)
    assert far.serves("d", "light")
    assert not far.serves("d", "evaluate-emt")
    assert not found[silent.process].alive
    dead = found[DEAD.process]
    assert (dead.alive, dead.since, dead.serves("d", "light")) == (False, None, False)
    assert [worker.alive for worker in all_workers(store)] == [True, True, False, False]
