"""How far a campaign is, from its documents."""

from dataclasses import dataclass
from statistics import fmean
from typing import Any

from godelta.campaign import CampaignConfig
from godelta.store import campaigns, evaluations, rounds, structures
from godelta.store.database import Store
from godelta.store.documents import RoundDocument


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
    """How far a campaign is now."""
    document = campaigns.get_campaign(store, campaign_id)
    config = CampaignConfig.model_validate(document.config)
    every = rounds.rounds_of(store, campaign_id)
    counts = evaluations.counts(store, campaign_id, document.reference_hash)
    best = structures.best(store, campaign_id, document.reference_hash, 1)
    elapsed = document.elapsed_s
    closed = sum(round_.state == "closed" for round_ in every)
    done = max(
        (counts["ok"] + counts["failed"]) / config.budget.evaluations,
        closed / (config.budget.rounds * config.budget.chains),
    )
    return Progress(
        name=document.name,
        campaign_id=campaign_id,
        formula=getattr(config.system, "formula", ""),
        state=document.state,
        reason=document.reason,
        rounds=config.budget.rounds,
        closed_rounds=closed,
        budget=config.budget.evaluations,
        ok=counts["ok"],
        failed=counts["failed"],
        pending=counts["pending"],
        best_energy=best[0]["energy"] if best else None,
        elapsed_s=elapsed,
        left_s=elapsed * (1 - done) / done if 0.05 < done < 1 else None,
        worker_s=document.worker_s,
        timings=_sums(every),
        chains=[_chain(every, number) for number in range(config.budget.chains)],
    )


def _chain(every: list[RoundDocument], number: int) -> ChainProgress:
    own = [round_ for round_ in every if round_.chain == number]
    if not own:
        return ChainProgress(number, None, "waiting")
    last = own[-1]
    progress: dict[str, Any] = last.progress
    acceptance = [value for value in progress.get("acceptance") or () if value is not None]
    return ChainProgress(
        chain=number,
        round=last.k,
        state=last.state,
        iteration=progress.get("iteration"),
        acceptance=fmean(acceptance) if acceptance else None,
        model_best=progress.get("best_energy"),
    )


def _sums(every: list[RoundDocument]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for round_ in every:
        for name, seconds in round_.timings.items():
            sums[name] = sums.get(name, 0.0) + seconds
    return sums
