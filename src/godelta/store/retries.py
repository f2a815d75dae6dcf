"""Failed evaluations that may be tried again, and what workers that are gone have left behind."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from godelta.store import campaigns, evaluations, workers
from godelta.store.database import Raw, Store
from godelta.store.documents import CampaignDocument
from godelta.store.evaluations import MAX_LOST, Busy
from godelta.store.workers import BatchLives

MAX_RETRIES = 3  # explicit ones, before a structure stays in quarantine
# They say nothing about the structure: somebody or something ended the attempt from outside.
NOT_OF_THE_STRUCTURE = frozenset({"lost", "killed"})
SETTLED_AFTER = timedelta(seconds=20)  # what a worker stores it settles within milliseconds


@dataclass(frozen=True)
class Failed:
    """A failed evaluation of a campaign, and the last round that selected its structure.

    `endings` counts how often it has ended badly: once, and once more for every retry.
    """

    structure_hash: str
    chain: int
    k: int
    reason: str
    message: str
    endings: int

    @property
    def in_quarantine(self) -> bool:
        """Whether it has been tried often enough."""
        return self.endings > MAX_RETRIES


def failed_evaluations(store: Store, campaign: CampaignDocument) -> list[Failed]:
    """The failed evaluations among the campaign's selections, by chain, round and hash."""
    places = _places(store, campaign.campaign_id)
    query = {
        "structure_hash": {"$in": list(places)},
        "reference_hash": campaign.reference_hash,
        "state": "failed",
    }
    wanted = {"structure_hash": 1, "reason": 1, "message": 1, "attempts.outcome": 1}
    found = [
        Failed(
            raw["structure_hash"],
            *places[raw["structure_hash"]],
            raw["reason"] or "",
            raw["message"] or "",
            endings(raw["attempts"]),
        )
        for raw in store.evaluations.find(query, wanted)
    ]
    return sorted(found, key=lambda failed: (failed.chain, failed.k, failed.structure_hash))


def _places(store: Store, campaign_id: str) -> dict[str, tuple[int, int]]:
    """Chain and number of the last round that selected each structure, by the structure's hash."""
    selected: dict[str, tuple[int, int]] = {}
    cursor = store.rounds.find({"campaign_id": campaign_id}, {"chain": 1, "k": 1, "selection": 1})
    for raw in cursor.sort([("chain", 1), ("k", 1)]):
        selected |= dict.fromkeys(raw["selection"], (raw["chain"], raw["k"]))
    return {digest: selected[i] for i, digest in _hashes(store, selected).items()}


def _hashes(store: Store, structure_ids: Iterable[str]) -> dict[str, str]:
    query = {"structure_id": {"$in": list(structure_ids)}}
    cursor = store.structures.find(query, {"structure_id": 1, "structure_hash": 1})
    return {raw["structure_id"]: raw["structure_hash"] for raw in cursor}


def endings(attempts: Sequence[Mapping[str, Any]]) -> int:
    """How often attempts ended in a failure; several lost ones in a row are one."""
    endings = lost = 0
    for attempt in attempts:
        lost = lost + 1 if attempt["outcome"] == "lost" else 0
        if attempt["outcome"] == "failed" or lost == MAX_LOST:
            endings += 1
            lost = 0
    return endings


@dataclass(frozen=True)
class Unfinished:
    """A structure without a result, and who holds the lease of its evaluation."""

    structure_id: str
    structure_hash: str
    lease: Raw | None


def unfinished(store: Store, structure_ids: Sequence[str], reference_hash: str) -> list[Unfinished]:
    """Which of these structures have no result, good or bad, sorted by hash."""
    hashes = _hashes(store, structure_ids)
    query = {"structure_hash": {"$in": list(hashes.values())}, "reference_hash": reference_hash}
    cursor = store.evaluations.find(query, {"structure_hash": 1, "state": 1, "lease": 1})
    found = {raw["structure_hash"]: raw for raw in cursor}
    missing = [
        Unfinished(structure_id, digest, found[digest]["lease"] if digest in found else None)
        for structure_id, digest in hashes.items()
        if digest not in found or found[digest]["state"] == "pending"
    ]
    return sorted(missing, key=lambda one: one.structure_hash)


def abandoned_leases(
    store: Store, structure_ids: Sequence[str], reference_hash: str, batch_lives: BatchLives | None = None
) -> dict[str, Busy]:
    """Leases on evaluations of these structures whose worker is gone while they last, by hash."""
    now = store.now()
    return {
        one.structure_hash: Busy(one.lease["until"], one.lease["owner"])
        for one in unfinished(store, structure_ids, reference_hash)
        if one.lease is not None
        and one.lease["until"] > now
        and workers.is_gone(store, one.lease["owner"], batch_lives)
    }


def end_leases(store: Store, reference_hash: str, leases: Mapping[str, Busy]) -> None:
    """End leases of workers that are gone; those attempts count as lost."""
    for digest, lease in leases.items():
        evaluations.expire(store, digest, reference_hash, lease)


@dataclass(frozen=True)
class Leftovers:
    """Reservations of the budget that nobody will settle.

    Parameters
    ----------
    paid
        Keys of evaluations that are done, and their processor time in s: to be counted as spent.
    free
        Keys of evaluations that nobody is at.
    """

    paid: dict[str, float]
    free: list[str]

    def __len__(self) -> int:
        return len(self.paid) + len(self.free)


def leftover_reservations(
    store: Store, campaign: CampaignDocument, batch_lives: BatchLives | None = None
) -> Leftovers:
    """The campaign's reservations whose worker is gone.

    A lease comes before its reservation and goes after it, so whoever is at it holds a lease; a living
    worker whose lease ran out in an outage may still come with its result, and settles what it stored a
    moment ago by itself.
    """
    query = {"structure_hash": {"$in": list(campaign.reserved)}, "reference_hash": campaign.reference_hash}
    found = {
        raw["structure_hash"]: raw
        for raw in store.evaluations.find(query, {"attempts": {"$slice": -1}, "forces": 0})
    }
    paid: dict[str, float] = {}
    free = []
    for key in campaign.reserved:
        raw = found.get(key)
        if raw is not None and raw["state"] != "pending":
            if _unsettled_for_good(store, raw, batch_lives):
                paid[key] = float(raw["cost"].get("cpu_s", 0.0))
        elif (
            raw is None or raw["lease"] is None or workers.is_gone(store, raw["lease"]["owner"], batch_lives)
        ):
            free.append(key)
    if not paid and not free:
        return Leftovers(paid, free)
    # The campaign was read before its evaluations: what has been settled since is none.
    still = campaigns.get_campaign(store, campaign.campaign_id).reserved
    return Leftovers(
        {key: cpu_s for key, cpu_s in paid.items() if key in still}, [key for key in free if key in still]
    )


def _unsettled_for_good(store: Store, raw: Raw, batch_lives: BatchLives | None) -> bool:
    """Whether nobody is about to settle an evaluation that is done."""
    if raw["evaluated_at"] < store.now() - SETTLED_AFTER:
        return True
    return all(workers.is_gone(store, attempt["owner"], batch_lives) for attempt in raw["attempts"])


def clear_reservations(store: Store, campaign_id: str, leftovers: Leftovers) -> None:
    """Count what was paid, and free the rest; who comes late settles nothing twice."""
    for key, cpu_s in leftovers.paid.items():
        campaigns.settle_evaluation(store, campaign_id, key, cpu_s)
    for key in leftovers.free:
        campaigns.release_evaluation(store, campaign_id, key)
