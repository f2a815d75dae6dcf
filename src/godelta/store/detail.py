"""One campaign in detail: its rounds and evaluations, and the workers that there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any

from godelta.store import structures, workers
from godelta.store.database import Raw, Store
from godelta.store.documents import CampaignDocument, RoundState
from godelta.store.retries import Failed, endings
from godelta.store.workers import WorkerName

ALIVE_FOR = timedelta(seconds=90)  # a worker gives a sign of life every 20 s
_OF_ROUND = ("chain", "k", "state", "epoch", "failures", "selection", "changed_at")


@dataclass(frozen=True)
class RoundStatus:
    """One round: how many of its selection are evaluated, and the lowest energy among them in eV."""

    chain: int
    round: int
    state: RoundState
    epoch: int
    failures: int
    selected: int
    ok: int
    failed: int
    running: int
    best_energy: float | None
    changed_at: datetime

    @property
    def done(self) -> int:
        """Evaluations that have ended."""
        return self.ok + self.failed

    @property
    def queued(self) -> int:
        """Evaluations that wait; what a closed round left out is waited for no more."""
        return 0 if self.state == "closed" else max(0, self.selected - self.done - self.running)


@dataclass(frozen=True)
class RunningEvaluation:
    """An evaluation under way, where its structure was proposed, and who is at it.

    `alive` is False where that worker is gone.
    """

    structure_id: str
    chain: int
    round: int
    worker: str
    host: str
    pid: int | None
    batch_job: str | None
    since: datetime
    alive: bool


@dataclass(frozen=True)
class FailedEvaluation:
    """A failed evaluation, where its structure was proposed, and how often it has ended badly.

    Parameters
    ----------
    in_quarantine
        It has killed every worker that tried it, or has been tried again too often.
    for_good
        Nothing tries it again.
    """

    structure_id: str
    chain: int
    round: int
    reason: str
    message: str
    endings: int
    in_quarantine: bool
    for_good: bool


@dataclass(frozen=True)
class Best:
    """The lowest structure; `chain` and `round` are those that proposed it first. Energies in eV."""

    structure_id: str
    energy: float
    energy_per_atom: float
    chain: int
    round: int
    evaluated_at: datetime


@dataclass(frozen=True)
class WorkerStatus:
    """A worker: what it takes (nothing: every category), for which campaign (None: all), and where it is.

    `alive` is False of one that has said nothing for long, or whose process is gone.
    """

    name: str
    host: str
    pid: int | None
    takes: list[str]
    campaign_id: str | None
    batch_job: str | None
    since: datetime | None
    seen: datetime
    alive: bool

    def serves(self, campaign_id: str, category: str) -> bool:
        """Whether it lives, and takes jobs of this category for this campaign."""
        return (
            self.alive
            and self.campaign_id in (None, campaign_id)
            and (not self.takes or category in self.takes)
        )


@dataclass(frozen=True)
class Detail:
    """A campaign's rounds in the order of chain and number, and its evaluations."""

    rounds: list[RoundStatus] = field(default_factory=list)
    best: Best | None = None
    running: list[RunningEvaluation] = field(default_factory=list)
    failed: list[FailedEvaluation] = field(default_factory=list)


def detail(
    store: Store, campaign: CampaignDocument, there: Sequence[WorkerStatus], *, every_round: bool = False
) -> Detail:
    """Look at one campaign.

    Parameters
    ----------
    there
        The workers, as `all_workers` finds them.
    every_round
        Look at all rounds, not only at the latest of each chain.
    """
    asked = {"requests.campaign_id": campaign.campaign_id, "reference_hash": campaign.reference_hash}
    return Detail(
        rounds=_rounds(store, campaign, every_round=every_round),
        best=_best(store, campaign),
        running=_running(store, asked, there),
        failed=_failed(store, asked),
    )


def _rounds(store: Store, campaign: CampaignDocument, *, every_round: bool) -> list[RoundStatus]:
    ours = {"campaign_id": campaign.campaign_id}
    if every_round:
        cursor = store.rounds.find(ours, dict.fromkeys(_OF_ROUND, 1))
    else:
        latest: list[Raw] = [{"$match": ours}, {"$group": {"_id": "$chain", "k": {"$max": "$k"}}}]
        places = [{"chain": raw["_id"], "k": raw["k"]} for raw in store.rounds.aggregate(latest)]
        cursor = store.rounds.find({**ours, "$or": places or [{"k": -1}]}, dict.fromkeys(_OF_ROUND, 1))
    documents = list(cursor.sort([("chain", 1), ("k", 1)]))
    selected = {structure_id for raw in documents for structure_id in raw["selection"]}
    hashes = {
        raw["structure_hash"]: raw["structure_id"]
        for raw in store.structures.find(
            {"structure_id": {"$in": list(selected)}}, {"structure_hash": 1, "structure_id": 1}
        )
    }
    query = {"structure_hash": {"$in": list(hashes)}, "reference_hash": campaign.reference_hash}
    wanted = {"structure_hash": 1, "state": 1, "energy": 1, "lease.until": 1}
    found = {hashes[raw["structure_hash"]]: raw for raw in store.evaluations.find(query, wanted)}
    now = store.now()
    return [_round(raw, found, now) for raw in documents]


