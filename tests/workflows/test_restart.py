"""`restart`: every kind of damage, made on purpose; the campaign ends as if nothing had happened."""

import stat
from dataclasses import replace
from datetime import timedelta

import pytest

from godelta.campaign import CampaignConfig
from godelta.store import campaigns, evaluations, retries, rounds, structures, workers
from godelta.store.documents import RoundKey
from godelta.store.workers import WorkerName
from godelta.workflows import health, queue
from godelta.workflows.batch import BatchWatch
from godelta.workflows.planner import advance
from godelta.workflows.restart import RestartOptions, mend, survey

OWN = WorkerName.own()
DEAD = replace(OWN, born=OWN.born - 1000.0)
FAR = WorkerName("node7", "0123456789ab", 12, 3.5)


@pytest.fixture(autouse=True)
def _short_times(monkeypatch):
    monkeypatch.setattr(health, "STUCK_AFTER", timedelta(seconds=-1))
    monkeypatch.setattr(queue, "LOCK_S", 0.5)


@pytest.fixture
def look(opened, launchpad):
    """What a restart says of a campaign."""

    def survey_of(campaign_id, options=None):
        campaign = campaigns.get_campaign(opened, campaign_id)
        config = CampaignConfig.model_validate(campaign.config)
        return survey(
            opened, launchpad, campaign, config, options or RestartOptions(), BatchWatch(opened)
        ).findings

    return survey_of


@pytest.fixture
def restart(opened, launchpad):
    """Mend a campaign; the rounds that were queued, without the campaign's id."""

    def mend_it(campaign_id, options=None):
        marks = mend(opened, launchpad, campaign_id, options or RestartOptions(), BatchWatch(opened))
        return [mark.partition("/")[2] for mark in marks]

    return mend_it


@pytest.fixture
def begun(start, opened, launchpad):
    """The id of a planned campaign that is reproducible."""

    def make(**changes):
        campaign_id = start(share=False, **changes)
        advance(opened, launchpad, campaign_id)
        return campaign_id

    return make


@pytest.fixture
def slurm_says(tmp_path, monkeypatch):
    """Put an squeue, an sacct and an scontrol on the path that know these jobs: id: state."""

    def make(jobs, *, answers=True):
        folder = tmp_path / "slurm"
        folder.mkdir(exist_ok=True)
        live = "".join(f"echo '{job}|{state}'\n" for job, state in jobs.items() if state == "RUNNING")
        over = "".join(f"echo '{job}|{state}'\n" for job, state in jobs.items() if state != "RUNNING")
        refuse = "" if answers else "echo 'Unable to contact slurm controller' >&2; exit 1\n"
        for name, text in {"squeue": live, "sacct": over, "scontrol": ""}.items():
            path = folder / name
            path.write_text(f"#!/bin/sh\n{refuse}{text}")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(folder), prepend=":")

    return make


def take(launchpad, name):
    """Take a job, and go without a word."""
    from fireworks import FWorker

    assert launchpad.checkout_fw(FWorker(name=str(name)), "/")[0] is not None


def finish(opened, campaign_id, take_jobs):
    take_jobs(campaign_id=campaign_id, idle_seconds=2.0)


@pytest.mark.slow
@pytest.mark.parametrize("done", [0, 1, 2, 3], ids=["search", "select", "evaluate", "retrain"])
def test_a_lost_run_of_every_job(
    begun, look, restart, do_jobs, launchpad, opened, take_jobs, as_undisturbed, done
):
    campaign_id = begun()
    do_jobs(done)
    take(launchpad, DEAD)
    (found,) = look(campaign_id)
    assert found.place == "chain 0, round 0"
    assert f"the process {DEAD.pid} of its worker has ended" in found.found
    assert found.will == "planned anew, attempt 2; what it saved is kept"
    assert restart(campaign_id) == ["0/0/1"]
    assert look(campaign_id) == []
    assert restart(campaign_id) == []
    finish(opened, campaign_id, take_jobs)
    as_undisturbed(campaign_id)


def far_worker(opened, launchpad, minutes, job="77"):
    """A worker on another host that takes a job and falls silent."""
    workers.sign_on(opened, FAR, batch_job=job)
    take(launchpad, FAR)
    opened.workers.update_one(
        {"name": FAR.process}, {"$set": {"seen": opened.now() - timedelta(minutes=minutes)}}
    )


def test_a_silent_worker_whose_batch_job_runs_is_not_lost(
    begun, look, restart, launchpad, opened, slurm_says
):
    campaign_id = begun()
    far_worker(opened, launchpad, 30)
    slurm_says({"77": "RUNNING"})
    (found,) = look(campaign_id)
    assert found.found == "search: its worker has been silent for 30 min"
    assert found.will == "left alone: SLURM's job 77 runs"
    assert not found.acts
    assert restart(campaign_id) == []
    slurm_says({"77": "NODE_FAIL"})
    (found,) = look(campaign_id)
    assert found.found == "search: its worker on node7 is gone: SLURM's job 77 has ended"
    assert restart(campaign_id) == ["0/0/1"]


