"""Pausing, resuming and cancelling a campaign; each may be asked for again, at any time."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from godelta.store import campaigns, retries, rounds
from godelta.store.database import Store, Superseded
from godelta.store.documents import CampaignDocument, CampaignState, RoundDocument
from godelta.store.workers import BatchLives
from godelta.workflows.launchpad import ROUND_METADATA
from godelta.workflows.planner import OFF_THE_QUEUE, advance
from godelta.workflows.queue import archive_former, jobs_under_way, take_off
from godelta.workflows.round import workflow_mark

if TYPE_CHECKING:
    from fireworks import LaunchPad

CANCELLABLE: tuple[CampaignState, ...] = ("created", "running", "paused", "failed")


@dataclass(frozen=True)
class Changed:
    """What came of it, in a sentence that begins with the campaign's name."""

    sentence: str
    done: bool = True


def pause(store: Store, launchpad: "LaunchPad", name_or_id: str) -> Changed:
    """Have no new job of a campaign taken; jobs under way finish, and their results are stored.

    Raises
    ------
    InputError
        There is no such campaign.
    """
    campaign = campaigns.get_campaign(store, name_or_id)
    changed = campaigns.set_state(store, campaign.campaign_id, "running", "paused")
    state = campaigns.get_campaign(store, campaign.campaign_id).state
    if state in OFF_THE_QUEUE:  # where it was so before, perhaps not to the end
        take_off(launchpad, campaign.campaign_id)
    if state != "paused":
        return Changed(_left_alone(campaign, state), done=False)
    under_way = jobs_under_way(launchpad, campaign.campaign_id)
    going = f"; jobs under way: {under_way}, they finish" if under_way else ""
    word = "is paused" if changed else "is paused already"
    return Changed(f"{campaign.name} {word}{going}. `godelta resume {campaign.name}` goes on.")


def resume(
    store: Store,
    launchpad: "LaunchPad",
    name_or_id: str,
    *,
    reopen: bool = False,
    batch_lives: BatchLives | None = None,
) -> Changed:
    """Have a paused campaign go on, at once: its rounds are planned anew, and what they saved is kept.

    Parameters
    ----------
    reopen
        Take up a cancelled campaign as well.

    Raises
    ------
    InputError
        There is no such campaign.
    """
    campaign = campaigns.get_campaign(store, name_or_id)
    expected: tuple[CampaignState, ...] = ("paused", "cancelled") if reopen else ("paused",)
    changed = campaigns.set_state(store, campaign.campaign_id, expected, "running")
    state = campaigns.get_campaign(store, campaign.campaign_id).state
    if state in OFF_THE_QUEUE:
        take_off(launchpad, campaign.campaign_id)
    if state != "running":
        return Changed(_left_alone(campaign, state), done=False)
    advance(store, launchpad, campaign.campaign_id, batch_lives)
    state = campaigns.get_campaign(store, campaign.campaign_id).state
    if state != "running":
        return Changed(f"{campaign.name} is {state}: nothing was left to do.")
    return Changed(f"{campaign.name} {'goes on' if changed else 'is running already'}.")


def cancel(
    store: Store, launchpad: "LaunchPad", name_or_id: str, batch_lives: BatchLives | None = None
) -> Changed:
    """Give a campaign up: nothing of it is left in the queue; what has been evaluated stays.

    Searches under way stop at their next step; an evaluation under way is finished and stored.

    Raises
    ------
    InputError
        There is no such campaign.
    """
    campaign = campaigns.get_campaign(store, name_or_id)
    changed = campaigns.set_state(store, campaign.campaign_id, CANCELLABLE, "cancelled")
    campaign = campaigns.get_campaign(store, campaign.campaign_id)
    if campaign.state != "cancelled":
        return Changed(_left_alone(campaign, campaign.state), done=False)
    take_off(launchpad, campaign.campaign_id)
    for round_ in rounds.rounds_of(store, campaign.campaign_id):
        if round_.state != "closed":
            _withdraw(store, launchpad, round_)
    leftovers = retries.leftover_reservations(store, campaign, batch_lives)
    retries.clear_reservations(store, campaign.campaign_id, leftovers)
    word = "is cancelled" if changed else "is cancelled already"
    return Changed(f"{campaign.name} {word}; what has been evaluated stays in the database.")


def _withdraw(store: Store, launchpad: "LaunchPad", round_: RoundDocument) -> None:
    """Take a round back from the jobs that are at it."""
    epoch = round_.epoch
    mark = workflow_mark(round_.key, epoch)
    if launchpad.workflows.find_one({f"metadata.{ROUND_METADATA}": mark}, {"_id": 1}) is None:
        archive_former(launchpad, round_.key, epoch)  # withdrawn before, perhaps not to the end
        return
    try:
        epoch = rounds.bump_epoch(store, round_.key, epoch)
    except Superseded:  # closed, or withdrawn by somebody else, a moment ago
        return
    archive_former(launchpad, round_.key, epoch)


def _left_alone(campaign: CampaignDocument, state: CampaignState) -> str:
    name = campaign.name
    mend = {
        "created": "was never started, and is left alone; `godelta run` or `submit` with its file starts it",
        "running": f"is running: `godelta pause {name}` pauses it",
        "paused": f"is paused: `godelta resume {name}` goes on",
        "finished": "is finished, and left alone; `godelta run` or `submit` with a larger budget goes on",
        "failed": f"has failed, and is left alone; mend the reason, then: `godelta restart {name}`",
        "cancelled": f"is cancelled, and left alone; `godelta resume --reopen {name}` takes it up again",
    }
    return f"{name} {mend[state]}."
