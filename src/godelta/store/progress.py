"""How far a campaign is, from its documents."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from godelta.resources import Budget
from godelta.store import campaigns, evaluations, structures
from godelta.store.database import Raw, Store
from godelta.store.documents import REFINEMENT_CHAIN, CampaignDocument, EvaluationState
from godelta.store.refining import REFINED, RefinementCount, count_of_rounds

_IN_ORDER = [("chain", 1), ("k", 1)]
_OF_ROUND = ("chain", "k", "state", "progress", "timings")


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
    """One campaign: energies in eV, times in seconds.

    Parameters
    ----------
    budget
        Most evaluations of the search, and those that its refinement has chosen.
    left_s
        Estimate of the time to the end of the search; None while something is refined.
    refinement
        What is refined, or was; None without a refinement.
    """

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
    refinement: RefinementCount | None = None


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
    every = list(store.rounds.find({"campaign_id": document.campaign_id}, _OF_ROUND).sort(_IN_ORDER))
    refining = {"campaign_id": document.campaign_id, "chain": REFINEMENT_CHAIN}
    own = list(store.rounds.find(refining, REFINED).sort(_IN_ORDER))
    refinement = count_of_rounds(own, document.state)
    return _progress(document, every, counts, best[0]["energy"] if best else None, refinement)


def _progress(
    campaign: CampaignDocument,
    rounds: list[Raw],
    counts: Mapping[EvaluationState, int],
    best: float | None,
    refinement: RefinementCount | None,
) -> Progress:
    config = campaign.config
    latest = {round_["chain"]: round_ for round_ in rounds}  # they come in order of k
    budget = Budget.model_validate(config.get("budget", {}))
    elapsed = campaign.elapsed_s
    closed = sum(round_["state"] == "closed" and round_["chain"] < REFINEMENT_CHAIN for round_ in rounds)
    limit = budget.evaluations + (refinement.evaluations if refinement else 0)
    done = max((counts["ok"] + counts["failed"]) / limit, closed / (budget.rounds * budget.chains))
    refining = refinement is not None and refinement.active
    return Progress(
        name=campaign.name,
        campaign_id=campaign.campaign_id,
        formula=config.get("system", {}).get("formula", ""),
        state=campaign.state,
        reason=campaign.reason,
        rounds=budget.rounds,
        closed_rounds=closed,
        budget=limit,
        ok=counts["ok"],
        failed=counts["failed"],
        pending=counts["pending"],
        best_energy=best,
        elapsed_s=elapsed,
        left_s=elapsed * (1 - done) / done if 0.05 < done < 1 and not refining else None,
        worker_s=campaign.worker_s,
        timings=_sums(rounds),
        chains=[_chain(latest.get(number), number) for number in range(budget.chains)],
        refinement=refinement,
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
