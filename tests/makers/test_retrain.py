"""The retraining job: the same evaluations give the same model, once."""

import numpy as np
import pytest

from godelta.makers import retrain
from godelta.makers.evaluate import run_evaluate
from godelta.makers.retrain import run_retrain
from godelta.makers.search import run_search
from godelta.makers.select import run_select
from godelta.store import campaigns, evaluations, models, rounds
from godelta.store.documents import RoundKey


@pytest.fixture
def evaluated(session, begin):
    """A round up to its evaluations."""

    def make(*args, slots=2, **changes) -> RoundKey:
        key = begin(*args, **changes)
        run_search(session, key, 0)
        run_select(session, key, 0)
        for slot in range(slots):
            run_evaluate(session, key, 0, slot)
        return key

    return make


def test_the_round_is_closed_with_a_model_of_its_evaluations(session, evaluated, opened):
    key = evaluated()
    answer = run_retrain(session, key, 0)
    round_ = rounds.get_round(opened, key)
    assert (round_.state, round_.next_model_id) == ("closed", answer["model_id"])
    config = session.parts(key.campaign_id).config
    expected = models.model_id_for(key.campaign_id, sorted(round_.selection), config.delta.digest())
    assert answer == {"status": "closed", "model_id": expected}
    pairs = evaluations.training_set(opened, key.campaign_id, _level(opened, key))
    atoms = [structure.atoms() for structure, _ in pairs]
    batch = session.potential(key.campaign_id, expected).evaluate(atoms, uncertainty=True)
    learnt = np.abs(batch.energies - [evaluation.energy for _, evaluation in pairs])
    before = np.abs([s.foundation_energy - e.energy for s, e in pairs])
    assert learnt.max() < 0.1 < before.max()


def _level(store, key):
    return campaigns.get_campaign(store, key.campaign_id).reference_hash


def test_a_second_call_does_nothing(session, evaluated, opened, monkeypatch):
    key = evaluated()
    run_retrain(session, key, 0)
    before = rounds.get_round(opened, key)
    monkeypatch.setattr(retrain, "train", None)
    assert run_retrain(session, key, 0) == {"status": "done before"}
    assert rounds.get_round(opened, key) == before


def test_a_model_that_a_dead_job_has_stored_is_not_trained_again(session, evaluated, opened, monkeypatch):
    key = evaluated()
    with monkeypatch.context() as patch:

        def die(*_: object, **__: object) -> None:
            raise SystemExit

        patch.setattr(retrain.rounds, "add_timings", die)
        with pytest.raises(SystemExit):
            run_retrain(session, key, 0)
    assert rounds.get_round(opened, key).state == "evaluating"
    monkeypatch.setattr(retrain, "train", None)
    assert run_retrain(session, key, 0)["status"] == "closed"
    assert opened.models.count_documents({}) == 1


def test_without_an_evaluation_the_model_stays(session, evaluated, opened):
    key = evaluated(reference={"limits": {"min_distance_factor": 9.0}})
    assert run_retrain(session, key, 0) == {"status": "closed", "model_id": None}
    assert opened.models.count_documents({}) == 0


def test_nothing_selected_closes_the_round_too(session, begin, opened):
    key = begin()
    for old, new in (("planned", "searching"), ("searching", "selected")):
        rounds.change_state(opened, key, 0, old, new)
    assert run_retrain(session, key, 0)["status"] == "closed"


def test_an_old_epoch_closes_nothing(session, evaluated, opened):
    key = evaluated(slots=1)
    rounds.bump_epoch(opened, key, 0)
    assert run_retrain(session, key, 0) == {"status": "superseded"}
    assert rounds.get_round(opened, key).state != "closed"


@pytest.mark.parametrize("share", [True, False])
def test_chains_learn_from_each_other_only_where_they_share(session, begin, opened, share):
    first = begin(share=share, budget={"chains": 2})
    second = RoundKey(first.campaign_id, 1, 0)
    for key in (first, second):
        run_search(session, key, 0)
        run_select(session, key, 0)
        for slot in range(2):
            run_evaluate(session, key, 0, slot)
    ids = [run_retrain(session, key, 0)["model_id"] for key in (first, second)]
    assert (ids[0] == ids[1]) is share
    assert len(models.get_model(opened, ids[1]).evaluation_ids) == (4 if share else 2)


def test_the_same_campaign_twice_has_the_same_model(session, evaluated):
    blobs = []
    for name in ("a", "b", "c"):
        key = evaluated(name)
        blobs.append(models.load_model(session.store, run_retrain(session, key, 0)["model_id"]))
    assert blobs[0] == blobs[1] == blobs[2]
