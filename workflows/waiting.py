"""What a campaign waits for, in sentences for people: what is to be done, and by whom."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from godelta.campaign import CampaignConfig
from godelta.store.database import Store
from godelta.store.detail import Detail, RoundStatus, WorkerStatus, all_workers, detail
from godelta.store.documents import REFINEMENT_CHAIN, CampaignDocument
from godelta.store.overview import Overview, overviews
from godelta.store.refining import RefinementStatus, refinement_status
from godelta.store.rounds import Barren, barren, last_round
from godelta.store.stopping import end_of_chain, end_of_refinement, is_early
from godelta.store.workspace import Workspace
from godelta.workflows.minima import LowMinima, low_minima
from godelta.workflows.overview import (
    Pilots,
    QueueCounts,
    QueuedJob,
    busy_workers,
    jobs_of,
    pilots,
    queue_counts,
)
from godelta.workflows.pilots import Stillborn, stillborn
from godelta.workflows.slurm import WAITING, BatchJob

MOST_CHAINS = 20  # that are told of one by one
OF_LATE_S = 86400.0
MANY_BARREN = 3  # rounds in a row without anything to evaluate: one or two happen in any search


@dataclass(frozen=True)
class Situation:
    """What is known of one campaign.

    Parameters
    ----------
    jobs
        Jobs of the rounds that are open, by chain and round.
    busy
        Names of the workers that have a job.
    ends
        Why chains have ended, by chain.
    low_minima
        What independent chains have found; None where chains share.
    refinement
        What is refined; None where that has not begun.
    refines
        Whether another round of that follows when the search has ended.
    barren
        By chain, its last rounds where these had nothing to evaluate.
    stillborn
        By category, batch jobs of late that ended before they took a job, and where what they printed lies.
    """

    overview: Overview
    detail: Detail
    queue: QueueCounts
    jobs: dict[tuple[int, int], list[QueuedJob]]
    workers: list[WorkerStatus]
    busy: frozenset[str]
    pilots: Pilots
    ends: Mapping[int, str] = field(default_factory=dict)
    low_minima: LowMinima | None = None
    refinement: RefinementStatus | None = None
    refines: bool = False
    stillborn: Mapping[str, Stillborn] = field(default_factory=dict)
    barren: Mapping[int, Barren] = field(default_factory=dict)

    @property
    def gone(self) -> frozenset[str]:
        """Names of the workers that live no more."""
        return frozenset(worker.name for worker in self.workers if not worker.alive)

    @property
    def at_work(self) -> bool:
        """Whether a job of an open round is being done, by a worker that is not known to be gone."""
        running = [job for jobs in self.jobs.values() for job in jobs if job.state == "running"]
        return any(job.worker not in self.gone for job in running)

    @property
    def serving(self) -> list[WorkerStatus]:
        """The living workers that take jobs of this campaign."""
        campaign_id, categories = self.overview.campaign_id, set(self.queue) or {""}
        return [w for w in self.workers if any(w.serves(campaign_id, category) for category in categories)]

    @property
    def batch_jobs(self) -> dict[str, list[BatchJob]]:
        """The batch jobs that take jobs of this campaign, by category."""
        return {category: jobs for category, jobs in self.pilots.jobs.items() if category in self.queue}


def look(
    store: Store,
    campaign: CampaignDocument,
    workspace: Workspace | None = None,
    *,
    every_round: bool = False,
) -> Situation:
    """Look at one campaign; SLURM is given a few seconds to answer.

    Parameters
    ----------
    workspace
        Where batch jobs leave what they printed.
    every_round
        Look at all rounds, not only at the latest of each chain.
    """
    config = CampaignConfig.model_validate(campaign.config)
    workers = all_workers(store)
    (overview,) = overviews(store, name=campaign.campaign_id, count_all=True)
    found = detail(store, campaign, workers, every_round=every_round)
    open_rounds = [round_ for round_ in found.rounds if round_.state != "closed"]
    queue = queue_counts(store, [campaign.campaign_id]).get(campaign.campaign_id, {})
    sent = pilots(store)
    return Situation(
        overview,
        found,
        queue,
        jobs_of(store, campaign.campaign_id, open_rounds),
        workers,
        frozenset(busy_workers(store)),
        sent,
        _ends(store, campaign, config, None if every_round else MOST_CHAINS),
        low_minima(store, campaign, config),
        refinement_status(store, campaign, config),
        _refines(store, campaign, config),
        {} if workspace is None or sent.trouble else _stillborn(workspace, queue, sent),
        {c: barren(store, campaign.campaign_id, c) for c in range(config.budget.chains)[:MOST_CHAINS]},
    )


def _ends(
    store: Store, campaign: CampaignDocument, config: CampaignConfig, most: int | None
) -> dict[int, str]:
    """Why the first chains have ended, those that have."""
    found = {}
    for chain in range(config.budget.chains)[:most]:
        last = last_round(store, campaign.campaign_id, chain)
        if last is not None and (reason := end_of_chain(store, config, last)) is not None:
            found[chain] = reason
    return found


def _refines(store: Store, campaign: CampaignDocument, config: CampaignConfig) -> bool:
    last = last_round(store, campaign.campaign_id, REFINEMENT_CHAIN)
    return end_of_refinement(store, campaign.campaign_id, config, last) is None


def _stillborn(workspace: Workspace, queue: QueueCounts, sent: Pilots) -> dict[str, Stillborn]:
    living = {job.job_id for jobs in sent.jobs.values() for job in jobs}
    since = time.time() - OF_LATE_S
    found = {category: stillborn(workspace, category, living, since) for category in queue}
    return {category: dead for category, dead in found.items() if dead is not None}


def waits(situation: Situation) -> list[str]:
    """What waits for what, most urgent last: that is where a reader's eye ends."""
    if situation.overview.state != "running":
        return _at_rest(situation)
    lines = _of_chains(situation)
    if len(lines) > MOST_CHAINS:
        lines = [*lines[:MOST_CHAINS], f"and {len(lines) - MOST_CHAINS} more chains"]
    return _of_barren(situation) + lines + _of_categories(situation)


