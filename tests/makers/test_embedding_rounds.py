"""Rounds whose Δ-model learns on CHGNet's features: trained, stored, used, and the same when run again."""

import numpy as np
import pytest

from godelta.makers import features, retrain
from godelta.makers.evaluate import run_evaluate
from godelta.makers.retrain import run_retrain, train_model
from godelta.makers.search import run_search
from godelta.makers.select import run_select
from godelta.makers.session import Session
from godelta.store import evaluations, models, rounds
from godelta.store.documents import RoundKey

pytestmark = pytest.mark.slow

CHGNET = {
    "foundation": {"name": "chgnet"},
    "delta": {"descriptor": "embedding", "aggregation": "global"},
    "system": {"box": 12.0},
    "search": {"relax": {"steps": 3}},
}


@pytest.fixture(autouse=True)
def _chgnet(require):
    require("chgnet")


@pytest.fixture
def evaluated(session, begin):
    """A round up to its evaluations."""

    def make(name, **delta) -> RoundKey:
        key = begin(name, **{**CHGNET, "delta": CHGNET["delta"] | delta})
        run_search(session, key, 0)
        run_select(session, key, 0)
        for slot in range(2):
            run_evaluate(session, key, 0, slot)
        return key

    return make


def pairs_of(session, key):
    level = session.parts(key.campaign_id).config.reference
    return evaluations.training_set(session.store, key.campaign_id, retrain.reference_hash(level))


COPIES = {"forces_as": "copies", "force_directions": 1}


@pytest.mark.parametrize(
    "delta",
    [
        {"aggregation": "global"},
        {"aggregation": "species"} | COPIES,
        {"aggregation": "atomic"} | COPIES,
        {"aggregation": "atomic"},
    ],
    ids=["global", "species-copies", "atomic-copies", "atomic"],
)
def test_a_round_teaches_and_the_next_one_uses_it(session, evaluated, opened, delta):
    key = evaluated("a", **delta)
    model_id = run_retrain(session, key, 0)["model_id"]
    pairs = pairs_of(session, key)
    atoms = [structure.atoms() for structure, _ in pairs]
    batch = session.potential(key.campaign_id, model_id).evaluate(atoms, uncertainty=True)
    learnt = np.abs(batch.energies - [evaluation.energy for _, evaluation in pairs])
    before = np.abs([s.foundation_energy - e.energy for s, e in pairs])
    settings = session.parts(key.campaign_id).config.delta
    # Two structures of four atoms are too few to satisfy all their forces as well.
    assert learnt.max() < (0.1 if settings.forces_as == "copies" else before.max())
    assert before.max() > 0.1
    copies = settings.force_directions if settings.forces_as == "copies" else 0
    stored = opened.features.count_documents({"descriptor": {"$regex": "^embedding-64-"}})
    assert stored == len(pairs) * (1 + copies)
    second = RoundKey(key.campaign_id, 0, 1)
    rounds.plan_round(opened, second, model_id)
    assert run_search(session, second, 0)["status"] == "searched"
    assert run_select(session, second, 0)["status"] == "selected"


def test_a_retraining_keeps_the_inducing_points_of_the_round_before(session, evaluated, opened):
    """Three of eight atoms are chosen in the first round; sixteen atoms would be chosen from anew."""
    key = evaluated("a", aggregation="atomic", inducing_points=3, force_directions=0)
    before = session.learnt(first := run_retrain(session, key, 0)["model_id"])
    second = RoundKey(key.campaign_id, 0, 1)
    rounds.plan_round(opened, second, first)
    run_search(session, second, 0)
    run_select(session, second, 0)
    run_evaluate(session, second, 0, 0)
    model_id = run_retrain(session, second, 0)["model_id"]
    after = session.learnt(model_id).correction
    assert len(after.training.ids) == len(before.correction.training.ids) + 1
    for one, other in zip(after.kernel.inducing, before.correction.kernel.inducing, strict=True):
        np.testing.assert_array_equal(one, other)
    assert after.selected_environments == before.correction.training.environments
    # A process that begins anew reads the model before from the database, and gets the same bits.
    blob = models.load_model(opened, model_id)
    opened.models.delete_one({"model_id": model_id})
    assert train_model(Session(session.workspace, opened), second, first) == model_id
    assert models.load_model(opened, model_id) == blob


def test_derivatives_are_computed_once_in_a_process(session, evaluated, opened, monkeypatch):
    key = evaluated("a", aggregation="atomic")
    first = train_model(session, key, None)
    blob = models.load_model(opened, first)
    opened.models.delete_many({})
    computed = []
    compute = features.slopes_of
    monkeypatch.setattr(features, "slopes_of", lambda *of: computed.append(of) or compute(*of))
    assert train_model(session, key, None) == first
    assert computed == []
    assert models.load_model(opened, first) == blob
    opened.models.delete_many({})
    session.slopes.bound = 1  # so that only the last one stays
    session.slopes._memory.clear()
    assert train_model(session, key, None) == first
    assert len(computed) == 2
    assert len(session.slopes._memory) == 1
    assert models.load_model(opened, first) == blob


def test_features_are_computed_once(session, evaluated, opened, monkeypatch):
    key = evaluated("a")
    first = train_model(session, key, None)
    blob = models.load_model(opened, first)
    opened.models.delete_many({})
    fresh = Session(session.workspace, opened)
    foundation = fresh.parts(key.campaign_id).foundation

    def compute(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(type(foundation), "features", compute)
    assert train_model(fresh, key, None) == first
    assert models.load_model(opened, first) == blob


def test_a_retraining_that_died_gives_the_same_model_when_run_again(session, evaluated, opened, monkeypatch):
    undisturbed = evaluated("a")
    expected = models.load_model(opened, run_retrain(session, undisturbed, 0)["model_id"])
    opened.features.delete_many({})
    key = evaluated("b")
    died = Session(session.workspace, opened)
    with monkeypatch.context() as patch:

        def die(*_: object, **__: object) -> None:
            raise SystemExit

        patch.setattr(retrain.models, "save_model", die)
        with pytest.raises(SystemExit):
            run_retrain(died, key, 0)
    opened.features.delete_one({})
    again = Session(session.workspace, opened)
    model_id = run_retrain(again, key, 0)["model_id"]
    assert models.load_model(opened, model_id) == expected


def test_failures_teach_beside_an_embedding(session, evaluated, opened):
    key = evaluated("a")
    bad = min(structure.structure_hash for structure, _ in pairs_of(session, key))
    opened.evaluations.update_one({"structure_hash": bad}, {"$set": {"state": "failed"}})
    learnt = session.learnt(train_model(session, key, None))
    assert learnt.correction.settings.descriptor == "embedding"
    assert learnt.repulsion is not None


def test_a_damaged_model_is_trained_anew(session, evaluated, opened):
    key = evaluated("a")
    model_id = run_retrain(session, key, 0)["model_id"]
    expected = models.load_model(opened, model_id)
    opened.models.update_one({"model_id": model_id}, {"$set": {"sha256": "0" * 64}})
    second = RoundKey(key.campaign_id, 0, 1)
    rounds.plan_round(opened, second, model_id)
    fresh = Session(session.workspace, opened)
    assert run_search(fresh, second, 0)["status"] == "searched"
    assert models.load_model(opened, rounds.get_round(opened, second).model_id) == expected
