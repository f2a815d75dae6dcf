"""What the queue holds, and what waits for what: for every state that a campaign can be in."""

import os
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from godelta.store import campaigns, evaluations, rounds, structures, workers
from godelta.store.documents import RoundKey
from godelta.store.workers import WorkerName
from godelta.workflows import checked, health, overview, round, waiting
from godelta.workflows.overview import jobs_of, queue_counts
from godelta.workflows.pausing import pause
from godelta.workflows.pilots import make_folder, note_sent
from godelta.workflows.planner import advance
from godelta.workflows.resource_classes import pilot_prefix
from godelta.workflows.waiting import look, waits

OWN = WorkerName.own()
DEAD = replace(OWN, pid=2**22 + 17, born=1.0)
FAR = WorkerName("node7", "0123456789ab", 12, 3.5)
NOBODY = "nobody works on this: `godelta submit --launch`, `godelta worker` or `godelta run FILE`"


@pytest.fixture
def situation(opened):
    return lambda campaign_id: look(opened, campaigns.get_campaign(opened, campaign_id))


@pytest.fixture
def told(situation):
    """What a campaign is said to wait for."""
    return lambda campaign_id: waits(situation(campaign_id))


@pytest.fixture
def planned(start, opened, launchpad):
    """The id of a campaign whose first rounds are in the queue."""

    def make(*names, **changes):
        campaign_id = start(*names, **changes)
        advance(opened, launchpad, campaign_id)
        return campaign_id

    return make


@pytest.fixture
def take(launchpad, tmp_path):
    """Have a worker take the next job, and not do it; the job's number."""
    from fireworks import FWorker

    return lambda name: launchpad.checkout_fw(FWorker(name=str(name)), str(tmp_path))[0].fw_id


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """Put a command `squeue` first in the path, which does what the script says."""

    def write(script):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "squeue").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "squeue").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    return write


def test_names_that_are_known_without_loading_an_engine():
    assert (overview.LIGHT, overview.REFUSED) == (round.LIGHT, checked.REFUSED)


def test_created(start, opened, told):
    campaign_id = start()
    opened.campaigns.update_one({}, {"$set": {"state": "created"}})
    assert told(campaign_id) == ["never started: `godelta run FILE` or `godelta submit FILE`"]


def test_nothing_in_the_queue_and_nobody_there(start, opened, told):
    campaign_id = start(budget={"chains": 2})
    rounds.plan_round(opened, RoundKey(campaign_id, 0, 0), None)
    assert told(campaign_id) == [
        "chain 0 round 0: not begun; not in the queue: a worker puts it there, or `godelta restart cheap`",
        "chain 1: its first round is not planned yet",
        NOBODY,
    ]


def test_in_the_queue_and_nobody_there(planned, told):
    assert told(planned()) == [
        "chain 0 round 0: not begun; its search job waits for a worker of category search-ase",
        NOBODY,
    ]


def test_workers_free_busy_and_of_no_use(planned, opened, told, take):
    campaign_id = planned(budget={"chains": 2})
    for number, takes in enumerate((["search-ase", "light"], [], ["evaluate-emt", "light"])):
        workers.sign_on(opened, replace(FAR, pid=number), takes=takes)
    workers.sign_on(opened, replace(FAR, pid=7), campaign_id="another")
    assert told(campaign_id)[-1] == "search-ase: 2 workers take it, 2 of them free"
    take(replace(FAR, pid=1))
    *chains, last = told(campaign_id)
    assert sorted(line.partition("; ")[2] for line in chains) == [
        "its search job waits for a worker of category search-ase",
        "the search runs on node7",
    ]
    assert last == "search-ase: 2 workers take it, 1 of them free"
    opened.workers.delete_one({"name": replace(FAR, pid=0).process})
    assert told(campaign_id)[-1] == "search-ase: 1 worker takes it, busy"


def test_evaluations_run_and_wait(planned, opened, told, do_jobs, situation):
    campaign_id = planned(resources={"evaluations_per_job": 1})
    do_jobs(2)  # search, select
    place = "chain 0 round 0: 0 of 2 evaluations are in"
    assert told(campaign_id) == [f"{place}; 2 wait for a worker of category evaluate-emt", NOBODY]
    do_jobs(1)
    place = "chain 0 round 0: 1 of 2 evaluations are in"
    assert told(campaign_id) == [f"{place}; 1 waits for a worker of category evaluate-emt", NOBODY]
    (left,) = _left(opened, campaign_id)
    workers.sign_on(opened, FAR, batch_job="4711")
    level = campaigns.get_campaign(opened, campaign_id).reference_hash
    evaluations.claim(opened, left.structure_hash, level, str(FAR), 60, wanted=left)
    found = situation(campaign_id)
    assert waits(found)[0].startswith(f"{place}, 1 running")
    assert [(one.host, one.batch_job) for one in found.detail.running] == [("node7", "4711")]
    assert (found.overview.ok, found.overview.running, found.overview.queued) == (1, 1, 0)
    assert found.queue == {
        "evaluate-emt": Counter(ready=1),
        "search-ase": Counter(waiting=1),
        "light": Counter(waiting=1),
    }


