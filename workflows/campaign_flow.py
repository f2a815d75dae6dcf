"""A campaign as a growing flow of plain jobflow, to be part of other people's flows.

Production campaigns go through the planner and FireWorks, which survive crashes; a flow like this one
does not, but runs under run_locally, jobflow-remote, or as a piece of a larger flow. Structures,
models and energies go to the same database, named by $GODELTA_WORKSPACE.
"""

from dataclasses import dataclass, field
from typing import Any

from jobflow import Flow, Job, Maker, Response, job

from godelta.campaign import CampaignConfig
from godelta.makers.session import current_session
from godelta.store import campaigns, rounds
from godelta.store.documents import REFINEMENT_CHAIN, RoundKey
from godelta.store.programs import refuse_programs
from godelta.workflows.outcome import end_state
from godelta.workflows.round import RoundFlowMaker


@dataclass
class CampaignFlowMaker(Maker):
    """Makes a campaign's flow: its first rounds, each of which adds the next one.

    Parameters
    ----------
    round_maker
        Makes the flow of one round.
    """

    name: str = "campaign"
    round_maker: RoundFlowMaker = field(default_factory=RoundFlowMaker)

    def make(self, config: CampaignConfig) -> Flow:
        """The campaign's flow; its last outputs name the campaign and say how it ended.

        Parameters
        ----------
        config
            The campaign. It is registered when the flow runs; template files have to be readable there.
        """
        first = open_campaign(config.model_dump(mode="json"), self.round_maker)
        return Flow([first], output=first.output, name=f"{self.name} {config.name}")


@job
def open_campaign(config: dict[str, Any], round_maker: RoundFlowMaker) -> Response[dict[str, Any]]:
    """Register a campaign and add the first round of every chain."""
    from godelta.workflows.submit import register

    session = current_session()
    settings = CampaignConfig.model_validate(config)
    refuse_programs(settings, session.workspace)
    document = register(session.store, settings, session.workspace.folder)
    campaigns.reopen(session.store, document.campaign_id)
    campaigns.set_state(session.store, document.campaign_id, ("created", "paused", "failed"), "running")
    flows = _what_follows(document.campaign_id, settings, round_maker)
    output = {"campaign_id": document.campaign_id, "name": document.name}
    return Response(output=output, addition=Flow(flows)) if flows else Response(output=output)


@job
def continue_chain(
    campaign_id: str, chain: int, k: int, round_maker: RoundFlowMaker, after: dict[str, Any]
) -> Response[dict[str, Any]]:
    """Add what follows the chain's round k; `after` only orders the jobs.

    That is its next round. Where there is none, and no other round is open, it is that of any chain that may
    go on: one that shares had ended for lack of improvement, perhaps, and another one has found something.
    """
    session = current_session()
    settings = CampaignConfig.model_validate(campaigns.get_campaign(session.store, campaign_id).config)
    flows: list[Flow | Job] = []
    if _is_latest(campaign_id, chain, k):
        flow = _next_round(campaign_id, chain, settings, round_maker)
        flows = [] if flow is None else [flow]
        if not flows and _all_closed(campaign_id):
            flows = _what_follows(campaign_id, settings, round_maker)
    output = {"campaign_id": campaign_id, "ended": not flows}
    return Response(output=output, addition=Flow(flows)) if flows else Response(output=output)


def _is_latest(campaign_id: str, chain: int, k: int) -> bool:
    """Whether nobody has gone on with the chain after its round k, or this job has and is run again."""
    last = rounds.last_round(current_session().store, campaign_id, chain)
    return last is None or last.k <= k or (last.k == k + 1 and last.state == "planned")


def _what_follows(campaign_id: str, config: CampaignConfig, round_maker: RoundFlowMaker) -> list[Flow | Job]:
    """The next round of every chain that has one, else of the refinement; none where the campaign ends."""
    store = current_session().store
    for chains in (range(config.budget.chains), (REFINEMENT_CHAIN,)):
        found = [_next_round(campaign_id, chain, config, round_maker) for chain in chains]
        flows: list[Flow | Job] = [flow for flow in found if flow is not None]
        if flows:
            return flows
    state, reason = end_state(store, campaigns.get_campaign(store, campaign_id))
    campaigns.set_state(store, campaign_id, "running", state, reason=reason)
    return []


def _next_round(
    campaign_id: str, chain: int, config: CampaignConfig, round_maker: RoundFlowMaker
) -> Flow | None:
    from godelta.workflows.planner import open_refinement, open_round

    store = current_session().store
    if chain == REFINEMENT_CHAIN:
        round_ = open_refinement(store, campaign_id, config)
    else:
        round_ = open_round(store, campaign_id, chain, config)
    if round_ is None:
        return None
    key = RoundKey(campaign_id, chain, round_.k)
    return round_maker.make(
        key,
        round_.epoch,
        config,
        closing=lambda after: continue_chain(campaign_id, chain, round_.k, round_maker, after),
    )


def _all_closed(campaign_id: str) -> bool:
    return all(round_.state == "closed" for round_ in rounds.rounds_of(current_session().store, campaign_id))
