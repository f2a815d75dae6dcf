"""What is wrong with the rounds of a campaign, in words for people; nothing is changed."""

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from godelta.campaign import CampaignConfig
from godelta.store import retries, rounds, workers
from godelta.store.database import Store
from godelta.store.documents import REFINEMENT_CHAIN, CampaignDocument, RoundDocument, chain_title
from godelta.store.stopping import end_of_chain, end_of_refinement
from godelta.store.workers import SILENT_AFTER, WorkerName
from godelta.workflows import health
from godelta.workflows.batch import BatchWatch
from godelta.workflows.health import Health, Verdict, judge
from godelta.workflows.launchpad import ROUND_METADATA
from godelta.workflows.outcome import first_line
from godelta.workflows.planner import MAX_FAILURES
from godelta.workflows.queue import TakenJob, taken_jobs
from godelta.workflows.round import categories, workflow_mark

if TYPE_CHECKING:
    from fireworks import LaunchPad


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and what is done about it; `acts` is False where it is only said."""

    place: str
    found: str
    will: str
    acts: bool = True


@dataclass(frozen=True)
class Rounds:
    """What was found of a campaign's rounds; `unsettled` where a look in a while may find more."""

    findings: list[Finding]
    unsettled: bool = False


def survey_rounds(
    store: Store,
    launchpad: "LaunchPad",
    campaign: CampaignDocument,
    config: CampaignConfig,
    batch: BatchWatch,
) -> Rounds:
    """Look at the last round of every chain, and of the refinement."""
    findings: list[Finding] = []
    unsettled = ended = searching = False
    before = store.now() - health.STUCK_AFTER
    for chain in range(config.budget.chains):
        round_ = rounds.last_round(store, campaign.campaign_id, chain)
        if round_ is None:
            findings.append(Finding(f"chain {chain}", "no round yet", "its first round is planned"))
        elif round_.state != "closed":
            searching = True
            found = _of_round(store, launchpad, round_, config, batch)
            findings += found.findings
            unsettled |= found.unsettled
        elif round_.changed_at > before:  # whoever closed it plans the next one
            unsettled = True
        elif end_of_chain(store, config, round_) is None:
            findings.append(Finding(_place(round_), "closed, and nothing follows", "the next one is planned"))
        else:
            ended = True
    if ended and not (findings or unsettled or searching):
        return _of_refinement(store, launchpad, campaign, config, batch)
    return Rounds(findings, unsettled)


def _of_refinement(
    store: Store,
    launchpad: "LaunchPad",
    campaign: CampaignDocument,
    config: CampaignConfig,
    batch: BatchWatch,
) -> Rounds:
    """Look at the last round of the refinement, when every chain of the search has ended."""
    last = rounds.last_round(store, campaign.campaign_id, REFINEMENT_CHAIN)
    if last is not None and last.state != "closed":
        return _of_round(store, launchpad, last, config, batch)
    if last is not None and last.changed_at > store.now() - health.STUCK_AFTER:
        return Rounds([], unsettled=True)
    if end_of_refinement(store, campaign.campaign_id, config, last) is not None:
        return Rounds([Finding("", "every round is done", "the campaign ends")])
    if last is None:
        return Rounds([Finding(chain_title(REFINEMENT_CHAIN), "not begun", "its first round is planned")])
    return Rounds([Finding(_place(last), "closed, and nothing follows", "the next one is planned")])


def open_rounds(store: Store, campaign_id: str, config: CampaignConfig) -> list[RoundDocument]:
    """The rounds in progress, one of a refinement included."""
    chains = (*range(config.budget.chains), REFINEMENT_CHAIN)
    last = (rounds.last_round(store, campaign_id, chain) for chain in chains)
    return [round_ for round_ in last if round_ is not None and round_.state != "closed"]


def _place(round_: RoundDocument) -> str:
    return f"{chain_title(round_.chain)}, round {round_.k}"


def _of_round(
    store: Store, launchpad: "LaunchPad", round_: RoundDocument, config: CampaignConfig, batch: BatchWatch
) -> Rounds:
    query = {f"metadata.{ROUND_METADATA}": workflow_mark(round_.key, round_.epoch)}
    workflow = launchpad.workflows.find_one(query, {"nodes": 1, "updated_on": 1})
    if workflow is None and round_.changed_at > store.now() - health.STUCK_AFTER:
        return Rounds([], unsettled=True)  # whoever planned it is about to queue it
    if workflow is None:
        found = f"{round_.state}, and nothing of it is in the queue"
        return Rounds([Finding(_place(round_), found, "its jobs are queued; what it saved is kept")])
    known = set(categories(config).values())
    verdict = judge(store, launchpad, workflow, batch, known)
    if verdict.health is not Health.WELL:
        return Rounds([_finding(store, launchpad, round_, workflow, verdict, batch)])
    soon = judge(store, launchpad, workflow, batch, known, timedelta(0))
    return Rounds(_of_silent(store, launchpad, round_, workflow, batch), soon.health is not Health.WELL)


