"""What FireWorks' queue and SLURM's hold of campaigns; nothing is changed, no engine is loaded.

Counted on the server: a thousand campaigns are one question.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from godelta.errors import GodeltaError
from godelta.store.database import Raw, Store
from godelta.store.detail import RoundStatus
from godelta.store.documents import RoundKey
from godelta.store.workers import WorkerName
from godelta.workflows import slurm
from godelta.workflows.launchpad import CAMPAIGN_FIELD, ROUND_METADATA
from godelta.workflows.slurm import BatchJob

SLURM_PATIENCE_S = 4.0  # a status is worth a few seconds at most
TAKEN = ("RUNNING", "RESERVED")
# In the order in which they are shown; what is done, or was taken off the queue, is left out.
SHOWN = {
    "READY": "ready",
    "WAITING": "waiting",
    "RESERVED": "running",
    "RUNNING": "running",
    "FIZZLED": "fizzled",
    "DEFUSED": "held",
    "PAUSED": "held",
}
LIGHT = "light"  # the category that every worker takes
REFUSED = "refused"  # field of a Firework that no worker builds, with the reason
COLUMNS = ("ready", "waiting", "running", "fizzled", "held", REFUSED)

QueueCounts = dict[str, Counter[str]]  # by category: how many jobs in which state


@dataclass(frozen=True)
class QueuedJob:
    """A job of a round: its state in the queue, and the worker that has it, or had it last."""

    fw_id: int
    name: str
    category: str
    state: str
    worker: str | None = None
    refused: str | None = None


@dataclass(frozen=True)
class Pilots:
    """The batch jobs of this database by category, and why SLURM could not be asked, if it could not."""

    jobs: dict[str, list[BatchJob]] = field(default_factory=dict)
    trouble: str | None = None

    def of(self, category: str) -> list[BatchJob]:
        """Those that take jobs of a category."""
        if category == LIGHT:
            return [job for jobs in self.jobs.values() for job in jobs]
        return self.jobs.get(category, [])


def queue_counts(store: Store, campaign_ids: Collection[str] | None = None) -> dict[str, QueueCounts]:
    """How many jobs of each campaign are in the queue, by category and state; None: of all campaigns.

    Returns
    -------
    dict
        By campaign; jobs of none stand under "". The states are those of `COLUMNS`.
    """
    match: Raw = {"state": {"$in": list(SHOWN)}}
    if campaign_ids is not None:
        match[f"spec.{CAMPAIGN_FIELD}"] = {"$in": list(campaign_ids)}
    key = {
        "campaign_id": f"$spec.{CAMPAIGN_FIELD}",
        "category": "$spec._category",
        "state": {"$cond": [{"$gt": [f"${REFUSED}", None]}, REFUSED, "$state"]},
    }
    found: dict[str, QueueCounts] = {}
    for raw in store.db["fireworks"].aggregate(
        [{"$match": match}, {"$group": {"_id": key, "count": {"$sum": 1}}}]
    ):
        group = raw["_id"]
        counts = found.setdefault(str(group.get("campaign_id") or ""), {})
        state = SHOWN.get(group["state"], REFUSED)
        counts.setdefault(_category(group.get("category")), Counter())[state] += raw["count"]
    return found


def jobs_of(
    store: Store, campaign_id: str, rounds: Sequence[RoundStatus]
) -> dict[tuple[int, int], list[QueuedJob]]:
    """The jobs of these rounds that are in the queue, by chain and round."""
    if not rounds:
        return {}
    mark = f"metadata.{ROUND_METADATA}"
    starts = [f"{RoundKey(campaign_id, one.chain, one.round)}/{one.epoch}" for one in rounds]
    # The round's own workflow, and those that close it early: "0" follows "/".
    ours = {"$or": [{mark: {"$gte": start, "$lt": f"{start}0"}} for start in starts]}
    place_of: dict[int, tuple[int, int]] = {}
    for raw in store.db["workflows"].find(ours, {"nodes": 1, mark: 1}):
        _, chain, k, *_ = raw["metadata"][ROUND_METADATA].split("/")
        place_of |= dict.fromkeys(raw["nodes"], (int(chain), int(k)))
    wanted = ("fw_id", "name", "state", "launches", "spec._category", REFUSED)
    query = {"fw_id": {"$in": list(place_of)}, "state": {"$in": list(SHOWN)}}
    documents = list(store.db["fireworks"].find(query, dict.fromkeys(wanted, 1)).sort("fw_id", 1))
    names = _workers_of(store, documents)
    found: dict[tuple[int, int], list[QueuedJob]] = {}
    for raw in documents:
        job = QueuedJob(
            raw["fw_id"],
            raw.get("name", ""),
            _category(raw["spec"].get("_category")),
            REFUSED if raw.get(REFUSED) else SHOWN[raw["state"]],
            worker=names.get(raw["fw_id"]),
            refused=raw.get(REFUSED),
        )
        found.setdefault(place_of[raw["fw_id"]], []).append(job)
    return found


def _workers_of(store: Store, fireworks: Sequence[Raw]) -> dict[int, str]:
    """Names of the workers that took jobs last, without the generation."""
    launches = {raw["launches"][-1]: raw["fw_id"] for raw in fireworks if raw.get("launches")}
    cursor = store.db["launches"].find(
        {"launch_id": {"$in": list(launches)}}, {"launch_id": 1, "fworker.name": 1}
    )
    return {launches[raw["launch_id"]]: _worker(raw) for raw in cursor}


def busy_workers(store: Store) -> set[str]:
    """Names of the workers that have a job of the queue."""
    cursor = store.db["launches"].find({"state": {"$in": TAKEN}}, {"fworker.name": 1})
    return {_worker(raw) for raw in cursor}


def _worker(launch: Raw) -> str:
    """The name of a launch's worker without the generation."""
    text = str((launch.get("fworker") or {}).get("name", ""))
    name = WorkerName.parse(text)
    return text if name is None else name.process


def _category(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")


def pilots(store: Store) -> Pilots:
    """The batch jobs of this database; none where it has never sent one, or there is no SLURM."""
    note: Mapping[str, Any] | None = store.db["meta"].find_one({"_id": "pilots"})
    if note is None or not slurm.is_here():
        return Pilots()
    prefix = str(note["prefix"])
    jobs: dict[str, list[BatchJob]] = {}
    try:
        for job in slurm.queue(prefix, timeout_s=SLURM_PATIENCE_S):
            jobs.setdefault(job.name.removeprefix(prefix), []).append(job)
    except GodeltaError as error:
        return Pilots(trouble=error.what)
    except ValueError:
        return Pilots(trouble="SLURM's answer cannot be read")
    return Pilots(jobs)
