"""A refinement under way and at its end: how it is told, how it is mended, what never closes it early."""

import uuid
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from godelta.campaign import CampaignConfig
from godelta.errors import InputError
from godelta.makers.evaluate import run_evaluate
from godelta.makers.refine import run_refine
from godelta.makers.retrain import run_retrain
from godelta.makers.search import run_search
from godelta.makers.select import run_select
from godelta.makers.session import Session
from godelta.store import campaigns, evaluations, rounds, structures
from godelta.store.documents import REFINEMENT_CHAIN, RoundKey
from godelta.store.evaluations import Claim
from godelta.store.overview import overviews
from godelta.store.progress import snapshot
from godelta.store.refining import refinement_steps, trajectory
from godelta.store.workers import WorkerName
from godelta.store.workspace import Workspace
from godelta.workflows import health, queue
from godelta.workflows.batch import BatchWatch
from godelta.workflows.minima import best_minima
from godelta.workflows.planner import advance, open_refinement, open_round
from godelta.workflows.restart import RestartOptions, mend, survey
from godelta.workflows.submit import register
from godelta.workflows.waiting import look, waits

OWN = WorkerName.own()
DEAD = replace(OWN, born=OWN.born - 1000.0)
SHORT = {"budget": {"rounds": 1, "evaluations": 4}, "refine": {"best": 2, "fmax": 0.3}}


@pytest.fixture
def session(engine, opened):
    return Session(engine, opened)


@pytest.fixture
def searched(start, opened, launchpad, session):
    """Start a campaign and do its search, to the end of its last chain; the id."""

    def make(**changes):
        campaign_id = start(**(SHORT | changes))
        advance(opened, launchpad, campaign_id)
        key = RoundKey(campaign_id, 0, 0)
        run_search(session, key, 0)
        run_select(session, key, 0)
        evaluate_and_close(session, key)
        return campaign_id

    return make


@pytest.fixture
def refining(searched, opened, launchpad, session):
    """A campaign whose refinement has selected its first two steps, and done none."""

    def make(**changes):
        campaign_id = searched(**changes)
        assert advance(opened, launchpad, campaign_id) == [f"{campaign_id}/1000/0/0"]
        run_refine(session, RoundKey(campaign_id, REFINEMENT_CHAIN, 0), 0)
        return campaign_id

    return make


@pytest.fixture(scope="module")
def refined(mongod_uri, tmp_path_factory, cheap_config):
    """A database, and the id of a finished campaign in it that has refined two of its four structures."""
    folder = tmp_path_factory.mktemp("refined")
    name = f"test_{uuid.uuid4().hex[:12]}"
    (folder / "godelta.yaml").write_text(f"database: {{uri: '{mongod_uri}', name: {name}}}\n")
    (folder / "godelta.yaml").chmod(0o600)
    workspace = Workspace(folder)
    workspace.prepare()
    store = workspace.connect()
    config = cheap_config(**SHORT | {"budget": {"rounds": 2, "evaluations": 4}})
    campaign_id = register(store, config, Path()).campaign_id
    campaigns.set_state(store, campaign_id, "created", "running")
    session = Session(workspace, store)
    while (round_ := open_round(store, campaign_id, 0, config)) is not None:
        run_search(session, round_.key, 0)
        run_select(session, round_.key, 0)
        evaluate_and_close(session, round_.key)
    while (round_ := open_refinement(store, campaign_id, config)) is not None:
        run_refine(session, round_.key, 0)
        evaluate_and_close(session, round_.key)
    campaigns.set_state(store, campaign_id, "running", "finished")
    yield store, campaign_id
    store.db.client.drop_database(name)
    store.close()


def evaluate_and_close(session, key):
    for slot in range(2):
        run_evaluate(session, key, 0, slot)
    run_retrain(session, key, 0)


@pytest.fixture
def after_long(monkeypatch):
    """As if nothing had happened for long."""

    @contextmanager
    def patched():
        with monkeypatch.context() as patch:
            patch.setattr(health, "STUCK_AFTER", timedelta(seconds=-1))
            patch.setattr(queue, "LOCK_S", 0.5)
            yield

    return patched


@pytest.fixture
def findings(opened, launchpad, after_long):
    """What a restart says of a campaign: place, what was found, what will be."""

    def find(campaign_id, options=None):
        campaign = campaigns.get_campaign(opened, campaign_id)
        config = CampaignConfig.model_validate(campaign.config)
        batch = BatchWatch(opened)
        with after_long():
            found = survey(opened, launchpad, campaign, config, options or RestartOptions(), batch).findings
        return [(one.place, one.found, one.will) for one in found]

    return find


@pytest.fixture
def restart(opened, launchpad, after_long):
    """Mend a campaign; marks of the rounds that were queued, without the campaign's id."""

    def mend_it(campaign_id, options=None):
        with after_long():
            marks = mend(opened, launchpad, campaign_id, options or RestartOptions(), BatchWatch(opened))
        return [mark.partition("/")[2] for mark in marks]

    return mend_it


