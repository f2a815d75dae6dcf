"""Taking jobs off FireWorks' queue, and what it holds of a campaign."""

import contextlib
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from godelta.store import workers
from godelta.store.database import Store
from godelta.store.documents import RoundKey
from godelta.store.workers import BatchLives
from godelta.workflows.launchpad import ROUND_METADATA
from godelta.workflows.round import CAMPAIGN_FIELD, LIGHT

if TYPE_CHECKING:
    from fireworks import LaunchPad

NOT_BEGUN = ("READY", "WAITING")
TAKEN = ("RUNNING", "RESERVED")
LOCK_S = 5.0  # FireWorks holds the lock of a workflow for milliseconds


@dataclass(frozen=True)
class TakenJob:
    """A job that a worker has taken."""

    fw_id: int
    name: str
    category: str
    worker: str | None


def archive(launchpad: "LaunchPad", nodes: Collection[int]) -> None:
    """Take all of a workflow's jobs off the queue, whatever they are at.

    LaunchPad.archive_wf would make every job READY for a moment, and a worker could take it.
    """
    ids = list(nodes)
    if not ids:
        return
    launchpad.fireworks.update_many({"fw_id": {"$in": ids}}, {"$set": {"state": "ARCHIVED"}})
    launchpad.workflows.update_one(
        {"nodes": {"$in": ids}},
        {"$set": {"state": "ARCHIVED", "fw_states": {str(node): "ARCHIVED" for node in ids}}},
    )


def archive_former(launchpad: "LaunchPad", key: RoundKey, epoch: int) -> None:
    """Take the workflows of a round's former epochs off the queue, also where that was interrupted."""
    query = {f"metadata.{ROUND_METADATA}": _under(str(key)), "state": {"$ne": "ARCHIVED"}}
    for raw in launchpad.workflows.find(query, {"nodes": 1, "metadata": 1}):
        if int(raw["metadata"][ROUND_METADATA].split("/")[3]) < epoch:
            archive(launchpad, raw["nodes"])


def _under(start: str) -> dict[str, str]:
    """The condition on a mark that it goes on from there."""
    return {"$gte": f"{start}/", "$lt": f"{start}0"}  # "0" follows "/"


def orphans(launchpad: "LaunchPad", campaign_id: str) -> list[int]:
    """Ids of the campaign's jobs that are in no workflow: a worker would wait for the lock of none.

    FireWorks adds the workflow before its jobs, so these are none that are being added just now.
    """
    query = {
        f"spec.{CAMPAIGN_FIELD}": campaign_id,
        "state": {"$in": [*NOT_BEGUN, *TAKEN]},
    }
    found = launchpad.fireworks.distinct("fw_id", query)
    if not found:
        return []
    held = {node for raw in launchpad.workflows.find({"nodes": {"$in": found}}) for node in raw["nodes"]}
    return [node for node in found if node not in held]


def take_off(launchpad: "LaunchPad", campaign_id: str) -> int:
    """Take all of a campaign's jobs off the queue that no worker has taken; how many.

    What is under way goes on to its end. In FireWorks' lock: a job that ends makes its children ready by
    writing them whole, as it read them.
    """
    archive(launchpad, orphans(launchpad, campaign_id))
    query = {f"spec.{CAMPAIGN_FIELD}": campaign_id, "state": {"$in": NOT_BEGUN}}
    count = 0
    for workflow in launchpad.workflows.find(
        {"nodes": {"$in": launchpad.fireworks.distinct("fw_id", query)}}, {"nodes": 1}
    ):
        count += _take_off_of(launchpad, workflow["nodes"])
    return count


def _take_off_of(launchpad: "LaunchPad", nodes: list[int]) -> int:
    from fireworks.core.launchpad import WFLock

    with contextlib.suppress(ValueError), WFLock(launchpad, nodes[0], expire_secs=LOCK_S, kill=True):
        result = launchpad.fireworks.update_many(
            {"fw_id": {"$in": nodes}, "state": {"$in": NOT_BEGUN}}, {"$set": {"state": "ARCHIVED"}}
        )
        off = launchpad.fireworks.distinct("fw_id", {"fw_id": {"$in": nodes}, "state": "ARCHIVED"})
        states = {f"fw_states.{node}": "ARCHIVED" for node in off}
        if states:
            launchpad.workflows.update_one({"nodes": nodes[0]}, {"$set": states})
        return int(result.modified_count)
    return 0  # the workflow has gone meanwhile


