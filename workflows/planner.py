"""What comes next in a campaign, decided from our own collections alone.

FireWorks is a queue, never the truth: everything in the LaunchPad can be rebuilt by `advance`, which
may be called by anybody, at any time, any number of times.
"""

from contextlib import redirect_stderr
from io import StringIO
from typing import TYPE_CHECKING

from pymongo.errors import BulkWriteError, DuplicateKeyError

from godelta.campaign import CampaignConfig
from godelta.store import campaigns, rounds
from godelta.store.database import Store
from godelta.store.documents import RoundDocument, RoundKey
from godelta.workflows.launchpad import ROUND_METADATA
from godelta.workflows.round import round_workflow, workflow_mark

if TYPE_CHECKING:
    from fireworks import LaunchPad


def advance(store: Store, launchpad: "LaunchPad", campaign_id: str) -> list[str]:
    """Plan every round that can start now, and finish the campaign when none is left.

    Returns
    -------
    list of str
        Marks of the workflows that this call added to the LaunchPad.
    """
    campaign = campaigns.get_campaign(store, campaign_id)
    if campaign.state != "running":
        return []
    config = CampaignConfig.model_validate(campaign.config)
    planned = [
        _ensure_workflow(launchpad, round_, config)
        for chain in range(config.budget.chains)
        if (round_ := _open_round(store, campaign_id, chain, config)) is not None
    ]
    if not planned:
        campaigns.set_state(store, campaign_id, "running", "finished")
    return [mark for mark in planned if mark]


def _open_round(store: Store, campaign_id: str, chain: int, config: CampaignConfig) -> RoundDocument | None:
    """The chain's round in progress, opened where it has none; None where the chain is at its end."""
    last = next(iter(rounds.rounds_of(store, campaign_id, chain)[-1:]), None)
    if last is None:
        return rounds.plan_round(store, RoundKey(campaign_id, chain, 0), model_id=None)
    if last.state != "closed":
        return last
    if last.k + 1 >= config.budget.rounds:
        return None
    if campaigns.evaluations_left(store, campaign_id, config.budget.evaluations) <= 0:
        return None
    return rounds.plan_round(store, RoundKey(campaign_id, chain, last.k + 1), model_id=last.next_model_id)


def _ensure_workflow(launchpad: "LaunchPad", round_: RoundDocument, config: CampaignConfig) -> str:
    """Add the round's workflow unless it is there; its mark, or "" when it was."""
    mark = workflow_mark(round_.key, round_.epoch)
    if launchpad.workflows.find_one({f"metadata.{ROUND_METADATA}": mark}, {"_id": 1}) is not None:
        return ""
    try:
        with redirect_stderr(StringIO()):  # it draws a progress bar for one workflow
            launchpad.bulk_add_wfs([round_workflow(round_.key, round_.epoch, config)])
    except (BulkWriteError, DuplicateKeyError) as error:
        if "metadata" not in str(error):
            raise
        return ""
    return mark


def repair(store: Store, launchpad: "LaunchPad", campaign_id: str) -> int:
    """Plan every unfinished round anew whose workflow cannot go on; the number of those.

    Call it only while no worker of the campaign is alive: whatever the LaunchPad calls running then is
    not. What a round has saved (walkers, selection, evaluations) is kept; only its queue is made anew.
    """
    repaired = 0
    for round_ in rounds.rounds_of(store, campaign_id):
        if round_.state == "closed":
            continue
        query = {f"metadata.{ROUND_METADATA}": workflow_mark(round_.key, round_.epoch)}
        workflow = launchpad.workflows.find_one(query)
        if workflow is not None and _can_go_on(launchpad, workflow["nodes"]):
            continue
        rounds.bump_epoch(store, round_.key, round_.epoch)
        if workflow is not None:
            _archive(launchpad, workflow["nodes"])
        repaired += 1
    return repaired


def _can_go_on(launchpad: "LaunchPad", nodes: list[int]) -> bool:
    states = [
        firework["state"] for firework in launchpad.fireworks.find({"fw_id": {"$in": nodes}}, {"state": 1})
    ]
    return (
        len(states) == len(nodes) and set(states) <= {"COMPLETED", "READY", "WAITING"} and "READY" in states
    )


def _archive(launchpad: "LaunchPad", nodes: list[int]) -> None:
    # LaunchPad.archive_wf would make every job READY for a moment, and a worker could take it.
    launchpad.fireworks.update_many({"fw_id": {"$in": nodes}}, {"$set": {"state": "ARCHIVED"}})
    launchpad.workflows.update_one(
        {"nodes": {"$in": nodes}},
        {"$set": {"state": "ARCHIVED", "fw_states": {str(node): "ARCHIVED" for node in nodes}}},
    )