def _round(raw: Raw, found: Mapping[str, Raw], now: datetime) -> RoundStatus:
    own = [found[i] for i in raw["selection"] if i in found]
    energies = [one["energy"] for one in own if one["state"] == "ok"]
    return RoundStatus(
        chain=raw["chain"],
        round=raw["k"],
        state=raw["state"],
        epoch=raw["epoch"],
        failures=raw["failures"],
        selected=len(raw["selection"]),
        ok=len(energies),
        failed=sum(one["state"] == "failed" for one in own),
        running=sum(one["state"] == "pending" and _is_held(one, now) for one in own),
        best_energy=min(energies, default=None),
        changed_at=raw["changed_at"],
    )


def _is_held(evaluation: Raw, now: datetime) -> bool:
    return bool(evaluation.get("lease")) and evaluation["lease"]["until"] > now


def _best(store: Store, campaign: CampaignDocument) -> Best | None:
    rows = structures.best(store, campaign.campaign_id, campaign.reference_hash, 1)
    names = [one.name for one in fields(Best)]
    return Best(**{name: rows[0][name] for name in names}) if rows else None


def _own(raw: Raw, campaign_id: str) -> Raw:
    """What the campaign knew of the structure when it asked for the evaluation."""
    return next(one for one in raw["requests"] if one["campaign_id"] == campaign_id)


def _running(store: Store, asked: Raw, there: Sequence[WorkerStatus]) -> list[RunningEvaluation]:
    known, now = {worker.name: worker for worker in there}, store.now()
    running = []
    for raw in store.evaluations.find({**asked, "state": "pending"}, {"lease": 1, "requests": 1}):
        if not _is_held(raw, now):
            continue
        owner, request = raw["lease"]["owner"], _own(raw, asked["requests.campaign_id"])
        name = WorkerName.parse(owner)
        worker = None if name is None else known.get(name.process)
        running.append(
            RunningEvaluation(
                request["structure_id"],
                request["chain"],
                request["round"],
                worker=owner,
                host=owner if name is None else name.host,
                pid=None if name is None else name.pid,
                batch_job=None if worker is None else worker.batch_job,
                since=raw["lease"]["started_at"],
                alive=name is None or (worker is not None and worker.alive),
            )
        )
    return sorted(running, key=lambda one: (one.since, one.structure_id))


def _failed(store: Store, asked: Raw) -> list[FailedEvaluation]:
    wanted = ("structure_hash", "reason", "message", "attempts.outcome", "requests")
    failed = []
    for raw in store.evaluations.find({**asked, "state": "failed"}, dict.fromkeys(wanted, 1)):
        request, reason = _own(raw, asked["requests.campaign_id"]), raw["reason"] or ""
        place = request["chain"], request["round"]
        said = raw["message"] or ""
        one = Failed(raw["structure_hash"], *place, reason, said, endings(raw["attempts"]))
        kept = one.in_quarantine or reason == "lost"
        failed.append(
            FailedEvaluation(
                request["structure_id"], *place, reason, said, one.endings, kept, for_good=one.in_quarantine
            )
        )
    return sorted(failed, key=lambda one: (one.chain, one.round, one.structure_id))


def all_workers(store: Store) -> list[WorkerStatus]:
    """The workers that signed on and never off, those that live first; SLURM is not asked."""
    now = store.now()
    found = [_worker(store, raw, now) for raw in store.workers.find({})]
    return sorted(found, key=lambda worker: (not worker.alive, worker.host, worker.pid or 0))


def _worker(store: Store, raw: Raw, now: datetime) -> WorkerStatus:
    name = WorkerName.parse(f"{raw['name']}#{raw.get('generation', 0)}")
    alive = now - raw["seen"] < ALIVE_FOR
    if name is not None and name.is_here:  # it may be too busy to say a word
        alive = not workers.is_gone(store, str(name))
    entry: dict[str, Any] = {key: raw.get(key) for key in ("campaign_id", "batch_job", "since")}
    return WorkerStatus(
        name=raw["name"],
        host=raw["name"] if name is None else name.host,
        pid=None if name is None else name.pid,
        takes=list(raw.get("takes") or ()),
        seen=raw["seen"],
        alive=alive,
        **entry,
    )