def taken_jobs(launchpad: "LaunchPad", nodes: Collection[int]) -> list[TakenJob]:
    """The jobs of a workflow that workers have taken, with the workers' names."""
    found = []
    query = {"fw_id": {"$in": list(nodes)}, "state": {"$in": TAKEN}}
    for raw in launchpad.fireworks.find(query, {"fw_id": 1, "name": 1, "launches": 1, "spec._category": 1}):
        launch = launchpad.launches.find_one(
            {"launch_id": {"$in": raw["launches"]}, "state": {"$in": TAKEN}}, sort=[("launch_id", -1)]
        )
        worker = None if launch is None else launch["fworker"]["name"]
        found.append(TakenJob(raw["fw_id"], raw["name"], raw["spec"].get("_category", ""), worker))
    return found


def jobs_under_way(launchpad: "LaunchPad", campaign_id: str) -> int:
    """How many jobs of a campaign workers have taken."""
    return int(
        launchpad.fireworks.count_documents({f"spec.{CAMPAIGN_FIELD}": campaign_id, "state": {"$in": TAKEN}})
    )


def locked_workflows(launchpad: "LaunchPad", campaign_id: str) -> list[dict[str, Any]]:
    """The campaign's workflows that are locked at this moment, but for archived ones."""
    query = {f"metadata.{ROUND_METADATA}": _under(campaign_id), "locked": True, "state": {"$ne": "ARCHIVED"}}
    return list(
        launchpad.workflows.find(query, {"nodes": 1, "updated_on": 1, f"metadata.{ROUND_METADATA}": 1})
    )


def stale_locks(launchpad: "LaunchPad", campaign_id: str) -> list[dict[str, Any]]:
    """The workflows whose lock belongs to a worker that was killed while it held it.

    Nothing in the database tells them from others, so they are watched for a while: a lock is stale if it
    was never seen open, and the workflow never changed.
    """
    suspects = {raw["_id"]: raw for raw in locked_workflows(launchpad, campaign_id)}
    deadline = time.monotonic() + LOCK_S
    while suspects and time.monotonic() < deadline:
        time.sleep(0.1)
        still = {raw["_id"]: raw["updated_on"] for raw in locked_workflows(launchpad, campaign_id)}
        suspects = {key: raw for key, raw in suspects.items() if still.get(key) == raw["updated_on"]}
    return list(suspects.values())


def unlock(launchpad: "LaunchPad", workflow: dict[str, Any]) -> bool:
    """Open a stale lock, unless the workflow has changed since; whether it was opened."""
    query = {"_id": workflow["_id"], "locked": True, "updated_on": workflow["updated_on"]}
    return bool(launchpad.workflows.update_one(query, {"$unset": {"locked": True}}).modified_count)


def uncovered(
    store: Store, launchpad: "LaunchPad", campaign_ids: Collection[str], batch_lives: BatchLives | None = None
) -> Counter[str]:
    """Jobs of these campaigns that wait for a worker, by category, where no living worker takes them."""
    query = {"state": "READY", f"spec.{CAMPAIGN_FIELD}": {"$in": list(campaign_ids)}}
    waiting = Counter(
        (raw["spec"][CAMPAIGN_FIELD], raw["spec"].get("_category", ""))
        for raw in launchpad.fireworks.find(query, {"spec._category": 1, f"spec.{CAMPAIGN_FIELD}": 1})
    )
    for worker in store.workers.find():
        takes, keeps_to = worker.get("takes") or (), worker.get("campaign_id")
        covered = [
            (campaign_id, category)
            for campaign_id, category in waiting
            if keeps_to in (None, campaign_id) and (not takes or category in (*takes, LIGHT))
        ]
        name = f"{worker['name']}#{worker.get('generation', 0)}"
        if covered and not workers.is_gone(store, name, batch_lives):
            for key in covered:
                del waiting[key]
    left: Counter[str] = Counter()
    for (_, category), count in waiting.items():
        left[category] += count
    return left
