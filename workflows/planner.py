"""What comes next in a campaign, decided from our own collections alone.

FireWorks is a queue, never the truth: everything in the LaunchPad can be rebuilt by `advance`, which
may be called by anybody, at any time, any number of times.
"""

import logging
from contextlib import redirect_stderr
from io import StringIO
from threading import Lock
from typing import TYPE_CHECKING

from pymongo.errors import BulkWriteError, DuplicateKeyError

from godelta import logs
from godelta.campaign import CampaignConfig
from godelta.store import campaigns, rounds
from godelta.store.database import Store, Superseded
from godelta.store.documents import REFINEMENT_CHAIN, CampaignDocument, RoundDocument, RoundKey, chain_title
from godelta.store.stopping import end_of_chain, end_of_refinement
from godelta.store.workers import BatchLives
from godelta.workflows.closing import may_close, next_closing
from godelta.workflows.health import Health, judge
from godelta.workflows.launchpad import ROUND_METADATA, UNIQUE, set_up
from godelta.workflows.outcome import end_state, hopeless
from godelta.workflows.queue import archive, archive_former, orphans, take_off
from godelta.workflows.round import categories, closing_workflow, round_workflow, workflow_mark

if TYPE_CHECKING:
    from fireworks import LaunchPad, Workflow

MAX_FAILURES = 3
OFF_THE_QUEUE = ("paused", "failed", "cancelled")  # of such a campaign no new job is taken
QUIET = Lock()  # sys.stderr is everybody's: campaigns are submitted by several threads

log = logging.getLogger(__name__)


def advance(
    store: Store, launchpad: "LaunchPad", campaign_id: str, batch_lives: BatchLives | None = None
) -> list[str]:
    """Plan every round that can start now, and finish the campaign when none is left.

    A round whose workflow cannot go on by itself is planned anew; what it has saved (walkers, selection,
    evaluations) is kept. After `MAX_FAILURES` errors in one round the campaign is failed, as it is when
    nothing could be evaluated, or every evaluation of late failed alike.

    Parameters
    ----------
    batch_lives
        Asked of the batch job of a silent worker on another host, before its round is taken back.

    Returns
    -------
    list of str
        Marks of the workflows that this call added to the LaunchPad.
    """
    campaign = campaigns.get_campaign(store, campaign_id)
    if campaign.state in OFF_THE_QUEUE:
        take_off(launchpad, campaign_id)
    if campaign.state != "running":
        return []
    with logs.place(campaign=campaign.name, campaign_id=campaign_id, chain=None, round=None, job="plan"):
        return _plan(store, launchpad, campaign, batch_lives)


def _plan(
    store: Store, launchpad: "LaunchPad", campaign: CampaignDocument, batch_lives: BatchLives | None
) -> list[str]:
    campaign_id = campaign.campaign_id
    config = CampaignConfig.model_validate(campaign.config)
    open_rounds = [
        round_
        for chain in range(config.budget.chains)
        if (round_ := open_round(store, campaign_id, chain, config)) is not None
    ]
    if not open_rounds and (round_ := open_refinement(store, campaign_id, config)) is not None:
        open_rounds = [round_]
    if not open_rounds:
        state, reason = end_state(store, campaign)
        campaigns.set_state(store, campaign_id, "running", state, reason=reason)
    elif (reason := hopeless(store, campaign)) is not None:
        campaigns.set_state(store, campaign_id, "running", "failed", reason=reason)
        return []
    marks = []
    for round_ in open_rounds:
        with logs.place(chain=round_.chain, round=round_.k):
            marks.append(_ensure_workflow(store, launchpad, round_, config, batch_lives))
    added = [mark for mark in marks if mark]
    # Paused or cancelled a moment ago, after this call had read that it runs?
    if added and campaigns.get_campaign(store, campaign_id).state in OFF_THE_QUEUE:
        take_off(launchpad, campaign_id)
    return added


def open_round(store: Store, campaign_id: str, chain: int, config: CampaignConfig) -> RoundDocument | None:
    """The chain's round in progress, opened where it has none; None where the chain is at its end."""
    last = rounds.last_round(store, campaign_id, chain)
    if last is None:
        return rounds.plan_round(store, RoundKey(campaign_id, chain, 0), model_id=None)
    if last.state != "closed":
        return last
    if end_of_chain(store, config, last) is not None:
        return None
    return rounds.plan_round(store, RoundKey(campaign_id, chain, last.k + 1), model_id=last.next_model_id)