def _of_barren(situation: Situation) -> list[str]:
    """Chains that find nothing to evaluate any more, and why: a small system may be searched out."""
    lines = []
    for chain, found in sorted(situation.barren.items()):
        if found.rounds >= MANY_BARREN:
            refused = [f"{reason} ({_count(n, 'candidate')})" for reason, n in found.refused.most_common()]
            why = ", ".join(refused) or "no candidates"
            lines.append(f"chain {chain}: its last {found.rounds} rounds had nothing to evaluate: {why}")
    return lines


def _at_rest(situation: Situation) -> list[str]:
    """Why a campaign that is not running does nothing, and the command that changes that."""
    campaign = situation.overview
    name, reason = campaign.name, campaign.reason or "no reason is known"
    said = {
        "created": "never started: `godelta run FILE` or `godelta submit FILE`",
        "paused": f"paused: `godelta resume {name}`",
        "failed": f"failed: {reason}\nmend that, then `godelta restart {name}`",
        "finished": f"finished: `godelta best {name}` lists what it found; a larger budget goes on",
        "cancelled": f"cancelled: `godelta resume --reopen {name}`",
    }[campaign.state]
    going_on = len(situation.detail.running)
    ends = [f"chain {chain}: {why}" for chain, why in sorted(situation.ends.items()) if is_early(why)]
    told = [*ends[:MOST_CHAINS], *_of_barren(situation)]
    said = "\n".join([said, *told]) if campaign.state == "finished" else said
    return [said, *([f"{_count(going_on, 'evaluation')} under way will be finished"] if going_on else [])]


def _of_chains(situation: Situation) -> list[str]:
    last = {round_.chain: round_ for round_ in situation.detail.rounds}
    lines, ended = [], []
    for chain in range(len(situation.overview.chains)):
        round_ = last.get(chain)
        if round_ is None:
            lines.append(f"chain {chain}: its first round is not planned yet")
        elif round_.state != "closed":
            lines.append(f"chain {chain} round {round_.round}: {_of_round(situation, round_)}")
        elif is_early(situation.ends.get(chain)):
            ended.append(f"chain {chain} has ended with round {round_.round}: {situation.ends[chain]}")
        elif chain not in situation.ends and _goes_on(situation.overview, round_):
            lines.append(f"chain {chain} round {round_.round}: closed; its next round is not planned yet")
    refining = _of_refinement(situation, last.get(REFINEMENT_CHAIN), searching=bool(lines))
    every = [*ended, *lines, *refining]
    return every or ["every round is done: the campaign ends as soon as a worker looks"]


def _of_refinement(situation: Situation, last: RoundStatus | None, *, searching: bool) -> list[str]:
    """What its refinement waits for, which begins and goes on when every chain of the search has ended."""
    if last is not None and last.state != "closed":
        return [f"refinement round {last.round}: {_of_round(situation, last)}"]
    if searching or not situation.refines:
        return []
    what = "its first round" if last is None else f"round {last.round} closed; its next round"
    return [f"refinement: {what} is not planned yet"]


def _goes_on(campaign: Overview, closed: RoundStatus) -> bool:
    """Whether another round follows, as far as that can be told from here."""
    return closed.round + 1 < campaign.rounds and campaign.ok + campaign.failed < campaign.budget


