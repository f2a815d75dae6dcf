"""Batch jobs for what waits in the queue: how many of which class, sent one by one.

A batch job is a pilot: a worker that takes jobs of its category until its time is over or none is left.
SLURM's own queue says which pilots there are (by their names), so a launcher that is killed forgets nothing.
"""

import logging
import math
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from godelta.campaign import CampaignConfig
from godelta.errors import GodeltaError
from godelta.resources import BatchResources
from godelta.store import campaigns
from godelta.store.database import Store
from godelta.store.workers import WorkerName
from godelta.store.workspace import Workspace
from godelta.workflows import slurm
from godelta.workflows.pilots import PILOTS, SCRIPT, make_folder, note_sent, remove_folder, stillborn
from godelta.workflows.resource_classes import ResourceClass, class_for, pilot_prefix, role_of
from godelta.workflows.round import CAMPAIGN_FIELD, LIGHT, categories
from godelta.workflows.slurm import WAITING, BatchJob

if TYPE_CHECKING:
    from fireworks import LaunchPad

ALIVE = timedelta(seconds=90)  # a worker gives a sign of life every 20 s

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pilots:
    """The batch jobs of one category that there are."""

    waiting: int = 0
    running: int = 0
    starting: int = 0  # of those running: no worker has signed on yet

    @property
    def all(self) -> int:
        """Their number."""
        return self.waiting + self.running


@dataclass
class Launched:
    """What one look at the queue led to."""

    sent: dict[str, list[str]] = field(default_factory=dict)  # category: job ids
    refused: dict[str, GodeltaError] = field(default_factory=dict)
    full: list[str] = field(default_factory=list)  # categories whose limit is reached


def ready_jobs(launchpad: "LaunchPad", campaign_ids: Iterable[str]) -> Counter[str]:
    """How many jobs of these campaigns wait for a worker, by category."""
    match = {"state": "READY", f"spec.{CAMPAIGN_FIELD}": {"$in": list(campaign_ids)}}
    group = {"_id": "$spec._category", "count": {"$sum": 1}}
    rows = launchpad.fireworks.aggregate([{"$match": match}, {"$group": group}])
    return Counter({row["_id"]: row["count"] for row in rows})


def pilots(jobs: Iterable[BatchJob], prefix: str, signed_on: Iterable[str]) -> dict[str, Pilots]:
    """The batch jobs of a database by category; `signed_on`: those that a worker lives in."""
    known = set(signed_on)
    found: dict[str, Counter[str]] = {}
    for job in jobs:
        count = found.setdefault(job.name.removeprefix(prefix), Counter())
        waits = job.state in WAITING
        count["waiting" if waits else "running"] += 1
        count["starting"] += not waits and job.job_id not in known
    return {category: Pilots(**count) for category, count in found.items()}


def wanted(ready: int, there: Pilots, idle: int, class_: ResourceClass) -> int:
    """How many pilots to send: enough for the jobs that wait, less those that will take them anyway."""
    needed = math.ceil(ready / class_.settings.pack) - there.waiting - there.starting - idle
    return max(0, min(needed, class_.settings.max_pilots - there.all))


def launch(workspace: Workspace, store: Store, launchpad: "LaunchPad", since: float = 0.0) -> Launched:
    """Send the batch jobs that the queue needs now; may be called at any time, any number of times.

    A class that SLURM refuses is noted and does not keep the others from being sent.

    Parameters
    ----------
    since
        POSIX time; batch jobs that failed earlier are forgiven.

    Raises
    ------
    GodeltaError
        SLURM does not answer.
    """
    configs = [
        (campaign.campaign_id, CampaignConfig.model_validate(campaign.config))
        for campaign in campaigns.list_campaigns(store)
        if campaign.state == "running"
    ]
    ready = ready_jobs(launchpad, [campaign_id for campaign_id, _ in configs])
    own = own_resources(config for _, config in configs)
    prefix = pilot_prefix(store)
    jobs = slurm.queue(prefix)
    living = {job.job_id for job in jobs}
    idle, signed_on = _workers(store, launchpad, living)
    there = pilots(jobs, prefix, signed_on)
    outcome = Launched()
    for category, count in sorted(ready.items()):
        if category == LIGHT and (there or idle or len(ready) > 1):
            continue  # every worker takes light jobs
        try:
            class_ = class_for(workspace, category, own.get(category))
            present = there.get(category, Pilots())
            number = wanted(count, present, idle[category], class_)
            if present.all >= class_.settings.max_pilots:
                outcome.full.append(category)
            failed = stillborn(workspace, category, living, since)
            if number and failed and time.time() < failed.until:
                raise failed.error()
            for _ in range(number):
                job_id = _send(workspace, class_, prefix + category)
                outcome.sent.setdefault(category, []).append(job_id)
        except GodeltaError as error:
            log.error("no batch job for %s: %s", category, error)
            outcome.refused[category] = error
    return outcome


def own_resources(configs: Iterable[CampaignConfig]) -> dict[str, BatchResources]:
    """What the categories of these campaigns ask for beyond the workspace's files."""
    found = {}
    for config in configs:
        for category in set(categories(config).values()):
            found[category] = config.resources.of(role_of(category))
    return found


def _workers(
    store: Store, launchpad: "LaunchPad", living: Collection[str] | None = None
) -> tuple[Counter[str], set[str]]:
    """How many workers without a job take each category, and the batch jobs of living workers.

    One that was killed has not signed off: SLURM is asked for batch jobs that are not among those `living`.
    """
    running = launchpad.launches.find({"state": "RUNNING"}, {"fworker.name": 1})
    parsed = (WorkerName.parse(launch["fworker"]["name"]) for launch in running)
    busy = {name.process for name in parsed if name is not None}
    idle: Counter[str] = Counter()
    jobs = set()
    seen = list(store.workers.find({"seen": {"$gt": store.now() - ALIVE}}))
    own = {worker["batch_job"] for worker in seen if worker.get("batch_job")}
    lives = {} if living is None else slurm.living(own - set(living))
    for worker in seen:
        if job := worker.get("batch_job"):
            if not lives.get(job, True):
                continue
            jobs.add(job)
        if worker["name"] not in busy:
            idle.update(worker.get("takes") or ())
    return idle, jobs


def _send(workspace: Workspace, class_: ResourceClass, job_name: str) -> str:
    """Write a batch script into a folder of its own and hand it in; the job's id."""
    folder = make_folder(workspace, class_.category)
    script = folder / SCRIPT
    try:
        script.write_text(class_.script(folder, job_name), encoding="utf-8")
    except OSError as error:
        remove_folder(folder)
        raise GodeltaError(
            f"the batch script cannot be written: {error.strerror}",
            where=str(folder.parent),
            mend="make room in the workspace, or lower your quota's use; then give the command again",
        ) from None
    try:
        job_id = slurm.submit(script)
    except GodeltaError as error:
        remove_folder(folder)
        error.where = str(class_.path)
        raise
    note_sent(folder, job_id)
    log.info("batch job %s sent for %s", job_id, class_.category)
    return job_id


def scripts(workspace: Workspace, configs: Mapping[str, CampaignConfig]) -> dict[str, str]:
    """The batch scripts of these campaigns' categories as `launch` would write them, by category."""
    prefix = "godelta.NNNNNNNN."
    return {
        category: class_for(workspace, category, own).script(
            workspace.state / PILOTS / f"{category}-NNNNNNNNNNNN", prefix + category
        )
        for category, own in sorted(own_resources(configs.values()).items())
    }
