"""`godelta restart`: what has gone wrong with a campaign, and how it is put right.

Looking and mending are apart: what is printed comes from `survey`, which changes nothing, and `mend` looks
again before every change, each of which is a compare-and-set. So it may be called twice, twice at once, and
while workers work.
"""

import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from godelta.campaign import CampaignConfig
from godelta.errors import InputError
from godelta.foundation import check_foundation
from godelta.store import campaigns, evaluations, retries, rounds, structures
from godelta.store.budget import evaluations_left
from godelta.store.database import Store, Superseded
from godelta.store.documents import REFINEMENT_CHAIN, CampaignDocument, RoundDocument
from godelta.store.retries import NOT_OF_THE_STRUCTURE, Failed
from godelta.store.stopping import end_of_chain, is_early
from godelta.store.weights import CampaignWeights
from godelta.workflows.batch import BatchWatch
from godelta.workflows.outcome import first_line, is_infrastructure
from godelta.workflows.planner import advance
from godelta.workflows.queue import archive, archive_former, orphans, stale_locks, unlock
from godelta.workflows.survey import Finding, open_rounds, survey_leftovers, survey_rounds

if TYPE_CHECKING:
    from fireworks import LaunchPad

ALL = "all"
NONE = "none"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RestartOptions:
    """What a restart may do.

    Parameters
    ----------
    retry
        Reasons of failed evaluations that are tried again; `all`, or `none`.
    named
        The campaign was asked for by its name, so that it is started again whatever it failed of.
    """

    retry: frozenset[str] = NOT_OF_THE_STRUCTURE
    named: bool = False

    def retries(self, failed: Failed) -> bool:
        """Whether this failed evaluation is to be tried again."""
        return NONE not in self.retry and (ALL in self.retry or failed.reason in self.retry)


@dataclass(frozen=True)
class Survey:
    """What was found; `unsettled` where a second look in a while may find more."""

    campaign: CampaignDocument
    findings: list[Finding]
    unsettled: bool = False

    @property
    def acts(self) -> bool:
        """Whether there is anything to do."""
        return any(finding.acts for finding in self.findings)


def survey(
    store: Store,
    launchpad: "LaunchPad",
    campaign: CampaignDocument,
    config: CampaignConfig,
    options: RestartOptions,
    batch: BatchWatch,
) -> Survey:
    """What is wrong with a campaign, and what `mend` will do about it; changes nothing.

    Parameters
    ----------
    config
        The configuration that it is to have, which may differ from its own in what is adjustable.
    """
    if not _is_eligible(campaign, options):
        return Survey(campaign, [Finding("", *_why_not(campaign), acts=False)])
    findings = []
    if campaign.state == "failed":
        findings.append(Finding("", _failure(campaign), "it goes on"))
    of_rounds = survey_rounds(store, launchpad, campaign, config, batch)
    findings += of_rounds.findings + _of_the_queue(launchpad, campaign.campaign_id)
    selected = structures.selected_ids(store, campaign.campaign_id, unfinished=True)
    findings += survey_leftovers(store, campaign, selected, batch)
    findings += _of_failures(store, campaign, config, options)
    return Survey(campaign, findings, of_rounds.unsettled)


def mend(
    store: Store, launchpad: "LaunchPad", campaign_id: str, options: RestartOptions, batch: BatchWatch
) -> list[str]:
    """Put right what `survey` finds, and plan what comes next.

    Nothing that an engine of workflows holds is run again or opened again: rounds are planned anew, and what
    they saved is kept.

    Returns
    -------
    list of str
        Marks of the workflows that were added to the LaunchPad.

    Raises
    ------
    InputError
        The foundation's weights are here, and are not those that the campaign was begun with.
    """
    campaign = campaigns.get_campaign(store, campaign_id)
    if not _is_eligible(campaign, options):
        return []
    config = CampaignConfig.model_validate(campaign.config)
    _confirm_weights(store, campaign_id, config)
    selected = structures.selected_ids(store, campaign_id, unfinished=True)
    leases = retries.abandoned_leases(store, selected, campaign.reference_hash, batch)
    retries.end_leases(store, campaign.reference_hash, leases)
    leftovers = retries.leftover_reservations(store, campaign, batch)
    retries.clear_reservations(store, campaign_id, leftovers)
    for workflow in stale_locks(launchpad, campaign_id):
        unlock(launchpad, workflow)
    archive(launchpad, orphans(launchpad, campaign_id))
    again = {failed.structure_hash for failed in to_retry(store, campaign, config, options)}
    for round_ in open_rounds(store, campaign_id, config):
        _withdraw(store, launchpad, campaign, round_, again)
    opened = evaluations.reopen_failed(store, sorted(again), campaign.reference_hash)
    if opened:
        log.info("evaluations that are tried again: %d", opened)
    # Last, so that nobody plans a failed campaign by what it was.
    campaigns.set_state(store, campaign_id, "failed", "running")
    return advance(store, launchpad, campaign_id, batch)


