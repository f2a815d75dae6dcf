"""What is left of a campaign's budget of evaluations, for planning; reserving is what keeps it."""

from godelta.campaign import CampaignConfig
from godelta.store import campaigns, evaluations, structures
from godelta.store.database import Store
from godelta.store.documents import REFINEMENT_CHAIN


def evaluation_limit(store: Store, campaign_id: str, config: CampaignConfig) -> int:
    """How many evaluations the campaign may have paid for: the search's budget, and what refinement chose."""
    return config.budget.evaluations + _refining(store, campaign_id)


def evaluations_left(store: Store, campaign_id: str, config: CampaignConfig, chain: int) -> int:
    """How many more structures a chain may select.

    Chains that share draw on one budget: what is spent, reserved, or selected and not evaluated yet is
    gone. Chains that do not share have equal parts of it, so that none depends on another's pace.
    """
    budget = config.budget
    campaign = campaigns.get_campaign(store, campaign_id)
    if cpu_is_spent(store, campaign_id, config):
        return 0
    if not config.share:
        return max(
            0, budget.evaluations // budget.chains - len(structures.selected_ids(store, campaign_id, chain))
        )
    waiting = _waiting(store, campaign_id, campaign.reference_hash, open_only=config.resources.wait)
    limit = evaluation_limit(store, campaign_id, config)
    return max(0, limit - campaign.spent - max(waiting, len(campaign.reserved)))


def cpu_is_spent(store: Store, campaign_id: str, config: CampaignConfig) -> bool:
    """Whether the budget of processor time is gone."""
    hours = config.budget.cpu_hours
    return hours is not None and campaigns.get_campaign(store, campaign_id).spent_cpu_s >= hours * 3600.0


def _refining(store: Store, campaign_id: str) -> int:
    return len(structures.selected_ids(store, campaign_id, REFINEMENT_CHAIN))


def _waiting(store: Store, campaign_id: str, reference_hash: str, *, open_only: bool) -> int:
    """How many selected structures will still be evaluated; of closed rounds only where none waits."""
    selected = structures.selected_ids(store, campaign_id, unfinished=open_only)
    hashes = [document.structure_hash for document in structures.get_structures(store, selected)]
    return len(hashes) - evaluations.count_done(store, hashes, reference_hash)