def open_refinement(store: Store, campaign_id: str, config: CampaignConfig) -> RoundDocument | None:
    """The refinement's round in progress, opened where it has none; None where there is nothing to refine.

    To be asked when every chain of the search is at its end.
    """
    last = rounds.last_round(store, campaign_id, REFINEMENT_CHAIN)
    if last is not None and last.state != "closed":
        return last
    if end_of_refinement(store, campaign_id, config, last) is not None:
        return None
    k, model_id = (0, None) if last is None else (last.k + 1, last.next_model_id)
    return rounds.plan_round(store, RoundKey(campaign_id, REFINEMENT_CHAIN, k), model_id=model_id)


def _ensure_workflow(
    store: Store,
    launchpad: "LaunchPad",
    round_: RoundDocument,
    config: CampaignConfig,
    batch_lives: BatchLives | None,
) -> str:
    """See to it that the round has a workflow that can go on; the mark of a new one, else ""."""
    query = {f"metadata.{ROUND_METADATA}": workflow_mark(round_.key, round_.epoch)}
    workflow = launchpad.workflows.find_one(query, {"nodes": 1, "updated_on": 1})
    if workflow is None:
        archive_former(launchpad, round_.key, round_.epoch)
        archive(launchpad, orphans(launchpad, round_.campaign_id))
        return _add_workflow(launchpad, round_.key, round_.epoch, config)
    verdict = judge(store, launchpad, workflow, batch_lives, set(categories(config).values()))
    if verdict.health is Health.WELL:
        return _close_early(store, launchpad, round_, config, batch_lives)
    failed = verdict.health is Health.FAILED
    try:
        epoch = rounds.bump_epoch(store, round_.key, round_.epoch, failed=failed)
    except Superseded:  # somebody else has planned it anew, or it was closed a moment ago
        return ""
    archive_former(launchpad, round_.key, epoch)
    log.log(
        logging.INFO if verdict.health is Health.STOPPED else logging.WARNING,
        "round taken back: %s",
        verdict.reason or "a job was asked to stop",
    )
    # Counted on, never reset: a campaign that is started again has as many attempts as before.
    if failed and (round_.failures + 1) % MAX_FAILURES == 0:
        reason = f"{chain_title(round_.chain)}, round {round_.k}: {verdict.reason}"
        campaigns.set_state(store, round_.campaign_id, "running", "failed", reason=reason)
        return ""
    return _add_workflow(launchpad, round_.key, epoch, config)


def _close_early(
    store: Store,
    launchpad: "LaunchPad",
    round_: RoundDocument,
    config: CampaignConfig,
    batch_lives: BatchLives | None,
) -> str:
    """Where a quorum is in, add the workflow that closes the round; its mark, else ""."""
    if round_.chain == REFINEMENT_CHAIN:  # what is taken to be missing would count as a step that failed
        return ""
    reference = campaigns.get_campaign(store, round_.campaign_id).reference_hash
    if not may_close(store, round_, config, reference):
        return ""
    mark = next_closing(store, launchpad, round_, batch_lives)
    if not mark or not _add(launchpad, closing_workflow(round_.key, round_.epoch, config, mark)):
        return ""
    log.info("enough evaluations are in: the round is closed without waiting for the rest")
    return mark


def _add_workflow(launchpad: "LaunchPad", key: RoundKey, epoch: int, config: CampaignConfig) -> str:
    if not _add(launchpad, round_workflow(key, epoch, config)):
        return ""
    log.info("round planned%s", f" anew, attempt {epoch + 1}" if epoch else "")
    return workflow_mark(key, epoch)


def _add(launchpad: "LaunchPad", workflow: "Workflow") -> bool:
    """Add a workflow; False where somebody else was first."""
    set_up(launchpad)
    try:
        with QUIET, redirect_stderr(StringIO()):  # it draws a progress bar for one workflow
            launchpad.bulk_add_wfs([workflow])
    except (BulkWriteError, DuplicateKeyError) as error:
        if UNIQUE not in str(error):
            raise
        return False
    return True
