"""Kill `restart` before its n-th write, restart again, finish the campaign, and report.

Usage: restart_kill_points.py FOLDER MONGODB_URI CONFIG_JSON DAMAGE N [N ...]; N is 0 for no kill. One line of
JSON each. Everything is forked from one process that has imported it already.
"""

import json
import os
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from kill_points import NOTE, Killer, begin, in_fork, make_workspace, report, warm_up, work_on

from godelta.store.workspace import Workspace
from godelta.workflows.launchpad import open_launchpad


def be_impatient() -> None:
    """Short times, as tests need them."""
    from godelta.workflows import health, queue

    health.STUCK_AFTER = timedelta(seconds=-1)
    queue.LOCK_S = 0.3


def do_jobs(workspace: Workspace, count: int) -> None:
    """Be a worker for so many jobs, and go without a word."""
    from fireworks import FWorker
    from fireworks.core.rocket_launcher import launch_rocket

    from godelta.makers.session import Session, use_session

    session = Session(workspace, workspace.connect())
    use_session(session)
    os.chdir(workspace.folder)
    for _ in range(count):
        assert launch_rocket(open_launchpad(workspace), FWorker(name=str(session.heartbeat.name)))


def damage(workspace: Workspace, kind: str) -> None:
    """Bring the campaign into a bad state, with workers of a pid that somebody else has now."""
    from fireworks import FWorker

    from godelta.store import campaigns, evaluations, rounds, structures
    from godelta.store.workers import WorkerName

    store, launchpad = workspace.connect(), open_launchpad(workspace)
    campaign = campaigns.list_campaigns(store)[0]
    own = WorkerName.own()
    dead = str(replace(own, born=own.born - 1000.0))
    do_jobs(workspace, {"everything": 2, "failed": 3}[kind])
    (round_,) = rounds.rounds_of(store, campaign.campaign_id)
    first, second = (structures.get_structure(store, i).structure_hash for i in round_.selection)
    if kind == "failed":
        # Of the first one every attempt was killed; the second is as it should be. Then a disk was full.
        lost = {"state": "failed", "reason": "lost", "message": "it kills its workers", "energy": None}
        lost |= {"forces": None, "energy_per_atom": None}
        store.evaluations.update_one({"structure_hash": first}, {"$set": lost})
        store.evaluations.update_one({"structure_hash": first}, {"$set": {"attempts.0.outcome": "failed"}})
        reason = "chain 0, round 0: OSError: [Errno 28] No space left on device"
        campaigns.set_state(store, campaign.campaign_id, "running", "failed", reason=reason)
        return
    assert isinstance(evaluations.claim(store, first, campaign.reference_hash, dead, 3000), evaluations.Claim)
    for digest in (first, second):
        assert campaigns.reserve_evaluation(store, campaign.campaign_id, 10, digest)
    launchpad.checkout_fw(FWorker(name=dead), "/")
    (orphan,) = launchpad.fireworks.find({"state": "RUNNING"})
    orphan |= {"fw_id": 5000, "state": "READY"}
    del orphan["_id"]
    launchpad.fireworks.insert_one(orphan)
    launchpad.workflows.update_one({}, {"$set": {"locked": True}})


def restart(workspace: Workspace, killer: Killer | None) -> None:
    """Mend the campaign."""
    from godelta.store import campaigns
    from godelta.workflows.batch import BatchWatch
    from godelta.workflows.restart import RestartOptions, mend

    be_impatient()
    if killer is not None:
        killer.begin()
    store, launchpad = workspace.connect(), open_launchpad(workspace)
    campaign_id = campaigns.list_campaigns(store)[0].campaign_id
    mend(store, launchpad, campaign_id, RestartOptions(), BatchWatch(store))


def look(workspace: Workspace) -> dict[str, Any]:
    """What a restart finds after the last one, and how many rounds are queued."""
    from godelta.campaign import CampaignConfig
    from godelta.store import campaigns
    from godelta.workflows.batch import BatchWatch
    from godelta.workflows.restart import RestartOptions, survey

    be_impatient()
    store, launchpad = workspace.connect(), open_launchpad(workspace)
    campaign = campaigns.list_campaigns(store)[0]
    config = CampaignConfig.model_validate(campaign.config)
    found = survey(store, launchpad, campaign, config, RestartOptions(), BatchWatch(store))
    live = launchpad.workflows.count_documents({"state": {"$ne": "ARCHIVED"}})
    return {"left": [f.found for f in found.findings if f.acts], "live": live, "after": campaign.state}


def main() -> None:
    """Warm up, then fork."""
    folder, uri, values, kind = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), sys.argv[4]
    warm_up(make_workspace(folder, uri, -os.getpid()), values)
    for n in map(int, sys.argv[5:]):
        workspace = make_workspace(folder, uri, n)
        assert in_fork(workspace, begin, values) == 0
        assert in_fork(workspace, damage, kind) == 0, (workspace.logs / "damage.log").read_text()[-3000:]
        status = in_fork(workspace, restart, Killer(n, workspace.folder))
        killed = os.WIFSIGNALED(status)
        assert killed or status == 0, (workspace.logs / "restart.log").read_text()[-3000:]
        answer: dict[str, Any] = {"n": n, "killed": killed, "writes": None}
        if n == 0:
            answer["writes"] = int((workspace.folder / NOTE).read_text())
        assert in_fork(workspace, restart, None) == 0
        for task, *arguments in ((look,), (work_on, None), (report,)):
            assert in_fork(workspace, task, *arguments) == 0
            if task is not work_on:
                answer |= json.loads((workspace.folder / "report.json").read_text())
        sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