def test_a_worker_whose_batch_job_has_ended_is_lost_at_once(
    begun, look, restart, launchpad, opened, slurm_says
):
    campaign_id = begun()
    far_worker(opened, launchpad, 0)
    slurm_says({"77": "CANCELLED"})
    assert look(campaign_id)[0].acts
    assert restart(campaign_id) == ["0/0/1"]


@pytest.mark.parametrize("answers", [True, False])
def test_where_slurm_says_nothing_time_tells(begun, look, restart, launchpad, opened, slurm_says, answers):
    campaign_id = begun()
    far_worker(opened, launchpad, 5)
    slurm_says({}, answers=answers)
    assert look(campaign_id) == []
    assert restart(campaign_id) == []
    far_worker_silent = {"seen": opened.now() - timedelta(minutes=11)}
    opened.workers.update_one({"name": FAR.process}, {"$set": far_worker_silent})
    (found,) = look(campaign_id)
    why = "SLURM knows nothing of its job 77" if answers else "SLURM does not answer"
    assert f"silent for 11 min (judged by time only: {why}" in found.found
    assert restart(campaign_id) == ["0/0/1"]


def test_a_stale_lock(begun, look, restart, do_jobs, launchpad, opened, take_jobs, as_undisturbed):
    campaign_id = begun()
    do_jobs(1)
    launchpad.workflows.update_one({}, {"$set": {"locked": True}})
    (found,) = look(campaign_id)
    assert (found.found, found.will) == ("workflows locked by a worker that is gone: 1", "unlocked")
    assert launchpad.workflows.count_documents({"locked": True}) == 1
    assert restart(campaign_id) == []
    assert launchpad.workflows.count_documents({"locked": True}) == 0
    finish(opened, campaign_id, take_jobs)
    as_undisturbed(campaign_id)


def test_jobs_that_wait_for_ever(begun, look, restart, do_jobs, launchpad, opened, take_jobs, as_undisturbed):
    campaign_id = begun()
    do_jobs(2)
    # Killed with the lock in hand, before it made the children of its job ready.
    launchpad.fireworks.update_many({"state": "READY"}, {"$set": {"state": "WAITING"}})
    launchpad.workflows.update_one({}, {"$set": {"locked": True}})
    assert [found.found for found in look(campaign_id)] == [
        "its jobs wait for nothing",
        "workflows locked by a worker that is gone: 1",
    ]
    assert restart(campaign_id) == ["0/0/1"]
    finish(opened, campaign_id, take_jobs)
    as_undisturbed(campaign_id)


def test_jobs_in_no_workflow(begun, look, restart, do_jobs, launchpad, opened, take_jobs, as_undisturbed):
    campaign_id = begun()
    do_jobs(1)
    launchpad.workflows.delete_many({})
    count = launchpad.fireworks.count_documents({"state": {"$in": ["READY", "WAITING"]}})
    assert {found.found for found in look(campaign_id)} == {
        "searching, and nothing of it is in the queue",
        f"jobs that are in no workflow: {count}",
    }
    assert restart(campaign_id) == ["0/0/0"]
    held = [node for raw in launchpad.workflows.find() for node in raw["nodes"]]
    waiting = launchpad.fireworks.distinct("fw_id", {"state": {"$in": ["READY", "WAITING"]}})
    assert set(waiting) <= set(held)
    finish(opened, campaign_id, take_jobs)
    as_undisturbed(campaign_id)


def test_machines_that_nobody_asks_for_any_more(
    begun, look, restart, do_jobs, launchpad, opened, take_jobs, as_undisturbed, cheap_config, engine
):
    from godelta.workflows.submit import register

    campaign_id = begun()
    do_jobs(2)
    (ready,) = launchpad.fireworks.find({"state": "READY"})
    assert ready["spec"]["_category"] == "evaluate-emt"
    changed = cheap_config(share=False, resources={"reference": {"partition": "long"}})
    register(opened, changed, engine.folder)
    (found,) = look(campaign_id)
    assert found.found == "its jobs wait for machines that the campaign no longer asks for"
    assert restart(campaign_id) == ["0/0/1"]
    assert look(campaign_id) == []
    (search,) = launchpad.fireworks.find({"state": "READY"})
    rest = launchpad.fireworks.distinct("spec._category", {"state": "WAITING"})
    assert search["spec"]["_category"] == "search-ase"
    assert any(category.startswith("evaluate-emt+") for category in rest)
    finish(opened, campaign_id, take_jobs)
    as_undisturbed(campaign_id)


