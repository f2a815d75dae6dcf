"""One campaign in detail: its rounds and evaluations, and the workers that there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from godelta.store import retries, workers
from godelta.store.database import Raw, Store
from godelta.store.documents import CampaignDocument, RoundState
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
    """An evaluation under way, and who is at it; `alive` is False where that worker is gone."""

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
    """A failed evaluation, and how often it has ended badly.

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


def detail(store: Store, campaign: CampaignDocument, there: Sequence[WorkerStatus]) -> Detail:
    """Look at one campaign.

    Parameters
    ----------
    there
        The workers, as `all_workers` finds them.
    """
    asked = {"requests.campaign_id": campaign.campaign_id, "reference_hash": campaign.reference_hash}
    wanted = (
        "structure_hash", "state", "energy", "energy_per_atom", "evaluated_at", "reason", "lease", "requests",
    )  # fmt: skip
    now = store.now()
    found = {}
    for raw in store.evaluations.find(asked, dict.fromkeys(wanted, 1)):
        (request,) = (one for one in raw["requests"] if one["campaign_id"] == campaign.campaign_id)
        leased = raw["state"] == "pending" and raw["lease"] is not None and raw["lease"]["until"] > now
        found[request["structure_id"]] = raw | {"request": request, "leased": leased}
    rounds = store.rounds.find({"campaign_id": campaign.campaign_id}, dict.fromkeys(_OF_ROUND, 1))
    return Detail(
        rounds=[_round(raw, found) for raw in rounds.sort([("chain", 1), ("k", 1)])],
        best=_best(found),
        running=_running(found, there),
        failed=_failed(store, campaign, found),
    )


def _round(raw: Raw, found: Mapping[str, Raw]) -> RoundStatus:
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
        running=sum(one["leased"] for one in own),
        best_energy=min(energies, default=None),
        changed_at=raw["changed_at"],
    )


def _best(found: Mapping[str, Raw]) -> Best | None:
    good = [(raw["energy"], structure_id) for structure_id, raw in found.items() if raw["state"] == "ok"]
    if not good:
        return None
    energy, structure_id = min(good)
    raw = found[structure_id]
    return Best(
        structure_id,
        energy,
        raw["energy_per_atom"],
        raw["request"]["chain"],
        raw["request"]["round"],
        raw["evaluated_at"],
    )


def _running(found: Mapping[str, Raw], there: Sequence[WorkerStatus]) -> list[RunningEvaluation]:
    known = {worker.name: worker for worker in there}
    running = []
    for structure_id, raw in found.items():
        if not raw["leased"]:
            continue
        owner = raw["lease"]["owner"]
        name = WorkerName.parse(owner)
        worker = None if name is None else known.get(name.process)
        running.append(
            RunningEvaluation(
                structure_id,
                raw["request"]["chain"],
                raw["request"]["round"],
                worker=owner,
                host=owner if name is None else name.host,
                pid=None if name is None else name.pid,
                batch_job=None if worker is None else worker.batch_job,
                since=raw["lease"]["started_at"],
                alive=name is None or (worker is not None and worker.alive),
            )
        )
    return sorted(running, key=lambda one: (one.since, one.structure_id))


def _failed(store: Store, campaign: CampaignDocument, found: Mapping[str, Raw]) -> list[FailedEvaluation]:
    if not any(raw["state"] == "failed" for raw in found.values()):
        return []
    ids = {raw["structure_hash"]: structure_id for structure_id, raw in found.items()}
    return [
        FailedEvaluation(
            ids.get(one.structure_hash, ""),
            one.chain,
            one.k,
            one.reason,
            one.message,
            one.endings,
            in_quarantine=one.in_quarantine or one.reason == "lost",
            for_good=one.in_quarantine,
        )
        for one in retries.failed_evaluations(store, campaign)
    ]


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