def _of_round(situation: Situation, round_: RoundStatus) -> str:
    jobs = situation.jobs.get((round_.chain, round_.round), [])
    parts = [_progress(situation, round_)]
    for job in jobs:
        if job.state == "running" and job.worker in situation.gone:
            parts.append(f"the worker of its job {job.name} is gone, another one plans it anew")
        elif job.state == "running" and job.name != "evaluate":
            parts.append(f"{_doing(job)}{_where(situation, job)}")
        elif job.state == "refused":
            parts.append(f"its job {job.name} is refused, {job.refused}")
        elif job.state == "fizzled":
            parts.append(f"its job {job.name} ended with an error, the next look of a worker plans it anew")
        elif job.state == "held":
            parts.append(f"its job {job.name} was set aside by hand: `lpad reignite_fws -i {job.fw_id}`")
    parts += _ready(round_, jobs)
    if not jobs:
        mend = f"`godelta restart {situation.overview.name}`"
        parts.append(f"not in the queue: a worker puts it there, or {mend}")
    elif not any(job.state in ("running", "ready") for job in jobs):
        parts.append(f"nothing of it can run: `godelta restart {situation.overview.name}`")
    return "; ".join(parts)


def _progress(situation: Situation, round_: RoundStatus) -> str:
    """How far a round is."""
    if round_.state in ("planned", "searching"):
        if round_.state == "planned":
            return "not begun"
        if round_.chain == REFINEMENT_CHAIN:
            return "the next steps are made"
        chain = situation.overview.chains[round_.chain]
        steps = "" if chain.iteration is None else f", {_count(chain.iteration, 'iteration')} done"
        return f"searching{steps}"
    bad = f" ({round_.failed} failed)" if round_.failed else ""
    running = f", {round_.running} running" if round_.running else ""
    return f"{round_.done} of {round_.selected} evaluations are in{bad}{running}"


def _doing(job: QueuedJob) -> str:
    said = {"search": "the search runs", "retrain": "the model is trained", "refine": "the job is under way"}
    return said.get(job.name, f"{job.name} runs")


def _where(situation: Situation, job: QueuedJob) -> str:
    worker = next((w for w in situation.workers if w.name == job.worker), None)
    return "" if worker is None else f" on {worker.host}"


def _ready(round_: RoundStatus, jobs: Sequence[QueuedJob]) -> list[str]:
    """What of a round waits for a worker, by category."""
    ready: dict[str, list[str]] = {}
    for job in jobs:
        if job.state == "ready":
            ready.setdefault(job.category, []).append(job.name)
    parts = []
    for category, names in ready.items():
        if set(names) != {"evaluate"}:
            what = ", ".join(f"its {name} job" for name in sorted(set(names)))
            parts.append(f"{what} waits for a worker of category {category}")
            continue
        alone = not any(job.name == "evaluate" and job.state == "running" for job in jobs)
        number = str(round_.queued) if alone else _count(len(names), "job")
        verb = "waits" if number in ("1", "1 job") else "wait"
        parts.append(f"{number} {verb} for a worker of category {category}")
    return parts


def _of_categories(situation: Situation) -> list[str]:
    """Who will take the jobs that wait for a worker."""
    ready = {category: counts["ready"] for category, counts in situation.queue.items() if counts["ready"]}
    if not ready:
        return [] if situation.serving or situation.at_work else [_nobody([])]
    lines, without = [], []
    for category in sorted(ready):
        takers = [w for w in situation.workers if w.serves(situation.overview.campaign_id, category)]
        there = _of_pilots(situation.pilots, category)
        if not takers and (dead := situation.stillborn.get(category)) is not None:
            lines.append(
                f"{category}: {_count(dead.count, 'batch job')} ended before taking a job: {dead.folder}"
            )
        if takers or there:
            lines.append(f"{category}: {', '.join([_of_takers(situation, takers), *there])}")
        else:
            without.append(category)
    if without:
        lines.append(_nobody(without if len(without) < len(ready) else []))
    if situation.pilots.trouble:
        lines.append(f"batch jobs are not shown: {situation.pilots.trouble}")
    return lines


def _of_takers(situation: Situation, takers: Sequence[WorkerStatus]) -> str:
    free = sum(worker.name not in situation.busy for worker in takers)
    if not takers:
        return "no worker yet"
    state = f", {free} of them free" if free else ", busy" if len(takers) == 1 else ", all of them busy"
    return f"{_count(len(takers), 'worker')} {'takes' if len(takers) == 1 else 'take'} it{state}"


def _of_pilots(found: Pilots, category: str) -> list[str]:
    """The batch jobs of a category; those that wait with SLURM's reason."""
    jobs = found.of(category)
    if not jobs:
        return []
    waiting = [job for job in jobs if job.state in WAITING]
    reasons = sorted({job.reason.strip("()") for job in waiting})
    why = f" ({', '.join(reasons)})" if reasons else ""
    return [f"{_count(len(waiting), 'pilot')} pending{why}, {len(jobs) - len(waiting)} running"]


def _nobody(categories: Sequence[str]) -> str:
    what = ", ".join(categories) or "this"
    return f"nobody works on {what}: `godelta submit --launch`, `godelta worker` or `godelta run FILE`"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