def _finding(
    store: Store,
    launchpad: "LaunchPad",
    round_: RoundDocument,
    workflow: dict[str, Any],
    verdict: Verdict,
    batch: BatchWatch,
) -> Finding:
    """What is wrong with a round whose workflow cannot go on by itself."""
    anew = f"planned anew, attempt {round_.epoch + 2}; what it saved is kept"
    if verdict.health is Health.FAILED:
        count = round_.failures + 1
        last = count % MAX_FAILURES == 0
        will = "the campaign fails of it" if last else anew
        return Finding(_place(round_), f"error {count}: {first_line(verdict.reason)}", will)
    gone = [
        f"{job.name}: {_farewell(store, job.worker, batch)}"
        for job in taken_jobs(launchpad, workflow["nodes"])
        if job.worker is not None and workers.is_gone(store, job.worker, batch)
    ]
    return Finding(_place(round_), "; ".join(gone) or verdict.reason or "a job was asked to stop", anew)


def _farewell(store: Store, worker: str, batch: BatchWatch) -> str:
    """How it is known that a worker is gone."""
    name = WorkerName.parse(worker)
    assert name is not None
    raw = store.workers.find_one({"name": name.process})
    if raw is not None and raw["generation"] > name.generation:
        return f"its worker on {name.host} has given it up after an outage"
    if name.is_here:
        return f"the process {name.pid} of its worker has ended"
    if raw is None:
        return f"its worker on {name.host} has signed off"
    job = raw.get("batch_job")
    if job and batch(job) is False:
        return f"its worker on {name.host} is gone: SLURM's job {job} has ended"
    return f"its worker on {name.host} has been {_silence(store, raw)}{_doubt(job, batch)}"


def _silence(store: Store, raw: dict[str, Any]) -> str:
    return f"silent for {(store.now() - raw['seen']).total_seconds() / 60:.0f} min"


def _doubt(job: str | None, batch: BatchWatch) -> str:
    if not job:
        return ""
    return f" (judged by time only: {batch.trouble or f'SLURM knows nothing of its job {job}'})"


def _of_silent(
    store: Store,
    launchpad: "LaunchPad",
    round_: RoundDocument,
    workflow: dict[str, Any],
    batch: BatchWatch,
) -> list[Finding]:
    """Workers that have said nothing for long, and live: their jobs are not lost."""
    findings = []
    for job in taken_jobs(launchpad, workflow["nodes"]):
        raw = _silent(store, job)
        if raw is not None and raw.get("batch_job") and batch(raw["batch_job"]):
            found = f"{job.name}: its worker has been {_silence(store, raw)}"
            will = f"left alone: SLURM's job {raw['batch_job']} runs"
            findings.append(Finding(_place(round_), found, will, acts=False))
    return findings


def _silent(store: Store, job: TakenJob) -> dict[str, Any] | None:
    name = None if job.worker is None else WorkerName.parse(job.worker)
    if name is None or name.is_here:
        return None
    return store.workers.find_one({"name": name.process, "seen": {"$lt": store.now() - SILENT_AFTER}})


def settle_s() -> float:
    """How long after the last sign of anything a round is known to be stuck, in s."""
    return health.STUCK_AFTER.total_seconds()


def survey_leftovers(
    store: Store, campaign: CampaignDocument, selected: list[str], batch: BatchWatch
) -> list[Finding]:
    """Leases and reservations of workers that are gone."""
    leases = retries.abandoned_leases(store, selected, campaign.reference_hash, batch)
    left = retries.leftover_reservations(store, campaign, batch)
    findings = []
    if leases:
        found = f"{_count(len(leases), 'evaluation')} held by a worker that is gone"
        findings.append(Finding("", found, "free for others at once; the attempt counts as lost"))
    if left.paid:
        found = f"{_count(len(left.paid), 'evaluation')} done and not settled with the budget"
        findings.append(Finding("", found, "counted as spent"))
    if left.free:
        found = f"{_count(len(left.free), 'reservation')} of the budget by a worker that is gone"
        findings.append(Finding("", found, "given back"))
    return findings


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
