"""When a chain is at its end: decided from what the database holds, so that anybody may ask at any time."""

from collections.abc import Collection

from godelta.campaign import CampaignConfig
from godelta.search.settings import REFINEMENT
from godelta.store import campaigns, evaluations
from godelta.store.budget import cpu_is_spent, evaluations_left
from godelta.store.database import Raw, Store
from godelta.store.documents import REFINEMENT_CHAIN, RoundDocument

NO_IMPROVEMENT = "no improvement"


def end_of_chain(store: Store, config: CampaignConfig, last: RoundDocument) -> str | None:
    """Why no round follows a chain's last one; None where one does, or the last one is open.

    Parameters
    ----------
    config
        The campaign's configuration as it is now: its budget may have changed.
    """
    if last.state != "closed":
        return None
    budget = config.budget
    if last.k + 1 >= budget.rounds:
        return "all its rounds are done"
    if evaluations_left(store, last.campaign_id, config, last.chain) <= 0:
        return "the budget of evaluations is spent"
    patience = budget.stop_without_improvement
    if patience is not None and not _improved(store, config, last, patience):
        return f"{NO_IMPROVEMENT} over {patience} round{'s' if patience > 1 else ''}"
    return None


def end_of_refinement(
    store: Store, campaign_id: str, config: CampaignConfig, last: RoundDocument | None
) -> str | None:
    """Why no round follows the refinement's last one; None where one does, or the last one is open.

    It has ended when its last round had nothing to evaluate, unless the search has gone on since, or the
    settings ask for something else.
    """
    if not config.refine.best:
        return "it is not asked for"
    if cpu_is_spent(store, campaign_id, config):
        return "the budget of processor time is spent"
    if last is None:
        level = campaigns.get_campaign(store, campaign_id).reference_hash
        return None if evaluations.counts(store, campaign_id, level)["ok"] else "nothing was evaluated"
    told = last.statistics.get(REFINEMENT)
    if last.state != "closed" or told is None or told["running"]:
        return None
    if told["asked"] != config.refine.model_dump(mode="json"):
        return None
    since: Raw = {
        "campaign_id": campaign_id,
        "chain": {"$ne": last.chain},
        "selected_at": {"$gt": last.planned_at},
    }
    return None if store.rounds.count_documents(since, limit=1) else "all that was asked for is refined"


def is_early(reason: str | None) -> bool:
    """Whether a chain has ended before its rounds and its evaluations were spent."""
    return reason is not None and reason.startswith(NO_IMPROVEMENT)


def _improved(store: Store, config: CampaignConfig, last: RoundDocument, patience: int) -> bool:
    """Whether the lowest energy has fallen over the chain's last `patience` rounds, or it is early to say.

    Of chains that share, the rounds of all of them count that were closed since then, or are open. What
    refinement has found does not: it is no reason to search on.
    """
    chain: Raw = {"campaign_id": last.campaign_id, "chain": last.chain}
    if last.k < patience:
        return True
    before = store.rounds.find_one({**chain, "k": last.k - patience, "state": "closed"}, {"changed_at": 1})
    if before is None:
        return True
    recent: Raw = {**chain, "k": {"$gt": last.k - patience}}
    if config.share:
        since = [{"state": {"$ne": "closed"}}, {"changed_at": {"$gt": before["changed_at"]}}]
        recent = {"campaign_id": last.campaign_id, "chain": {"$ne": REFINEMENT_CHAIN}, "$or": since}
    new = _hashes(store, recent)
    old = None if config.share else _hashes(store, chain) - new
    refined = _hashes(store, {"campaign_id": last.campaign_id, "chain": REFINEMENT_CHAIN})
    level = campaigns.get_campaign(store, last.campaign_id).reference_hash
    best_before = _lowest(store, last.campaign_id, level, among=old, but=new | refined)
    if best_before is None:
        return True
    asked = {"structure_hash": {"$in": sorted(new)}, "reference_hash": level, "state": "ok"}
    lowest = store.evaluations.find_one(asked, {"energy": 1}, sort=[("energy", 1)])
    return lowest is not None and best_before - lowest["energy"] > config.budget.improvement


def _hashes(store: Store, which: Raw) -> set[str]:
    """Hashes of what these rounds selected."""
    selected = {i for raw in store.rounds.find(which, {"selection": 1}) for i in raw["selection"]}
    found = store.structures.find({"structure_id": {"$in": sorted(selected)}}, {"structure_hash": 1})
    return {raw["structure_hash"] for raw in found}


def _lowest(
    store: Store, campaign_id: str, level: str, *, among: Collection[str] | None, but: Collection[str]
) -> float | None:
    """The campaign's lowest energy in eV, of these structures without those; among None: of all."""
    asked: Raw = {"requests.campaign_id": campaign_id, "reference_hash": level, "state": "ok"}
    if among is not None:
        asked = {"structure_hash": {"$in": sorted(among)}, "reference_hash": level, "state": "ok"}
    cursor = store.evaluations.find(asked, {"structure_hash": 1, "energy": 1}).sort("energy", 1)
    return next((float(raw["energy"]) for raw in cursor if raw["structure_hash"] not in but), None)
