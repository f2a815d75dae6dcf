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
    campaigns.set_state(session.store, document.campaign_id, ("created", "paused", "failed"), "running")
    chains = [
        _next_round(document.campaign_id, chain, settings, round_maker)
        for chain in range(settings.budget.chains)
    ]
    flows: list[Flow | Job] = [flow for flow in chains if flow is not None]
    output = {"campaign_id": document.campaign_id, "name": document.name}
    return Response(output=output, addition=Flow(flows)) if flows else Response(output=output)


@job
def continue_chain(
    campaign_id: str, chain: int, round_maker: RoundFlowMaker, after: dict[str, Any]
) -> Response[dict[str, Any]]:
    """Add the chain's next round, or end; `after` only orders the jobs."""
    session = current_session()
    settings = CampaignConfig.model_validate(campaigns.get_campaign(session.store, campaign_id).config)
    flow = _next_round(campaign_id, chain, settings, round_maker)
    if flow is None and _all_closed(campaign_id):
        flow = _next_round(campaign_id, REFINEMENT_CHAIN, settings, round_maker)
    if flow is None and _all_closed(campaign_id):
        state, reason = end_state(session.store, campaigns.get_campaign(session.store, campaign_id))
        campaigns.set_state(session.store, campaign_id, "running", state, reason=reason)
    output = {"campaign_id": campaign_id, "ended": flow is None}
    return Response(output=output) if flow is None else Response(output=output, addition=flow)


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
        closing=lambda after: continue_chain(campaign_id, chain, round_maker, after),
    )


def _all_closed(campaign_id: str) -> bool:
    return all(round_.state == "closed" for round_ in rounds.rounds_of(current_session().store, campaign_id))