def _left(store, campaign_id):
    selected = structures.selected_structures(store, campaign_id)
    done = {raw["structure_hash"] for raw in store.evaluations.find({"state": "ok"})}
    return [one for one in selected if one.structure_hash not in done]


def test_failures_are_counted_in_their_round(planned, opened, told, do_jobs):
    campaign_id = planned()
    do_jobs(3)  # both evaluations in one job
    opened.evaluations.update_one({}, {"$set": {"state": "failed", "energy": None, "reason": "crashed"}})
    assert told(campaign_id)[0] == (
        "chain 0 round 0: 2 of 2 evaluations are in (1 failed); its retrain job waits for a worker of"
        " category search-ase"
    )


def test_a_worker_that_is_gone(planned, opened, told, take):
    campaign_id = planned()
    workers.sign_on(opened, DEAD)
    take(DEAD)
    first, last = told(campaign_id)
    assert "the worker of its job search is gone" in first
    assert last == NOBODY


def test_a_job_in_hands_that_are_not_ours(planned, told, take):
    campaign_id = planned()
    take("rlaunch by hand")
    assert told(campaign_id) == ["chain 0 round 0: not begun; the search runs"]


def test_a_job_that_ended_with_an_error(planned, opened, launchpad, told, take):
    campaign_id = planned()
    fw_id = take(OWN)
    launchpad.fireworks.update_one({"fw_id": fw_id}, {"$set": {"state": "FIZZLED"}})
    first, last = told(campaign_id)
    assert "its job search ended with an error" in first
    assert "nothing of it can run: `godelta restart cheap`" in first
    assert last == NOBODY


def test_a_job_that_is_refused(planned, opened, launchpad, told, take_jobs, situation):
    campaign_id = planned()
    job = launchpad.fireworks.find_one({"state": "READY"})
    tasks = [{"_fw_name": "ScriptTask", "script": "true"}]
    launchpad.fireworks.update_one({"fw_id": job["fw_id"]}, {"$set": {"spec._tasks": tasks}})
    assert take_jobs() == 0
    found = situation(campaign_id)
    assert found.queue["search-ase"]["refused"] == 1
    assert "its job search is refused, the task 'ScriptTask'" in waits(found)[0]


def test_a_job_that_somebody_has_paused(planned, launchpad, told):
    campaign_id = planned()
    job = launchpad.fireworks.find_one({"state": "READY"})["fw_id"]
    launchpad.pause_fw(job)
    assert f"its job search was set aside by hand: `lpad reignite_fws -i {job}`" in told(campaign_id)[0]


def test_paused(planned, opened, launchpad, told, do_jobs, situation):
    campaign_id = planned()
    do_jobs(2)
    pause(opened, launchpad, campaign_id)
    assert told(campaign_id) == ["paused: `godelta resume cheap`"]
    assert situation(campaign_id).queue == {}
    document, _ = _left(opened, campaign_id)
    level = campaigns.get_campaign(opened, campaign_id).reference_hash
    evaluations.claim(opened, document.structure_hash, level, str(OWN), 60, wanted=document)
    assert told(campaign_id)[1] == "1 evaluation under way will be finished"


def test_failed(planned, opened, told):
    campaign_id = planned()
    campaigns.set_state(opened, campaign_id, "running", "failed", reason="the potential melts")
    assert told(campaign_id) == ["failed: the potential melts\nmend that, then `godelta restart cheap`"]


def test_finished_and_cancelled(planned, opened, take_jobs, told):
    campaign_id = planned()
    take_jobs(campaign_id=campaign_id)
    assert told(campaign_id) == [
        "finished: `godelta best cheap` lists what it found; a larger budget goes on"
    ]
    opened.campaigns.update_one({}, {"$set": {"state": "cancelled"}})
    assert told(campaign_id) == ["cancelled: `godelta resume --reopen cheap`"]


def test_a_round_planned_anew_has_its_new_jobs(planned, opened, launchpad, monkeypatch, situation):
    monkeypatch.setattr(health, "STUCK_AFTER", timedelta(seconds=-1))
    campaign_id = planned()
    before = situation(campaign_id).jobs[0, 0]
    launchpad.fireworks.delete_many({"state": "READY"})
    advance(opened, launchpad, campaign_id)
    found = situation(campaign_id)
    (round_,) = found.detail.rounds
    assert round_.epoch == 1
    jobs = found.jobs[0, 0]
    assert Counter(job.state for job in jobs) == {"ready": 1, "waiting": 4}
    assert not {job.fw_id for job in jobs} & {job.fw_id for job in before}


