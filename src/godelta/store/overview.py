"""Campaigns at a glance, by a handful of queries however many there are."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from typing import Any

from godelta.resources import Budget
from godelta.store.database import Raw, Store
from godelta.store.documents import REFINEMENT_CHAIN, CampaignState
from godelta.store.progress import ChainProgress
from godelta.store.refining import TRACKS, RefinementCount
from godelta.store.summaries import Tally, tallies

STATE_ORDER: tuple[CampaignState, ...] = ("running", "created", "paused", "failed", "finished", "cancelled")
TIMINGS = ("loading_s", "search_s", "potential_s", "reference_s", "training_s")
_WANTED = (
    "name", "campaign_id", "config.system", "config.budget", "config.tags", "state", "reason", "spent",
    "reference_hash", "elapsed_s", "worker_s", "created_at", "updated_at",
)  # fmt: skip


@dataclass(frozen=True)
class Overview:
    """One campaign: energies in eV, times in seconds or UTC.

    Parameters
    ----------
    rounds
        Most rounds of each chain.
    closed_rounds
        Rounds that are done, of all chains.
    budget
        Most evaluations of the search, and those that its refinement has chosen.
    ok, failed
        Evaluations that have ended.
    pending
        Structures that were selected and have no evaluation yet.
    running, queued
        Of those: under way, and selected in a round that is not closed yet.
    left_s
        Estimate of the time to the end of the search; None while something is refined.
    timings
        Seconds by kind of work.
    chains
        What each chain is at.
    changed_at
        The last change of the campaign, one of its rounds or its evaluations.
    refinement
        What is refined, or was; None without a refinement.
    """

    name: str
    campaign_id: str
    formula: str
    system: str
    state: CampaignState
    reason: str | None
    rounds: int
    closed_rounds: int
    budget: int
    ok: int
    failed: int
    pending: int
    running: int
    queued: int
    best_energy: float | None
    best_structure: str | None
    elapsed_s: float
    left_s: float | None
    worker_s: float
    timings: dict[str, float]
    chains: list[ChainProgress]
    tags: list[str]
    created_at: datetime
    changed_at: datetime
    refinement: RefinementCount | None = None


def overviews(
    store: Store,
    *,
    name: str | None = None,
    states: Collection[str] = (),
    tags: Iterable[str] = (),
    count_all: bool = False,
) -> list[Overview]:
    """Campaigns, the running ones first, those that changed last before others.

    Parameters
    ----------
    name
        This campaign only, by name or id.
    states
        Campaigns in one of these states only; none means any.
    tags
        Campaigns with all of these tags only.
    count_all
        Count the evaluations of every campaign now, whatever was counted before.
    """
    query: Raw = {}
    if name is not None:
        query["$or"] = [{"name": name}, {"campaign_id": name}]
    if states:
        query["state"] = {"$in": list(states)}
    if wanted := list(tags):
        query["config.tags"] = {"$all": wanted}
    documents = list(store.campaigns.find(query, dict.fromkeys(_WANTED, 1)))
    ids = [document["campaign_id"] for document in documents]
    chains = _chains(store, ids if query else None)
    counted = tallies(store, documents, chains, count_all=count_all)
    running = _running(store)
    found = [
        _overview(document, chains.get(i, []), counted[i], running.get((i, document["reference_hash"]), 0))
        for i, document in zip(ids, documents, strict=True)
    ]
    order = {state: place for place, state in enumerate(STATE_ORDER)}
    return sorted(found, key=lambda row: (order[row.state], -row.changed_at.timestamp(), row.name))


def _overview(document: Raw, chains: list[Raw], tally: Tally, running: int) -> Overview:
    config = document["config"]
    budget = Budget.model_validate(config.get("budget") or {})
    closed = sum(chain["closed"] for chain in chains if chain["_id"]["chain"] < REFINEMENT_CHAIN)
    refinement = _refinement(chains, document["state"])
    limit = budget.evaluations + (refinement.evaluations if refinement else 0)
    done = max((tally.ok + tally.failed) / limit, closed / (budget.rounds * budget.chains))
    refining = refinement is not None and refinement.active
    elapsed = document.get("elapsed_s", 0.0)
    times = [document["updated_at"], tally.last, *(chain["changed_at"] for chain in chains)]
    by_number = {chain["_id"]["chain"]: chain for chain in chains}
    return Overview(
        name=document["name"],
        campaign_id=document["campaign_id"],
        formula=str(config.get("system", {}).get("formula", "")),
        system=system_label(config.get("system", {})),
        state=document["state"],
        reason=document.get("reason"),
        rounds=budget.rounds,
        closed_rounds=closed,
        budget=limit,
        ok=tally.ok,
        failed=tally.failed,
        pending=tally.pending,
        running=running,
        queued=max(0, tally.waiting - running),
        best_energy=tally.best_energy,
        best_structure=tally.best_structure,
        elapsed_s=elapsed,
        left_s=elapsed * (1 - done) / done if 0.05 < done < 1 and not refining else None,
        worker_s=document.get("worker_s", 0.0),
        timings=_sums(chains),
        chains=[_chain(number, by_number.get(number)) for number in range(budget.chains)],
        tags=list(config.get("tags") or ()),
        created_at=document["created_at"],
        changed_at=max(time for time in times if time is not None),
        refinement=refinement,
    )


def system_label(system: Mapping[str, Any]) -> str:
    """What a campaign searches, in a few letters: Ag8S4, or O2 on Ag(111)."""
    formula = str(system.get("formula", ""))
    if system.get("kind") == "surface":
        return f"{formula} on {system.get('element', '')}({str(system.get('builder', ''))[-3:]})"
    if system.get("kind") == "template":
        return f"{formula} on {PurePath(str(system.get('file', ''))).stem}"
    return formula


def _chains(store: Store, campaign_ids: Sequence[str] | None) -> dict[str, list[Raw]]:
    """What the rounds of each chain come to, by campaign; None: of all campaigns."""
    pipeline: list[Raw] = [] if campaign_ids is None else [{"$match": {"campaign_id": {"$in": campaign_ids}}}]
    latest = {
        "round": "$k",
        "state": "$state",
        "iteration": "$progress.iteration",
        "acceptance": {"$avg": "$progress.acceptance"},
        "model_best": "$progress.best_energy",
    }
    is_refinement = {"$eq": ["$chain", REFINEMENT_CHAIN]}
    refined = {"round": "$k", "statuses": f"${TRACKS}.status"}
    group = {
        "_id": {"campaign_id": "$campaign_id", "chain": "$chain"},
        "closed": {"$sum": {"$cond": [{"$eq": ["$state", "closed"]}, 1, 0]}},
        "count": {"$sum": 1},
        "epochs": {"$sum": "$epoch"},
        "changed_at": {"$max": "$changed_at"},
        "latest": {"$max": latest},  # compared by the first field first
        "chosen": {"$push": {"$cond": [is_refinement, "$selection", "$$REMOVE"]}},
        "refined": {"$max": {"$cond": [{"$gt": [f"${TRACKS}", None]}, refined, None]}},
        **{name: {"$sum": f"$timings.{name}"} for name in TIMINGS},
    }
    pipeline.append({"$group": group})
    found: dict[str, list[Raw]] = {}
    for raw in store.rounds.aggregate(pipeline):
        found.setdefault(raw["_id"]["campaign_id"], []).append(raw)
    return found


def _chain(number: int, raw: Raw | None) -> ChainProgress:
    if raw is None:
        return ChainProgress(number, None, "waiting")
    return ChainProgress(chain=number, **raw["latest"])


def _refinement(chains: list[Raw], campaign_state: str) -> RefinementCount | None:
    own = next((chain for chain in chains if chain["_id"]["chain"] == REFINEMENT_CHAIN), None)
    if own is None:
        return None
    statuses = own["refined"]["statuses"] if own["refined"] else []
    chosen = {structure_id for selection in own["chosen"] for structure_id in selection}
    return RefinementCount.of(statuses, len(chosen), own["latest"]["state"], campaign_state)


def _sums(chains: list[Raw]) -> dict[str, float]:
    sums = {name: sum(chain[name] for chain in chains) for name in TIMINGS}
    return {name: seconds for name, seconds in sums.items() if seconds}


def _running(store: Store) -> dict[tuple[str, str], int]:
    """How many evaluations are under way, by campaign and reference."""
    now = store.now()
    counts: dict[tuple[str, str], int] = {}
    wanted = {"lease.until": 1, "reference_hash": 1, "requests.campaign_id": 1}
    for raw in store.evaluations.find({"state": "pending"}, wanted):
        if raw.get("lease") and raw["lease"]["until"] > now:
            for request in raw.get("requests") or ():
                key = request["campaign_id"], raw["reference_hash"]
                counts[key] = counts.get(key, 0) + 1
    return counts
