"""All campaigns at a glance: exact, and counted again only where something has changed."""

from dataclasses import asdict
from datetime import timedelta

import pytest

from godelta.store import campaigns, evaluations, rounds, structures, summaries
from godelta.store.documents import RoundKey
from godelta.store.overview import overviews, system_label
from godelta.store.progress import snapshot

LEVEL = "r" * 64


@pytest.fixture
def make(store, cheap):
    def campaign(name="a", **changes):
        values = cheap(name=name, budget={"chains": 2, "rounds": 4, "evaluations": 8}, **changes)
        return campaigns.create_campaign(
            store, name=name, config=values, identity={}, identity_hash="h", reference_hash=LEVEL,
            problem=b"", versions={},
        ).campaign_id  # fmt: skip

    return campaign


@pytest.fixture
def select(store, make_structure):
    """Have a round select new structures; their documents."""

    def do(campaign_id, numbers, *, chain=0, k=0):
        key = RoundKey(campaign_id, chain, k)
        rounds.plan_round(store, key, None)
        rounds.change_state(store, key, 0, "planned", "searching")
        documents = [make_structure(key, number) for number in numbers]
        structures.add_candidates(store, documents)
        ids = [document.structure_id for document in documents]
        rounds.change_state(store, key, 0, "searching", "selected", selection=ids)
        return documents

    return do


def ask(store, document):
    return evaluations.claim(store, document.structure_hash, LEVEL, "me", 60, wanted=document)


def evaluate(store, document, energy=None):
    claim = ask(store, document)
    if energy is None:
        evaluations.commit_failed(store, claim, "engine_error", "no")
    else:
        evaluations.commit_ok(store, claim, energy, document.atoms().positions * 0)
    rounds.add_timings(store, document.key, reference_s=0.5)


def test_an_empty_database(store):
    assert overviews(store) == []


def test_before_the_beginning(store, make):
    campaign_id = make()
    (row,) = overviews(store)
    assert (row.name, row.state, row.system, row.rounds, row.budget) == ("a", "created", "Cu3Ag", 4, 8)
    assert (row.ok, row.failed, row.pending, row.running, row.queued) == (0, 0, 0, 0, 0)
    assert (row.best_energy, row.best_structure, row.closed_rounds) == (None, None, 0)
    assert [(chain.chain, chain.round, chain.state) for chain in row.chains] == [
        (0, None, "waiting"),
        (1, None, "waiting"),
    ]
    assert row.changed_at == campaigns.get_campaign(store, campaign_id).updated_at


def test_in_the_middle_it_agrees_with_a_snapshot(store, make, select):
    campaign_id = make()
    documents = select(campaign_id, range(5))
    evaluate(store, documents[0], -1.0)
    evaluate(store, documents[1], -1.5)
    evaluate(store, documents[2])
    ask(store, documents[3])
    campaigns.add_time(store, campaign_id, elapsed_s=10.0, worker_s=18.0)
    search = {"iteration": 7, "acceptance": [0.5, None, 0.25], "best_energy": -3.5}
    store.rounds.update_one({"campaign_id": campaign_id}, {"$set": {"progress": search}})
    (row,) = overviews(store)
    assert (row.ok, row.failed, row.pending, row.running, row.queued) == (2, 1, 2, 1, 1)
    assert (row.best_energy, row.best_structure) == (-1.5, documents[1].structure_id)
    assert row.chains[0].acceptance == pytest.approx(0.375)
    known = asdict(snapshot(store, campaign_id))
    assert {key: value for key, value in asdict(row).items() if key in known} == known
    assert overviews(store) == [row] == overviews(store, count_all=True)
    ended = max(raw["evaluated_at"] for raw in store.evaluations.find({"state": {"$ne": "pending"}}))
    assert row.changed_at >= ended


def test_what_a_closed_round_left_out_is_not_queued(store, make, select):
    campaign_id = make()
    documents = select(campaign_id, range(3))
    evaluate(store, documents[0], -1.0)
    rounds.change_state(store, documents[0].key, 0, "selected", "evaluating")
    rounds.change_state(store, documents[0].key, 0, "evaluating", "closed")
    (row,) = overviews(store)
    assert (row.closed_rounds, row.pending, row.queued) == (1, 2, 0)
    select(campaign_id, [1, 2, 7], k=1)  # the late ones again, and a new one
    (row,) = overviews(store)
    assert (row.ok, row.pending, row.queued, row.chains[0].round) == (1, 3, 3, 1)


@pytest.mark.parametrize("state", ["ok", "failed"])
def test_every_evaluation_is_seen_at_the_next_look(store, make, select, state):
    documents = select(make(), range(4))
    for number, document in enumerate(documents, 1):
        evaluate(store, document, -float(number) if state == "ok" else None)
        (row,) = overviews(store)
        assert (row.ok, row.failed) == ((number, 0) if state == "ok" else (0, number))
        assert row.best_energy == (-float(number) if state == "ok" else None)
        assert row.queued == 4 - number