def detail(opened, campaign_id):
    return look(opened, campaigns.get_campaign(opened, campaign_id))


def test_best_has_each_refined_structure_once(refined):
    opened, campaign_id = refined
    level = campaigns.get_campaign(opened, campaign_id).reference_hash
    steps = refinement_steps(opened, campaign_id)
    assert len(steps.tracks) == 2
    assert {track["status"] for track in steps.tracks} <= {"converged", "spent", "stuck"}
    rows = best_minima(opened, campaign_id, level)
    ends = {track["at"]: track["status"] for track in steps.tracks}
    shown = {row["structure_id"]: row for row in rows}
    for structure_id, row in shown.items():
        assert structure_id not in steps.before or structure_id in ends
        assert (row["refinement"] is not None) == (structure_id in ends)
    assert "converged" in {row["refinement"] for row in rows}
    searched = [row for row in structures.best(opened, campaign_id, level, 99) if row["chain"] == 0]
    assert sum(row["found"] for row in rows) == len(searched)
    assert not {track["start"] for track in steps.tracks} & (shown.keys() - ends.keys())


def test_a_trajectory_leads_from_the_start_to_the_end(refined):
    opened, campaign_id = refined
    campaign = campaigns.get_campaign(opened, campaign_id)
    for track in refinement_steps(opened, campaign_id).tracks:
        rows = trajectory(opened, campaign, track["at"])
        assert trajectory(opened, campaign, track["start"][:10]) == rows
        assert [row["rank"] for row in rows] == list(range(len(rows)))
        assert (rows[0]["structure_id"], rows[-1]["structure_id"]) == (track["start"], track["at"])
        assert {row["chain"] for row in rows[1:]} <= {REFINEMENT_CHAIN}
        assert [row["round"] for row in rows[1:]] == sorted(row["round"] for row in rows[1:])
        assert rows[-1]["fmax"] == pytest.approx(track["fmax"])
        assert all(after["energy"] < before["energy"] + 1e-3 for before, after in pairwise(rows))
        every = trajectory(opened, campaign, track["at"], every=True)
        assert len(every) == 1 + track["evaluations"]
        assert {row["structure_id"] for row in rows} <= {row["structure_id"] for row in every}


def test_a_structure_that_was_not_refined_has_no_trajectory(refined):
    opened, campaign_id = refined
    campaign = campaigns.get_campaign(opened, campaign_id)
    tracks = refinement_steps(opened, campaign_id).tracks
    starts = {track["start"] for track in tracks}
    other = next(one for one in structures.selected_ids(opened, campaign_id, 0) if one not in starts)
    with pytest.raises(InputError, match="no refinement of cheap") as refused:
        trajectory(opened, campaign, other)
    assert all(track["at"][:8] in str(refused.value) for track in tracks)


def test_what_is_told_while_it_refines(refining, opened):
    campaign_id = refining()
    progress = snapshot(opened, campaign_id)
    (overview,) = overviews(opened, name=campaign_id)
    assert progress.refinement == overview.refinement
    assert str(progress.refinement) == "refining: 0 of 2 converged"
    assert progress.refinement.evaluations == 2
    assert progress.budget == overview.budget == 4 + 2
    assert progress.left_s is None
    assert overview.left_s is None
    situation = detail(opened, campaign_id)
    (line,) = (one for one in waits(situation) if one.startswith("refinement"))
    assert line.startswith("refinement round 0: 0 of 2 evaluations are in")
    assert situation.refinement.ended is None
    assert [one.status for one in situation.refinement.each] == ["running", "running"]


def test_what_is_told_before_and_between_its_rounds(searched, opened, launchpad, session):
    campaign_id = searched()
    assert "refinement: its first round is not planned yet" in waits(detail(opened, campaign_id))
    advance(opened, launchpad, campaign_id)
    assert str(snapshot(opened, campaign_id).refinement) == "refining: the first steps are not made yet"
    assert any(one.startswith("refinement round 0: not begun") for one in waits(detail(opened, campaign_id)))
    key = RoundKey(campaign_id, REFINEMENT_CHAIN, 0)
    run_refine(session, key, 0)
    evaluate_and_close(session, key)
    said = waits(detail(opened, campaign_id))
    assert "refinement: round 0 closed; its next round is not planned yet" in said


def test_what_is_told_when_it_has_ended(refined):
    opened, campaign_id = refined
    situation = detail(opened, campaign_id)
    found = situation.refinement
    assert found.ended == "all that was asked for is refined"
    assert not found.count.active
    assert situation.overview.budget == 4 + found.count.evaluations
    assert situation.overview.ok + situation.overview.failed <= situation.overview.budget
    for one in found.each:
        assert one.energy <= one.start_energy
        assert (one.fmax <= found.fmax) == (one.status == "converged")
    assert sum(one.evaluations for one in found.each) == found.count.evaluations