def test_jobs_of_a_closing_are_the_rounds_too(planned, opened, launchpad, do_jobs):
    campaign_id = planned(
        resources={"evaluations_per_job": 1, "quorum": 0.5}, budget={"rounds": 12, "chains": 1}
    )
    do_jobs(3)
    advance(opened, launchpad, campaign_id)  # half is in: adds the closing
    found = look(opened, campaigns.get_campaign(opened, campaign_id))
    names = Counter(job.name for job in found.jobs[0, 0])
    assert names["retrain"] == 2
    assert jobs_of(opened, campaign_id, []) == {}


def test_rounds_that_begin_with_the_same_digits_are_told_apart(start, opened, launchpad, cheap_config):
    from godelta.store.detail import detail
    from godelta.workflows.round import round_workflow

    campaign_id = start()
    config = cheap_config()
    for k in (1, 10):
        rounds.plan_round(opened, RoundKey(campaign_id, 0, k), None)
        launchpad.bulk_add_wfs([round_workflow(RoundKey(campaign_id, 0, k), 0, config)])
    campaign = campaigns.get_campaign(opened, campaign_id)
    first, last = detail(opened, campaign, [], every_round=True).rounds
    assert set(jobs_of(opened, campaign_id, [first])) == {(0, 1)}
    assert set(jobs_of(opened, campaign_id, [last])) == {(0, 10)}
    assert {place: len(jobs) for place, jobs in jobs_of(opened, campaign_id, [first, last]).items()} == {
        (0, 1): 5,
        (0, 10): 5,
    }


def test_many_campaigns_are_one_question(planned, opened, launchpad):
    ids = [planned(f"c{number}") for number in range(3)]
    launchpad.fireworks.insert_one({"fw_id": 900, "state": "READY", "spec": {}, "name": "a stranger's"})
    counts = queue_counts(opened)
    assert set(counts) == {*ids, ""}
    assert counts[""] == {"": Counter(ready=1)}
    assert all(counts[i] == queue_counts(opened, [i])[i] for i in ids)
    assert counts[ids[0]]["light"] == Counter(waiting=2)
    assert queue_counts(opened, []) == {}


def test_many_chains_are_not_told_one_by_one(planned, told):
    lines = told(planned(budget={"chains": 30}))
    assert len(lines) == waiting.MOST_CHAINS + 2
    assert lines[-2:] == ["and 10 more chains", NOBODY]


def test_pilots_that_wait_and_run(planned, opened, told, situation, squeue):
    campaign_id = planned()
    prefix = pilot_prefix(opened)
    squeue(
        "cat <<END\n"
        f"11|{prefix}search-ase|PENDING|gpu|1:00:00|(Priority)\n"
        f"12|{prefix}search-ase|PENDING|gpu|1:00:00|(Resources)\n"
        f"13|{prefix}search-ase|RUNNING|gpu|59:12|node3\n"
        f"14|{prefix}evaluate-xtb|RUNNING|cpu|59:12|node4\n"
        "15|godelta.00000000.search-ase|RUNNING|gpu|59:12|node3\n"
        "END"
    )
    assert (
        told(campaign_id)[-1]
        == "search-ase: no worker yet, 2 pilots pending (Priority, Resources), 1 running"
    )
    jobs = situation(campaign_id).batch_jobs
    assert {category: [job.job_id for job in own] for category, own in jobs.items()} == {
        "search-ase": ["11", "12", "13"]
    }


def test_batch_jobs_that_ended_too_early(planned, opened, engine, squeue):
    campaign_id = planned()
    campaign = campaigns.get_campaign(opened, campaign_id)
    pilot_prefix(opened)
    squeue("true")
    folders = [make_folder(engine, "search-ase") for _ in range(2)]
    for number, folder in enumerate(folders):
        note_sent(folder, str(number))
    *_, told, nobody = waits(look(opened, campaign, engine))
    assert told.startswith("search-ase: 2 batch jobs ended before taking a job: ")
    assert told.partition("job: ")[2] in map(str, folders)
    assert nobody == NOBODY
    workers.sign_on(opened, FAR)
    assert "batch jobs" not in "".join(waits(look(opened, campaign, engine)))


def test_without_batch_jobs_slurm_is_not_asked(planned, told, squeue, tmp_path):
    campaign_id = planned()
    squeue(f"touch {tmp_path}/asked")
    assert told(campaign_id)[-1] == NOBODY
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize("script", ["sleep 60", "echo 'slurm_load_jobs error' >&2; exit 1", "echo 'a|b'"])
def test_a_slow_or_broken_slurm_keeps_nobody_waiting(planned, opened, told, squeue, monkeypatch, script):
    monkeypatch.setattr(overview, "SLURM_PATIENCE_S", 0.5)
    campaign_id = planned()
    pilot_prefix(opened)
    squeue(script)
    began = opened.now()
    lines = told(campaign_id)
    assert opened.now() - began < timedelta(seconds=4)
    assert lines[-2] == NOBODY
    assert lines[-1].startswith("batch jobs are not shown: SLURM")