def test_failures_that_are_tried_again_are_seen_at_the_next_look(store, make, select):
    documents = select(make(), range(2))
    for document in documents:
        evaluate(store, document)
    assert overviews(store)[0].failed == 2
    evaluations.reopen_failed(store, [documents[0].structure_hash], LEVEL)
    (row,) = overviews(store)
    assert (row.failed, row.pending, row.queued) == (1, 1, 1)


def test_what_has_not_changed_is_not_counted_again(store, make, select, monkeypatch):
    first, second = make("a"), make("b")
    evaluate(store, select(first, [1])[0], -1.0)
    documents = select(second, [2, 3])
    before = overviews(store)
    counted = []
    count = summaries._count
    monkeypatch.setattr(
        summaries,
        "_count",
        lambda store, them: counted.append([raw["name"] for raw in them]) or count(store, them),
    )
    assert overviews(store) == before
    evaluate(store, documents[0], -2.0)
    overviews(store)
    overviews(store, count_all=True)
    monkeypatch.setattr(summaries, "COUNT_AGAIN_AFTER", timedelta(0))
    overviews(store)
    assert counted == [[], ["b"], ["a", "b"], ["a", "b"]]


def test_structures_of_several_campaigns_are_counted_for_each(store, make, make_structure):
    ids = [make("a"), make("b")]
    for campaign_id in ids:
        key = RoundKey(campaign_id, 0, 0)
        rounds.plan_round(store, key, None)
        rounds.change_state(store, key, 0, "planned", "searching")
        document = make_structure(key, 5)  # the same positions
        structures.add_candidates(store, [document])
        rounds.change_state(store, key, 0, "searching", "selected", selection=[document.structure_id])
        evaluations.claim(store, document.structure_hash, LEVEL, "me", 60, wanted=document)
    assert [(row.running, row.queued) for row in overviews(store)] == [(1, 0)] * 2
    claim = evaluations.Claim(**_lease(store))
    evaluations.commit_ok(store, claim, -2.0, document.atoms().positions * 0)
    assert [(row.ok, row.running, row.best_energy) for row in overviews(store, count_all=True)] == [
        (1, 0, -2.0)
    ] * 2


def _lease(store):
    (raw,) = store.evaluations.find()
    lease = raw["lease"]
    keys = {"structure_hash": raw["structure_hash"], "reference_hash": raw["reference_hash"]}
    return keys | {"token": lease["token"], "owner": "me", "seconds": 60, "until": lease["until"]}


def test_order_and_filters(store, make):
    states = ["cancelled", "finished", "failed", "paused", "created", "running", "running"]
    for number, state in enumerate(states):
        campaign_id = make(f"c{number}", tags=["gold", "x"] if number % 2 else ["x"])
        if state != "created":
            campaigns.set_state(
                store, campaign_id, "created", state, reason="why" if state == "failed" else None
            )
    assert [row.name for row in overviews(store)] == ["c6", "c5", "c4", "c3", "c2", "c1", "c0"]
    campaigns.add_time(store, campaign_id)
    store.campaigns.update_one({"name": "c5"}, {"$currentDate": {"updated_at": True}})
    assert [row.name for row in overviews(store)][:2] == ["c5", "c6"]
    assert [row.name for row in overviews(store, states=["failed", "paused"])] == ["c3", "c2"]
    assert overviews(store, states=["failed"])[0].reason == "why"
    assert {row.name for row in overviews(store, tags=["gold"])} == {"c1", "c3", "c5"}
    assert [row.name for row in overviews(store, tags=["gold", "x"], states=["running"])] == ["c5"]
    assert overviews(store, tags=["lead"]) == []
    assert [row.tags for row in overviews(store, name="c1")] == [["gold", "x"]]


def test_a_user_who_may_only_read_sees_the_same(store, make, select, read_only):
    evaluate(store, select(make(), [1])[0], -1.0)
    assert overviews(read_only) == overviews(store)


@pytest.fixture
def read_only(store, mongod_uri):
    """The same database, through a user who may only read it."""
    from pymongo.uri_parser import parse_uri

    from godelta.store.database import connect

    (host, port), *_ = parse_uri(mongod_uri)["nodelist"]
    store.db.command("createUser", "reader", pwd="secret", roles=["read"])
    uri = f"mongodb://reader:secret@{host}:{port}/?authSource={store.db.name}&directConnection=true"
    seen = connect(uri, store.db.name, timeout_ms=10_000)
    yield seen
    seen.close()
    store.db.command("dropUser", "reader")


@pytest.mark.parametrize(
    ("system", "label"),
    [
        ({"kind": "cluster", "formula": "Ag8S4"}, "Ag8S4"),
        ({"kind": "surface", "formula": "O2", "element": "Ag", "builder": "fcc111"}, "O2 on Ag(111)"),
        ({"kind": "template", "formula": "Pt4", "file": "a/tio2.cif"}, "Pt4 on tio2"),
        ({}, ""),
    ],
)
def test_labels_of_systems(system, label):
    assert system_label(system) == label
