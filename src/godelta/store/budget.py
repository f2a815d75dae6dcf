"""What is left of a campaign's budget of evaluations, for planning; reserving is what keeps it."""

from godelta.campaign import CampaignConfig
from godelta.store import campaigns, evaluations, structures
from godelta.store.database import Store


def evaluations_left(store: Store, campaign_id: str, config: CampaignConfig, chain: int) -> int:
    """How many more structures a chain may select.

    Chains that share draw on one budget: what is spent, reserved, or selected and not evaluated yet is
    gone. Chains that do not share have equal parts of it, so that none depends on another's pace.
    """
    budget = config.budget
    campaign = campaigns.get_campaign(store, campaign_id)
    if budget.cpu_hours is not None and campaign.spent_cpu_s >= budget.cpu_hours * 3600.0:
        return 0
    if not config.share:
        return max(
            0, budget.evaluations // budget.chains - len(structures.selected_ids(store, campaign_id, chain))
        )
    waiting = _waiting(store, campaign_id, campaign.reference_hash)
    return max(0, budget.evaluations - campaign.spent - max(waiting, len(campaign.reserved)))


def _waiting(store: Store, campaign_id: str, reference_hash: str) -> int:
    """How many selected structures will still be evaluated; a closed round's never will."""
    selected = structures.selected_ids(store, campaign_id, unfinished=True)
    hashes = [document.structure_hash for document in structures.get_structures(store, selected)]
    return len(hashes) - evaluations.count_done(store, hashes, reference_hash)
