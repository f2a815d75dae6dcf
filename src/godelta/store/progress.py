"""How far a campaign is, from its documents."""

from dataclasses import dataclass
from statistics import fmean
from typing import Any

from godelta.resources import Budget
from godelta.store import campaigns, evaluations, structures
from godelta.store.database import Raw, Store

_IN_ORDER = [("chain", 1), ("k", 1)]
_OF_ROUND = ("campaign_id", "chain", "k", "state", "progress", "timings", "selection")
_OF_CAMPAIGN = (
    "campaign_id", "name", "state", "reason", "elapsed_s", "worker_s", "config.budget",
    "config.system.formula", "created_at",
)  # fmt: skip


@dataclass(frozen=True)
class ChainProgress:
    """One chain: its latest round (None: not begun), and what its search does."""

    chain: int
    round: int | None
    state: str
    iteration: int | None = None
    acceptance: float | None = None
    model_best: float | None = None


@dataclass(frozen=True)
class Progress:
    """One campaign: energies in eV, times in seconds."""

    name: str
    campaign_id: str
    formula: str
    state: str
    reason: str | None
    rounds: int
    closed_rounds: int
    budget: int
    ok: int
    failed: int
    pending: int
    best_energy: float | None
    elapsed_s: float
    left_s: float | None
    worker_s: float
    timings: dict[str, float]
    chains: list[ChainProgress]


def snapshot(store: Store, campaign_id: str) -> Progress:
    """How far a campaign is now.

    Raises
    ------
    InputError
        There is none of this id, or name.
    """
    document = campaigns.get_campaign(store, campaign_id)
    counts = evaluations.counts(store, document.campaign_id, document.reference_hash)
    best = structures.best(store, document.campaign_id, document.reference_hash, 1)
    every = store.rounds.find({"campaign_id": document.campaign_id}, _OF_ROUND).sort(_IN_ORDER)
    result = _Result(counts["ok"], counts["failed"], best[0]["energy"] if best else None)
    return _progress(document.to_mongo(), list(every), result)


def snapshots(store: Store) -> list[Progress]:
    """How far every campaign is now, the oldest first; three questions to the server for all of them."""
    rounds: dict[str, list[Raw]] = {}
    for raw in store.rounds.find({}, _OF_ROUND).sort([("campaign_id", 1), *_IN_ORDER]):
        rounds.setdefault(raw["campaign_id"], []).append(raw)
    results = _results(store)
    found = store.campaigns.find({}, _OF_CAMPAIGN).sort("created_at", 1)
    return [
        _progress(raw, rounds.get(raw["campaign_id"], []), results.get(raw["campaign_id"], _Result()))
        for raw in found
    ]


@dataclass
class _Result:
    """Evaluations of a campaign that have ended, and the lowest energy, eV."""

    ok: int = 0
    failed: int = 0
    best: float | None = None


def _results(store: Store) -> dict[str, _Result]:
    """By campaign, all in one go."""
    key = {"campaign_id": "$requests.campaign_id", "state": "$state"}
    pipeline: list[Raw] = [
        {"$match": {"state": {"$in": ["ok", "failed"]}}},
        {"$project": {"_id": 0, "state": 1, "energy": 1, "requests.campaign_id": 1}},
        {"$unwind": "$requests"},
        {"$group": {"_id": key, "count": {"$sum": 1}, "lowest": {"$min": "$energy"}}},
    ]
    results: dict[str, _Result] = {}
    for raw in store.evaluations.aggregate(pipeline):
        result = results.setdefault(raw["_id"]["campaign_id"], _Result())
        if raw["_id"]["state"] == "ok":
            result.ok, result.best = raw["count"], raw["lowest"]
        else:
            result.failed = raw["count"]
    return results


def _progress(campaign: Raw, rounds: list[Raw], result: _Result) -> Progress:
    config = campaign["config"]
    latest = {round_["chain"]: round_ for round_ in rounds}  # they come in order of k
    budget = Budget.model_validate(config.get("budget", {}))
    selected = len({id_ for round_ in rounds for id_ in round_["selection"]})
    elapsed = campaign["elapsed_s"]
    closed = sum(round_["state"] == "closed" for round_ in rounds)
    done = max(
        (result.ok + result.failed) / budget.evaluations,
        closed / (budget.rounds * budget.chains),
    )
    return Progress(
        name=campaign["name"],
        campaign_id=campaign["campaign_id"],
        formula=config.get("system", {}).get("formula", ""),
        state=campaign["state"],
        reason=campaign["reason"],
        rounds=budget.rounds,
        closed_rounds=closed,
        budget=budget.evaluations,
        ok=result.ok,
        failed=result.failed,
        pending=max(0, selected - result.ok - result.failed),
        best_energy=result.best,
        elapsed_s=elapsed,
        left_s=elapsed * (1 - done) / done if 0.05 < done < 1 else None,
        worker_s=campaign["worker_s"],
        timings=_sums(rounds),
        chains=[_chain(latest.get(number), number) for number in range(budget.chains)],
    )


def _chain(last: Raw | None, number: int) -> ChainProgress:
    if last is None:
        return ChainProgress(number, None, "waiting")
    progress: dict[str, Any] = last["progress"]
    acceptance = [value for value in progress.get("acceptance") or () if value is not None]
    return ChainProgress(
        chain=number,
        round=last["k"],
        state=last["state"],
        iteration=progress.get("iteration"),
        acceptance=fmean(acceptance) if acceptance else None,
        model_best=progress.get("best_energy"),
    )


def _sums(rounds: list[Raw]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for round_ in rounds:
        for name, seconds in round_["timings"].items():
            sums[name] = sums.get(name, 0.0) + seconds
    return sums
