"""Closing a round before its last evaluation is in, so that one slow evaluation holds up nobody.

What is late is not lost: an evaluation under way is finished, and what is still missing stands at the end of
the next round's selection.
"""

import math
from typing import TYPE_CHECKING

from godelta.campaign import CampaignConfig
from godelta.store import evaluations, structures
from godelta.store.budget import evaluations_left
from godelta.store.database import Store
from godelta.store.documents import RoundDocument
from godelta.store.retries import unfinished
from godelta.store.workers import BatchLives
from godelta.workflows.health import Health, judge
from godelta.workflows.launchpad import ROUND_METADATA
from godelta.workflows.round import workflow_mark

if TYPE_CHECKING:
    from fireworks import LaunchPad

CLOSE = "close"
MAX_CLOSINGS = 3


def may_close(store: Store, round_: RoundDocument, config: CampaignConfig, reference_hash: str) -> bool:
    """Whether a quorum of the round's evaluations is in, or one is and the deadline has passed.

    Where rounds do not wait, whether all evaluations of the rounds before are in. Never for the last round
    of a chain: nothing waits for it but the results.
    """
    resources = config.resources
    if not resources.wait:
        return _need_not_wait(store, round_, config, reference_hash)
    over = round_.state != "evaluating" or round_.k + 1 >= config.budget.rounds
    if over or (resources.quorum >= 1.0 and resources.deadline_hours is None):
        return False
    hashes = [
        document.structure_hash for document in structures.get_structures(store, list(round_.selection))
    ]
    done = evaluations.count_done(store, hashes, reference_hash)
    if done == 0 or done == len(hashes):  # all are in: the round closes by itself
        return False
    if done >= math.ceil(resources.quorum * len(hashes)):
        return True
    if resources.deadline_hours is None or round_.selected_at is None:
        return False
    return (store.now() - round_.selected_at).total_seconds() > resources.deadline_hours * 3600.0


def _need_not_wait(store: Store, round_: RoundDocument, config: CampaignConfig, reference_hash: str) -> bool:
    """Whether the round's evaluations are on their way, alone of the chain's, and others may follow."""
    if round_.state not in ("selected", "evaluating") or round_.k + 1 >= config.budget.rounds:
        return False
    every = structures.selected_ids(store, round_.campaign_id, round_.chain)
    missing = {one.structure_id for one in unfinished(store, every, reference_hash)}
    if not missing or not missing <= set(round_.selection):
        return False
    return evaluations_left(store, round_.campaign_id, config, round_.chain) > 0


def next_closing(
    store: Store, launchpad: "LaunchPad", round_: RoundDocument, batch_lives: BatchLives | None = None
) -> str:
    """The mark of the closing workflow to add; "" where one is at it, or several have failed."""
    start = f"{workflow_mark(round_.key, round_.epoch)}/{CLOSE}"
    wanted = {"nodes": 1, "updated_on": 1}
    for number in range(MAX_CLOSINGS):
        workflow = launchpad.workflows.find_one({f"metadata.{ROUND_METADATA}": f"{start}/{number}"}, wanted)
        if workflow is None:
            return f"{start}/{number}"
        if judge(store, launchpad, workflow, batch_lives).health is Health.WELL:
            return ""
    return ""  # the round's own workflow closes it in the end
