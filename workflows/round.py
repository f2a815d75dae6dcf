"""One round as a small static flow: search, select, evaluate, retrain, advance."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jobflow import Flow, Job, Maker, OutputReference, job

from godelta.campaign import CampaignConfig
from godelta.makers.evaluate import EvaluateMaker
from godelta.makers.refine import RefineMaker
from godelta.makers.retrain import RetrainMaker
from godelta.makers.search import SearchMaker
from godelta.makers.select import SelectMaker
from godelta.resources import BatchResources
from godelta.store.documents import REFINEMENT_CHAIN, RoundKey
from godelta.workflows.launchpad import CAMPAIGN_FIELD as CAMPAIGN_FIELD  # noqa: PLC0414 - imported from here
from godelta.workflows.launchpad import ROUND_METADATA

if TYPE_CHECKING:
    from fireworks import Workflow

LIGHT = "light"
DFT = frozenset({"gpaw", "espresso", "vasp"})  # whose evaluations are worth a job each


@job
def advance_campaign(campaign_id: str, after: dict[str, object]) -> dict[str, object]:
    """Last job of a round: plan what comes next; `after` only orders the jobs."""
    from godelta.makers.session import current_session
    from godelta.workflows.launchpad import open_launchpad
    from godelta.workflows.planner import advance

    session = current_session()
    return {"planned": advance(session.store, open_launchpad(session.workspace), campaign_id)}


def categories(config: CampaignConfig) -> dict[str, str]:
    """FireWorks category of each job: its role, the environment that it needs, and resources of its own."""
    search = _category(f"search-{config.foundation.name}", config.resources.search)
    return {
        "search": search,
        "refine": search,
        "evaluate": _category(f"evaluate-{config.reference.engine}", config.resources.reference),
        "retrain": search,
        "select": LIGHT,
        "advance": LIGHT,
    }


def _category(name: str, resources: BatchResources) -> str:
    return f"{name}+{resources.mark}" if resources.mark else name


def slot_batches(config: CampaignConfig, count: int | None = None) -> list[list[int]]:
    """Slots of a round's selection, grouped into jobs: short evaluations are not worth one each.

    `count` is that of the search's rounds where it is not given.
    """
    per_job = config.resources.evaluations_per_job or (1 if config.reference.engine in DFT else 10)
    count = count or config.search.selection.evaluations_per_round
    return [list(range(first, min(first + per_job, count))) for first in range(0, count, per_job)]


@dataclass
class RoundFlowMaker(Maker):
    """Makes the flow of one round; only ids and small summaries travel between its jobs.

    A round of the search is search, select, evaluate, retrain; one of a refinement has `refine` in place of
    search and selection.
    """

    name: str = "round"
    search: SearchMaker = field(default_factory=SearchMaker)
    refine: RefineMaker = field(default_factory=RefineMaker)
    select: SelectMaker = field(default_factory=SelectMaker)
    evaluate: EvaluateMaker = field(default_factory=EvaluateMaker)
    retrain: RetrainMaker = field(default_factory=RetrainMaker)

    def make(
        self,
        key: RoundKey,
        epoch: int,
        config: CampaignConfig,
        closing: Callable[[OutputReference], Job] | None = None,
    ) -> Flow:
        """The round's jobs, and the job that follows them.

        Parameters
        ----------
        key, epoch
            The round.
        config
            The campaign's configuration: number of evaluation slots, categories.
        closing
            Makes the last job, given the output to wait for; by default the one that asks the planner what
            comes next.
        """
        place = (key.campaign_id, key.chain, key.k, epoch)
        if key.chain == REFINEMENT_CHAIN:
            first, roles = [self.refine.make(*place)], ["refine"]
            batches = slot_batches(config, config.refine.best)
        else:
            search = self.search.make(*place)
            first, roles = [search, self.select.make(*place, search.output)], ["search", "select"]
            batches = slot_batches(config)
        slots = [self.evaluate.make(*place, batch, first[-1].output) for batch in batches]
        retrain = self.retrain.make(*place, [slot.output for slot in slots])
        last = closing(retrain.output) if closing else advance_campaign(key.campaign_id, retrain.output)
        members = [*first, *slots, retrain, last]
        roles += [*["evaluate"] * len(slots), "retrain", "advance"]
        return _flow(members, roles, key, config, name=self.name)

    def make_closing(self, key: RoundKey, epoch: int, config: CampaignConfig) -> Flow:
        """The round's last jobs alone: they work with the evaluations that are in."""
        retrain = self.retrain.make(key.campaign_id, key.chain, key.k, epoch, [])
        last = advance_campaign(key.campaign_id, retrain.output)
        return _flow([retrain, last], ["retrain", "advance"], key, config, name=f"closing of {self.name}")


def _flow(members: list[Job], roles: list[str], key: RoundKey, config: CampaignConfig, *, name: str) -> Flow:
    by_role = categories(config)
    for member, role in zip(members, roles, strict=True):
        member.config.manager_config["_category"] = by_role[role]
        member.config.manager_config[CAMPAIGN_FIELD] = key.campaign_id
    jobs: list[Flow | Job] = [*members]
    where = "refinement" if key.chain == REFINEMENT_CHAIN else f"chain {key.chain}"
    return Flow(jobs, name=f"{config.name} {where} {name} {key.k}")


def round_workflow(key: RoundKey, epoch: int, config: CampaignConfig) -> "Workflow":
    """The round as a FireWorks workflow, marked so that it can exist only once."""
    from jobflow.managers.fireworks import flow_to_workflow

    flow = RoundFlowMaker().make(key, epoch, config)
    return flow_to_workflow(flow, metadata={ROUND_METADATA: workflow_mark(key, epoch)})


def closing_workflow(key: RoundKey, epoch: int, config: CampaignConfig, mark: str) -> "Workflow":
    """The round's last jobs as a workflow of their own."""
    from jobflow.managers.fireworks import flow_to_workflow

    flow = RoundFlowMaker().make_closing(key, epoch, config)
    return flow_to_workflow(flow, metadata={ROUND_METADATA: mark})


def workflow_mark(key: RoundKey, epoch: int) -> str:
    """What names a round's workflow in the LaunchPad."""
    return f"{key.campaign_id}/{key.chain}/{key.k}/{epoch}"
