"""The retraining job: the same evaluations give the same model, once."""

import numpy as np
import pytest

from godelta.makers import retrain
from godelta.makers.evaluate import run_evaluate
from godelta.makers.retrain import run_retrain, train_model
from godelta.makers.search import run_search
from godelta.makers.select import run_select
from godelta.store import campaigns, evaluations, models, rounds, structures
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
    key = evaluated(slots=3, search={"method": "rss", "selection": {"evaluations_per_round": 3}})
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
    assert learnt.max() < 0.1 < before.min()


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


def test_without_an_evaluation_the_model_stays(session, begin, opened):
    key = begin()
    run_search(session, key, 0)
    run_select(session, key, 0)
    rounds.change_state(opened, key, 0, "selected", "evaluating")
    assert run_retrain(session, key, 0) == {"status": "closed", "model_id": None}
    assert opened.models.count_documents({}) == 0


def test_where_everything_failed_failures_alone_teach(session, evaluated, opened):
    key = evaluated(reference={"limits": {"min_distance_factor": 9.0}})
    model_id = run_retrain(session, key, 0)["model_id"]
    document = models.get_model(opened, model_id)
    selection = rounds.get_round(opened, key).selection
    assert (document.evaluation_ids, set(document.failed_ids)) == ((), set(selection))
    learnt = session.learnt(model_id)
    assert learnt.correction is None
    failed = [structure.atoms() for structure in structures.get_structures(opened, selection)]
    batch = session.potential(key.campaign_id, model_id).evaluate(failed, uncertainty=True)
    assert (batch.energies - batch.foundation_energies).min() > 1.0
    second = RoundKey(key.campaign_id, 0, 1)
    rounds.plan_round(opened, second, model_id)
    run_search(session, second, 0)
    assert run_select(session, second, 0)["status"] == "selected"


def test_a_failure_that_was_opened_again_no_longer_repels(session, evaluated, opened):
    key = evaluated()
    level, selection = _level(opened, key), rounds.get_round(opened, key).selection
    failing, good = structures.get_structures(opened, selection)
    opened.evaluations.update_one({"structure_hash": failing.structure_hash}, {"$set": {"state": "failed"}})
    with_failure = train_model(session, key, None)
    assert models.get_model(opened, with_failure).failed_ids == (failing.structure_id,)
    assert session.learnt(with_failure).repulsion is not None
    assert evaluations.reopen_failed(opened, [failing.structure_hash], level) == 1
    without = train_model(session, key, with_failure)
    assert without != with_failure
    assert models.get_model(opened, without).failed_ids == ()
    assert models.get_model(opened, without).evaluation_ids == (good.structure_id,)
    assert session.learnt(without).repulsion is None


def test_the_same_failures_give_the_same_model(session, evaluated, opened):
    blobs = []
    for name in ("a", "b"):
        key = evaluated(name)
        documents = structures.get_structures(opened, rounds.get_round(opened, key).selection)
        first = min(document.structure_hash for document in documents)
        opened.evaluations.update_one({"structure_hash": first}, {"$set": {"state": "failed"}})
        blobs.append(models.load_model(opened, train_model(session, key, None)))
    assert blobs[0] == blobs[1]


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


def test_all_forces_are_learnt_where_the_campaign_says_so(session, evaluated, opened):
    key = evaluated(delta={"preset": "accurate"})
    model_id = run_retrain(session, key, 0)["model_id"]
    correction = session.learnt(model_id).correction
    assert correction.settings.forces_as == "gradients"
    pairs = evaluations.training_set(opened, key.campaign_id, _level(opened, key))
    moving = 3 * len(pairs[0][0].atoms())
    assert len(correction.training.ids) == len(pairs) * (1 + moving)
    forces = session.potential(key.campaign_id, model_id).evaluate([s.atoms() for s, _ in pairs]).forces
    known = [np.array(evaluation.forces) for _, evaluation in pairs]
    assert np.abs(np.subtract(forces, known)).mean() < 0.2 * np.abs(known).mean()