def _confirm_weights(store: Store, campaign_id: str, config: CampaignConfig) -> None:
    """Compare the foundation's weights with those of the campaign's start, where they are on this machine."""
    try:
        sha256 = check_foundation(config.foundation)
    except InputError:  # workers have them in an environment of their own, and look there
        return
    CampaignWeights(store, campaign_id).agree(sha256)


def to_retry(
    store: Store, campaign: CampaignDocument, config: CampaignConfig, options: RestartOptions
) -> list[Failed]:
    """The failed evaluations to try again: not too often, and only where somebody will come to them."""
    wanted = [
        failed
        for failed in retries.failed_evaluations(store, campaign)
        if options.retries(failed) and not failed.in_quarantine
    ]
    if not wanted:
        return []
    left = {
        chain: evaluations_left(store, campaign.campaign_id, config, chain)
        for chain in range(config.budget.chains)
    }
    shared = max(left.values())  # of chains that share, the rest of one budget
    last = {chain: rounds.last_round(store, campaign.campaign_id, chain) for chain in left}
    early = {
        chain for chain, round_ in last.items() if round_ and is_early(end_of_chain(store, config, round_))
    }
    chosen = []
    for failed in wanted:
        own = shared if config.share else left.get(failed.chain, 0)
        if own > 0 and failed.chain not in early and _comes_again(failed, last.get(failed.chain), config):
            chosen.append(failed)
            shared, left[failed.chain] = shared - 1, left.get(failed.chain, 0) - 1
    return chosen


def _comes_again(failed: Failed, last: RoundDocument | None, config: CampaignConfig) -> bool:
    """Whether the round that selected it is open, or the chain has a selection to come; not of refinement."""
    if last is None or failed.chain >= config.budget.chains:
        return False
    if last.k + 1 < config.budget.rounds or last.state in ("planned", "searching"):
        return True
    return last.state != "closed" and last.k == failed.k


def _withdraw(
    store: Store, launchpad: "LaunchPad", campaign: CampaignDocument, round_: RoundDocument, again: set[str]
) -> None:
    """Plan a round anew whose selection holds what is to be tried again: its job may be over.

    Before the evaluations are opened: whoever comes next finds either what failed, and is called again, or
    a round whose jobs look at all of it.
    """
    if round_.state in ("planned", "searching") or not round_.selection:
        return
    own = {one.structure_hash for one in structures.get_structures(store, round_.selection)}
    if own.isdisjoint(again):
        return
    try:
        epoch = rounds.bump_epoch(store, round_.key, round_.epoch)
    except Superseded:  # closed, or planned anew by somebody else, a moment ago
        return
    archive_former(launchpad, round_.key, epoch)


def _is_eligible(campaign: CampaignDocument, options: RestartOptions) -> bool:
    if campaign.state == "failed":
        return options.named or is_infrastructure(campaign.reason)
    return campaign.state == "running"


def _why_not(campaign: CampaignDocument) -> tuple[str, str]:
    """The state of a campaign that is left alone, and what would have it go on."""
    name = campaign.name
    if campaign.state == "failed":
        return _failure(campaign), f"left alone; mend the reason, then: godelta restart {name}"
    mend = {
        "created": "never started: godelta run or submit, with its file",
        "paused": f"godelta resume {name}",
        "finished": "a larger budget goes on: godelta run or submit, with its file",
        "cancelled": f"godelta resume --reopen {name}",
    }
    return str(campaign.state), f"left alone; {mend.get(campaign.state, '')}"


def _failure(campaign: CampaignDocument) -> str:
    return f"failed: {first_line(campaign.reason or 'no reason is known')}"


def _of_the_queue(launchpad: "LaunchPad", campaign_id: str) -> list[Finding]:
    lost, locks = len(orphans(launchpad, campaign_id)), len(stale_locks(launchpad, campaign_id))
    findings = []
    if lost:
        findings.append(Finding("queue", f"jobs that are in no workflow: {lost}", "taken off the queue"))
    if locks:
        found = f"workflows locked by a worker that is gone: {locks}"
        findings.append(Finding("queue", found, "unlocked"))
    return findings


def _of_failures(
    store: Store, campaign: CampaignDocument, config: CampaignConfig, options: RestartOptions
) -> list[Finding]:
    """Failed evaluations by reason: what is tried again, what may be, and what is in quarantine."""
    failed = retries.failed_evaluations(store, campaign)
    again = {one.structure_hash for one in to_retry(store, campaign, config, options)}
    counted: Counter[tuple[str, str, bool]] = Counter()
    for one in failed:
        if one.structure_hash in again:
            will, acts = "tried again", True
        elif one.in_quarantine:
            will, acts = f"in quarantine: failed {one.endings} times", False
        elif one.chain == REFINEMENT_CHAIN:
            will, acts = "kept: refinement takes another, shorter step", False
        elif options.retries(one):
            will, acts = "kept: no budget or round is left for them; raise it in the campaign file", False
        else:
            will, acts = f"kept; --retry {one.reason} tries them again", False
        counted[one.reason, will, acts] += 1
    return [
        Finding("evaluations", f"{count} failed: {reason}", will, acts)
        for (reason, will, acts), count in sorted(counted.items())
    ]
