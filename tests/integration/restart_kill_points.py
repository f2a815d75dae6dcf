"""Kill a command before its n-th write, give it again, finish the campaign, and report.

Usage: restart_kill_points.py FOLDER MONGODB_URI CONFIG_JSON COMMAND DAMAGE. First without a kill, then for
every write; one line of JSON each. Everything is forked from one process that has imported it already.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
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


def pause(workspace: Workspace, killer: Killer | None) -> None:
    """Take the campaign off the queue."""
    from godelta.workflows.pausing import pause

    _by_name(workspace, killer, pause)


def cancel(workspace: Workspace, killer: Killer | None) -> None:
    """Give the campaign up."""
    from godelta.workflows.pausing import cancel

    _by_name(workspace, killer, cancel)


def resume(workspace: Workspace, killer: Killer | None) -> None:
    """Have it go on."""
    from godelta.workflows.pausing import resume

    _by_name(workspace, killer, partial(resume, reopen=True))


def _by_name(workspace: Workspace, killer: Killer | None, command: Callable[..., Any]) -> None:
    from godelta.store import campaigns

    be_impatient()
    if killer is not None:
        killer.begin()
    store, launchpad = workspace.connect(), open_launchpad(workspace)
    command(store, launchpad, campaigns.list_campaigns(store)[0].name)


def in_the_queue(workspace: Workspace) -> dict[str, Any]:
    """The campaign's state, and what a worker could take of it."""
    from godelta.store import campaigns

    store, launchpad = workspace.connect(), open_launchpad(workspace)
    takable = launchpad.fireworks.count_documents({"state": {"$in": ["READY", "WAITING"]}})
    return {"stopped": campaigns.list_campaigns(store)[0].state, "takable": takable}


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


# What comes before a command; itself, given twice and killed the first time; what comes after it.
COMMANDS: dict[str, tuple[list[Any], Any, list[Any]]] = {
    "restart": ([], restart, [(look,)]),
    "pause": ([], pause, [(in_the_queue,), (resume, None)]),
    "cancel": ([], cancel, [(in_the_queue,), (resume, None)]),
    "resume": ([(pause, None), (in_the_queue,)], resume, []),
}


def main() -> None:
    """Warm up, then fork."""
    folder, uri, values, command, kind = (
        Path(sys.argv[1]),
        sys.argv[2],
        json.loads(sys.argv[3]),
        *sys.argv[4:],
    )
    warm_up(make_workspace(folder, uri, -os.getpid()), values)
    whole = one(make_workspace(folder, uri, 0), 0, values, command, kind)
    tell(whole)
    for n in range(1, whole["writes"] + 1):
        tell(one(make_workspace(folder, uri, n), n, values, command, kind))


def tell(answer: dict[str, Any]) -> None:
    """A line of JSON."""
    sys.stdout.write(json.dumps(answer) + "\n")


def one(workspace: Workspace, n: int, values: dict[str, Any], words: str, kind: str) -> dict[str, Any]:
    """The campaign's whole life with the n-th write of the command killed."""
    before, command, after = COMMANDS[words]
    answer: dict[str, Any] = {"n": n}
    said = workspace.folder / "report.json"

    def do(task: Any, *arguments: Any) -> None:
        said.unlink(missing_ok=True)
        assert in_fork(workspace, task, *arguments) == 0, printed(workspace, task)
        if said.exists():
            answer.update(json.loads(said.read_text()))

    do(begin, values)
    do(damage, kind)
    for task, *arguments in before:
        do(task, *arguments)
    status = in_fork(workspace, command, Killer(n, workspace.folder))
    answer["killed"] = os.WIFSIGNALED(status)
    assert answer["killed"] or status == 0, printed(workspace, command)
    answer["writes"] = int((workspace.folder / NOTE).read_text()) if n == 0 else None
    do(command, None)
    for task, *arguments in after:
        do(task, *arguments)
    do(work_on, None)
    do(report)
    return answer


def printed(workspace: Workspace, task: Any) -> str:
    """The end of what a task printed."""
    return (workspace.logs / f"{task.__name__}.log").read_text()[-3000:]


if __name__ == "__main__":
    main()