def test_a_campaign_without_one_tells_of_none(start, opened, launchpad, take_jobs):
    campaign_id = start(budget={"rounds": 1})
    advance(opened, launchpad, campaign_id)
    take_jobs(campaign_id=campaign_id)
    situation = detail(opened, campaign_id)
    assert (situation.refinement, situation.overview.refinement) == (None, None)
    assert snapshot(opened, campaign_id).refinement is None
    level = campaigns.get_campaign(opened, campaign_id).reference_hash
    assert {row["refinement"] for row in best_minima(opened, campaign_id, level)} == {None}


def test_a_quorum_never_closes_its_rounds(refining, opened, launchpad, session):
    campaign_id = refining(
        resources={"quorum": 0.5, "deadline_hours": 1e-9, "evaluations_per_job": 1},
        budget={"rounds": 9, "evaluations": 2},
    )
    key = RoundKey(campaign_id, REFINEMENT_CHAIN, 0)
    run_evaluate(session, key, 0, 0)
    assert rounds.get_round(opened, key).state == "evaluating"
    assert advance(opened, launchpad, campaign_id) == []
    assert rounds.get_round(opened, key).state == "evaluating"


def test_restart_begins_and_continues_a_refinement(searched, opened, findings, restart, take_jobs):
    campaign_id = searched()
    assert findings(campaign_id) == [("refinement", "not begun", "its first round is planned")]
    assert restart(campaign_id) == ["1000/0/0"]
    assert findings(campaign_id) == []
    take_jobs(campaign_id=campaign_id)
    assert campaigns.get_campaign(opened, campaign_id).state == "finished"


@pytest.mark.slow
def test_restart_queues_a_round_that_got_lost(refining, opened, launchpad, findings, restart, take_jobs):
    campaign_id = refining()
    launchpad.workflows.delete_many({"metadata.godelta": f"{campaign_id}/1000/0/0"})
    launchpad.fireworks.delete_many({"spec.godelta_campaign": campaign_id})
    found = findings(campaign_id)
    assert [one[:2] for one in found if one[0] == "refinement, round 0"] == [
        ("refinement, round 0", "selected, and nothing of it is in the queue")
    ]
    restart(campaign_id)
    assert [one for one in findings(campaign_id) if one[0].startswith("refinement")] == []
    take_jobs(campaign_id=campaign_id)
    assert campaigns.get_campaign(opened, campaign_id).state == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("by_restart", [True, False])
def test_a_worker_that_died_in_a_step(
    searched, opened, launchpad, findings, restart, take_jobs, after_long, by_restart
):
    from fireworks import FWorker

    campaign_id = searched()
    advance(opened, launchpad, campaign_id)
    firework, _ = launchpad.checkout_fw(
        FWorker(name=str(DEAD), query={"spec.godelta_campaign": campaign_id, "name": "refine"}), "/"
    )
    assert firework is not None
    (found,) = findings(campaign_id)
    assert found[0] == "refinement, round 0"
    assert "refine: the process" in found[1]
    if by_restart:
        restart(campaign_id)
    else:
        with after_long():
            advance(opened, launchpad, campaign_id)
    assert rounds.get_round(opened, RoundKey(campaign_id, REFINEMENT_CHAIN, 0)).epoch == 1
    take_jobs(campaign_id=campaign_id)
    assert campaigns.get_campaign(opened, campaign_id).state == "finished"


@pytest.mark.slow
def test_failed_steps_are_not_tried_again(refining, opened, findings, restart, take_jobs):
    campaign_id = refining(refine={"best": 2, "fmax": 0.3, "evaluations": 4})
    key = RoundKey(campaign_id, REFINEMENT_CHAIN, 0)
    level = campaigns.get_campaign(opened, campaign_id).reference_hash
    (first, *_) = rounds.get_round(opened, key).selection
    fail(opened, structures.get_structure(opened, first), level)
    found = findings(campaign_id, RestartOptions(frozenset({"all"})))
    assert ("evaluations", "1 failed: crashed", "kept: refinement takes another, shorter step") in found
    restart(campaign_id, RestartOptions(frozenset({"all"})))
    take_jobs(campaign_id=campaign_id)
    assert campaigns.get_campaign(opened, campaign_id).state == "finished"
    assert opened.evaluations.count_documents({"state": "failed"}) == 1
    tracks = refinement_steps(opened, campaign_id).tracks
    assert "converged" in {track["status"] for track in tracks}


def fail(opened, document, level):
    claim = evaluations.claim(opened, document.structure_hash, level, str(OWN), 60.0, wanted=document)
    assert isinstance(claim, Claim)
    evaluations.commit_failed(opened, claim, "crashed", "for the test")