@pytest.mark.parametrize("done", [0, 1, 2, 3, 4])
def test_a_round_half_done_of_which_nothing_is_queued(
    begun, look, restart, do_jobs, launchpad, opened, take_jobs, as_undisturbed, done
):
    campaign_id = begun()
    do_jobs(done)
    for name in ("workflows", "fireworks", "launches"):
        launchpad.db[name].delete_many({})
    (found,) = look(campaign_id)
    states = ["planned", "searching", "selected", "evaluating", "closed"]
    if done < 4:
        assert found.found == f"{states[done]}, and nothing of it is in the queue"
        assert restart(campaign_id) == ["0/0/0"]
    else:
        assert found.found == "closed, and nothing follows"
        assert restart(campaign_id) == ["0/1/0"]
    finish(opened, campaign_id, take_jobs)
    as_undisturbed(campaign_id)


def test_a_campaign_without_a_round(start, look, restart, opened, take_jobs, as_undisturbed):
    campaign_id = start(share=False)
    assert [found.found for found in look(campaign_id)] == ["no round yet"]
    assert restart(campaign_id) == ["0/0/0"]
    finish(opened, campaign_id, take_jobs)
    as_undisturbed(campaign_id)


def selected_hashes(opened, campaign_id, k=0):
    selection = rounds.get_round(opened, RoundKey(campaign_id, 0, k)).selection
    return [structures.get_structure(opened, i).structure_hash for i in selection]


def claim(opened, campaign_id, digest, owner, seconds=120.0):
    level = campaigns.get_campaign(opened, campaign_id).reference_hash
    answer = evaluations.claim(opened, digest, level, str(owner), seconds)
    assert isinstance(answer, evaluations.Claim)
    assert campaigns.reserve_evaluation(opened, campaign_id, 10, digest)
    return answer


def test_a_lease_and_a_reservation_of_a_worker_that_is_gone(
    begun, look, restart, do_jobs, opened, take_jobs, as_undisturbed
):
    campaign_id = begun()
    do_jobs(2)
    first, _ = selected_hashes(opened, campaign_id)
    claim(opened, campaign_id, first, DEAD)
    assert [found.found for found in look(campaign_id)] == [
        "1 evaluation held by a worker that is gone",
        "1 reservation of the budget by a worker that is gone",
    ]
    restart(campaign_id)
    assert look(campaign_id) == []
    assert campaigns.get_campaign(opened, campaign_id).reserved == ()
    claim(opened, campaign_id, first, OWN, 0.2)  # nobody waits for it
    finish(opened, campaign_id, take_jobs)
    as_undisturbed(campaign_id, lost=2)


def test_a_lease_of_a_living_worker_is_left_alone(begun, look, restart, do_jobs, opened):
    campaign_id = begun()
    do_jobs(2)
    first, second = selected_hashes(opened, campaign_id)
    claim(opened, campaign_id, first, OWN)
    claim(opened, campaign_id, second, OWN, 0.01)  # it ran out: its result may still come
    assert look(campaign_id) == []
    restart(campaign_id)
    assert set(campaigns.get_campaign(opened, campaign_id).reserved) == {first, second}
    level = campaigns.get_campaign(opened, campaign_id).reference_hash
    evaluation = evaluations.get_evaluation(opened, first, level)
    assert evaluation.lease.until > opened.now()


def unpaid(opened, campaign_id, owner):
    """Have a result stored and not settled, by this worker."""
    done = selected_hashes(opened, campaign_id)[0]
    opened.campaigns.update_one({}, {"$push": {"reserved": done}, "$inc": {"spent": -1}})
    opened.evaluations.update_one({"structure_hash": done}, {"$set": {"attempts.0.owner": str(owner)}})
    return done


def test_a_result_that_was_stored_and_not_paid(
    begun, look, restart, do_jobs, opened, take_jobs, as_undisturbed
):
    campaign_id = begun()
    do_jobs(3)
    unpaid(opened, campaign_id, DEAD)
    (found,) = look(campaign_id)
    assert found.found == "1 evaluation done and not settled with the budget"
    restart(campaign_id)
    assert campaigns.get_campaign(opened, campaign_id).spent == 2
    finish(opened, campaign_id, take_jobs)
    as_undisturbed(campaign_id)


def test_a_living_worker_settles_what_it_stored_by_itself(begun, look, do_jobs, opened):
    campaign_id = begun()
    do_jobs(3)
    done = unpaid(opened, campaign_id, OWN)
    assert look(campaign_id) == []
    long_ago = opened.now() - 2 * retries.SETTLED_AFTER
    opened.evaluations.update_one({"structure_hash": done}, {"$set": {"evaluated_at": long_ago}})
    assert len(look(campaign_id)) == 1


@pytest.mark.parametrize("owner", [OWN, DEAD])
def test_what_is_settled_while_it_is_looked_at_is_no_leftover(begun, do_jobs, opened, owner):
    campaign_id = begun()
    do_jobs(3)
    done = unpaid(opened, campaign_id, owner)
    before = campaigns.get_campaign(opened, campaign_id)
    assert campaigns.settle_evaluation(opened, campaign_id, done)
    assert len(retries.leftover_reservations(opened, before)) == 0
    opened.evaluations.update_one({"structure_hash": done}, {"$set": {"state": "pending"}})
    assert len(retries.leftover_reservations(opened, before)) == 0
