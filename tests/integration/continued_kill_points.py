"""Kill a worker that goes on with a campaign before its n-th write, and let another one finish; for many n.

Usage: continued_kill_points.py FOLDER URI BEGUN_JSON WANTED_JSON EVERY PROCESSES
BEGUN is run to its end once. Every n has a copy of its database, where the campaign is given again as WANTED:
first without a kill, then with one before each n-th write. One line of JSON each.
"""

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from kill_points import NOTE, Killer, begin, in_fork, make_workspace, report, warm_up, work_on
from pymongo import MongoClient

from godelta.store.workspace import Workspace

BASE = -1


def copy_from(workspace: Workspace, base: Workspace) -> None:
    """Fill the workspace's database with what is in another one."""
    (uri, old), (_, new) = base.database_uri(start=False), workspace.database_uri(start=False)
    with MongoClient(uri) as client:
        for name in client[old].list_collection_names():
            client[old][name].aggregate([{"$out": {"db": new, "coll": name}}])


def go_on(workspace: Workspace, values: dict[str, Any]) -> None:
    """Give the campaign again, with other values of what may change; the worker plans what follows."""
    from godelta.campaign import CampaignConfig
    from godelta.store import campaigns
    from godelta.workflows.submit import register

    store = workspace.connect()
    campaign_id = register(store, CampaignConfig.model_validate(values), Path()).campaign_id
    assert campaigns.reopen(store, campaign_id)
    assert campaigns.set_state(store, campaign_id, "paused", "running")


def one(folder: Path, base: Workspace, values: dict[str, Any], n: int) -> dict[str, Any]:
    """What the campaign found whose worker was killed before its n-th write."""
    workspace = make_workspace(folder, base.database_uri(start=False)[0], n)
    assert in_fork(workspace, copy_from, base) == 0
    assert in_fork(workspace, go_on, values) == 0
    status = in_fork(workspace, work_on, Killer(n, workspace.folder))
    killed = os.WIFSIGNALED(status)
    assert killed or status == 0, (workspace.logs / "work_on.log").read_text()[-3000:]
    if killed:
        in_fork(workspace, work_on, None)
    assert in_fork(workspace, report) == 0
    answer = json.loads((workspace.folder / "report.json").read_text())
    writes = int((workspace.folder / NOTE).read_text()) if n == 0 else None
    return {"n": n, "killed": killed, "writes": writes} | answer


def tell(answer: dict[str, Any]) -> None:
    """One line, in one write."""
    os.write(1, (json.dumps(answer) + "\n").encode())


def main() -> None:
    """Warm up, run what is begun, then fork."""
    folder, uri, begun, wanted = (
        Path(sys.argv[1]),
        sys.argv[2],
        json.loads(sys.argv[3]),
        json.loads(sys.argv[4]),
    )
    every, processes = int(sys.argv[5]), int(sys.argv[6])
    warm_up(make_workspace(folder, uri, -os.getpid()), wanted)
    base = make_workspace(folder, uri, BASE)
    for task, *arguments in ((begin, begun), (work_on, None)):
        assert in_fork(base, task, *arguments) == 0
    whole = one(folder, base, wanted, 0)
    tell(whole)
    points = range(1, whole["writes"], every)
    children = []
    for first in range(processes):
        if (pid := os.fork()) == 0:
            code = 1
            try:
                for n in points[first::processes]:
                    tell(one(folder, base, wanted, n))
                code = 0
            finally:
                if code:
                    traceback.print_exc()
                os._exit(code)
        children.append(pid)
    codes = [os.waitpid(pid, 0)[1] for pid in children]
    assert in_fork(base, report) == 0
    assert not any(codes), codes


if __name__ == "__main__":
    main()
