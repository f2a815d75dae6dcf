"""What the queue holds of campaigns, and which jobs nobody will take."""

from datetime import timedelta

import pytest

from godelta.store import workers
from godelta.store.workers import WorkerName
from godelta.workflows.planner import advance
from godelta.workflows.queue import uncovered

FAR = WorkerName("node7", "0123456789ab", 12, 3.5)


@pytest.mark.parametrize(
    ("signs_on", "missing"),
    [
        ({}, {}),
        ({"takes": ["search-ase"]}, {}),
        ({"takes": ["search-chgnet", "evaluate-emt"]}, {"search-ase": 2}),
        ({"takes": ["search-ase"], "campaign_id": "one"}, {"search-ase": 1}),
        ({"campaign_id": "another"}, {"search-ase": 2}),
    ],
)
def test_jobs_that_no_worker_will_take(start, opened, launchpad, signs_on, missing):
    ids = {name: start(name, seed=seed) for seed, name in enumerate(("one", "two"))}
    for campaign_id in ids.values():
        advance(opened, launchpad, campaign_id)
    assert uncovered(opened, launchpad, ids.values()) == {"search-ase": 2}
    keeps_to = ids.get(signs_on.get("campaign_id"), signs_on.get("campaign_id"))
    workers.sign_on(opened, FAR, **(signs_on | {"campaign_id": keeps_to}))
    assert uncovered(opened, launchpad, ids.values()) == missing
    opened.workers.update_one({}, {"$set": {"seen": opened.now() - timedelta(hours=1)}})
    assert uncovered(opened, launchpad, ids.values()) == {"search-ase": 2}  # it is gone
    assert uncovered(opened, launchpad, [ids["one"]]) == {"search-ase": 1}
