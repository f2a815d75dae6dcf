"""Kill a worker right before its n-th write to the database or to a file, let another one finish; for many n.

Usage: python kill_points.py FOLDER URI N...   (N = 0: nothing is killed)
Prints one JSON document per N: what the campaign found, and how many writes there were.

What a worker imports and compiles is there before it is forked: see warm_up.
"""

import contextlib
import hashlib
import importlib
import json
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pymongo.monitoring
from ase import Atoms
from pymongo.monitoring import CommandListener

from godelta.delta.settings import SOAPSettings
from godelta.delta.soap import SOAP
from godelta.store.workspace import Workspace
from godelta.workflows.launchpad import configure_engines, open_launchpad

WRITES = {"insert", "update", "delete", "findAndModify"}
FILE_EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}
NOTE = "writes"
MODULES = "modules"
LIMIT_S = 120.0


class Killer(CommandListener):
    """Counts the writes that this process makes, and ends it without a word before the n-th."""

    def __init__(self, n: int, folder: Path) -> None:
        self.n, self.folder, self.count = n, str(folder), 0
        self.note = os.open(folder / NOTE, os.O_WRONLY | os.O_CREAT)

    def begin(self) -> None:
        """Look at every command and every change of a file in the workspace from now on."""
        pymongo.monitoring.register(self)
        sys.addaudithook(self.audit)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        else:
            path, writes = arguments[0] if arguments else "", event in FILE_EVENTS
        if writes and str(path).startswith(self.folder) and "/logs/" not in str(path):
            self.one_more()

    def one_more(self) -> None:
        self.count += 1
        if self.n == 0:
            os.pwrite(self.note, str(self.count).encode(), 0)
        if 0 < self.n <= self.count:  # pings count too, from a thread of their own
            os.kill(os.getpid(), signal.SIGKILL)

    def started(self, event: Any) -> None:
        if event.command_name in WRITES:
            self.one_more()

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass


def make_workspace(folder: Path, uri: str, n: int) -> Workspace:
    """A workspace with a database of its own."""
    home = folder / str(n)
    home.mkdir(exist_ok=True)
    name = f"test_kill_{os.getpid()}_{n}"
    (home / "godelta.yaml").write_text(f"database: {{uri: '{uri}', name: {name}}}\n")
    (home / "godelta.yaml").chmod(0o600)
    workspace = Workspace(home)
    workspace.prepare()
    return workspace


def begin(workspace: Workspace, values: dict[str, Any]) -> None:
    """Register the campaign and plan it."""
    from godelta.campaign import CampaignConfig
    from godelta.store import campaigns
    from godelta.workflows.planner import advance
    from godelta.workflows.submit import register

    store = workspace.connect()
    campaign = register(store, CampaignConfig.model_validate(values), Path())
    campaigns.set_state(store, campaign.campaign_id, "created", "running")
    advance(store, open_launchpad(workspace), campaign.campaign_id)


def work_on(workspace: Workspace, killer: Killer | None) -> None:
    """Be a worker, with a planner at hand, until the campaign has ended."""
    from godelta.store import campaigns
    from godelta.workflows import health
    from godelta.workflows.planner import advance
    from godelta.workflows.worker import WorkerOptions, work

    health.STUCK_AFTER = timedelta(seconds=1)
    if killer is not None:
        killer.begin()
    store = workspace.connect()
    campaign_id = campaigns.list_campaigns(store)[0].campaign_id
    deadline = time.monotonic() + LIMIT_S
    while campaigns.get_campaign(store, campaign_id).state == "running" and time.monotonic() < deadline:
        advance(store, open_launchpad(workspace), campaign_id)
        work(workspace, WorkerOptions(campaign_id=campaign_id, idle_seconds=0.3))


def report(workspace: Workspace) -> dict[str, Any]:
    """What the campaign found; its database is dropped."""
    from godelta.store import campaigns, evaluations, rounds, structures

    store = workspace.connect()
    campaign = campaigns.list_campaigns(store)[0]
    every_round = rounds.rounds_of(store, campaign.campaign_id)
    walkers = [rounds.load_search_state(store, round_.key) or b"" for round_ in every_round]
    selections = []
    for round_ in every_round:
        documents = [structures.get_structure(store, i) for i in round_.selection]
        done = [
            evaluations.get_evaluation(store, d.structure_hash, campaign.reference_hash) for d in documents
        ]
        selections.append(
            [[d.structure_hash, d.model_energy, e.energy] for d, e in zip(documents, done, strict=True)]
        )
    answer = {
        "state": campaign.state,
        "reason": campaign.reason,
        "rounds": [round_.state for round_ in every_round],
        "failures": [round_.failures for round_ in every_round],
        "selections": selections,
        "progress": [round_.progress for round_ in every_round],
        "statistics": [round_.statistics for round_ in every_round],
        "walkers": [hashlib.sha256(blob).hexdigest() for blob in walkers],
        "spent": campaign.spent,
        "reserved": list(campaign.reserved),
        "pending": store.evaluations.count_documents({"state": "pending"}),
        "computed": sum(
            attempt["outcome"] == "ok" for raw in store.evaluations.find() for attempt in raw["attempts"]
        ),
        "started": sum(raw["token"] for raw in store.evaluations.find()),
        "models": store.models.count_documents({}),
    }
    store.db.client.drop_database(store.db.name)
    return answer


def in_fork(workspace: Workspace, task: Any, *arguments: Any) -> int:
    """Do a task in a fork of this process; the status that it ended with."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            log = os.open(workspace.logs / f"{task.__name__}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            configure_engines(workspace)
            result = task(workspace, *arguments)
            if result is not None:
                (workspace.folder / "report.json").write_text(json.dumps(result))
            (workspace.folder / MODULES).write_text("\n".join(sys.modules))
            code = 0
        finally:
            if code:
                import traceback

                traceback.print_exc()
            os._exit(code)
    return os.waitpid(pid, 0)[1]


def _noted(workspace: Workspace) -> int:
    return int((workspace.folder / NOTE).read_text())


def warm_up(workspace: Workspace, values: dict[str, Any]) -> None:
    """Import all that a worker imports, and load the compiled kernels: most of a short campaign's time."""
    configure_engines(workspace)  # FireWorks reads its configuration on import
    for task, *arguments in ((begin, values), (work_on, None), (report,)):
        assert in_fork(workspace, task, *arguments) == 0
        for name in (workspace.folder / MODULES).read_text().split():
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
    soap = SOAP(SOAPSettings(), [29, 47])
    features, context = soap.describe(Atoms("CuAg", [[0.0, 0.0, 0.0], [2.5, 0.0, 0.0]]))
    soap.vjp(context, features)


def main() -> None:
    """Warm up, then fork."""
    folder, uri, values = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    warm_up(make_workspace(folder, uri, -os.getpid()), values)
    for n in map(int, sys.argv[4:]):
        workspace = make_workspace(folder, uri, n)
        assert in_fork(workspace, begin, values) == 0
        status = in_fork(workspace, work_on, Killer(n, workspace.folder))
        killed = os.WIFSIGNALED(status)
        assert killed or status == 0, (workspace.logs / "work_on.log").read_text()[-3000:]
        if killed:
            in_fork(workspace, work_on, None)
        assert in_fork(workspace, report) == 0
        answer = json.loads((workspace.folder / "report.json").read_text())
        found = {"n": n, "killed": killed, "writes": _noted(workspace) if n == 0 else None} | answer
        sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
