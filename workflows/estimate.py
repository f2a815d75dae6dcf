"""What a campaign would put into the queue, and what that may cost, before anything is submitted."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from jobflow import Job

from godelta.campaign import CampaignConfig
from godelta.errors import InputError
from godelta.reference.registry import reference_hash
from godelta.store.database import Store
from godelta.store.documents import REFINEMENT_CHAIN, RoundKey
from godelta.store.workspace import Workspace
from godelta.workflows.launcher import own_resources, scripts
from godelta.workflows.resource_classes import class_for
from godelta.workflows.round import RoundFlowMaker, categories

LAST_MEASURED = 200  # evaluations and rounds that an estimate looks at


@dataclass(frozen=True)
class Cost:
    """Hours of processors and GPUs; `known`: as measured before, else the most that limits allow."""

    cpu_hours: float
    gpu_hours: float
    known: bool


@dataclass(frozen=True)
class Plan:
    """A campaign in the queue.

    Parameters
    ----------
    jobs
        Fireworks of one round, by category.
    rounds
        Most rounds of all chains together.
    costs
        What it may cost at most, by role.
    evaluations
        Most evaluations of the search.
    refinement
        Evaluations of its refinement, where each structure needs all that it may have.
    fireworks
        All jobs that the search may put into the queue, and those of such a refinement.
    """

    config: CampaignConfig
    jobs: dict[str, int]
    rounds: int
    costs: dict[str, Cost]
    evaluations: int
    refinement: int
    fireworks: int


def plan(config: CampaignConfig, workspace: Workspace, store: Store | None) -> Plan:
    """What a campaign would put into the queue; with a store, its costs come from what was measured.

    Raises
    ------
    InputError
        The workspace has no file for a class, or one that cannot be used.
    """
    jobs = _jobs(config, 0)
    rounds = config.budget.rounds * config.budget.chains
    fireworks = rounds * sum(jobs.values())
    if config.refine.best:  # the last round only judges what the one before has given
        fireworks += (config.refine.evaluations + 1) * sum(_jobs(config, REFINEMENT_CHAIN).values())
    names = categories(config)
    own = own_resources([config])
    fields = {
        role: class_for(workspace, names[role], own[names[role]]).fields() for role in ("search", "evaluate")
    }
    costs = {
        "reference": _reference_cost(config, store, fields["evaluate"]),
        "search": _search_cost(config, store, rounds, fields["search"]),
    }
    return Plan(
        config,
        jobs,
        rounds,
        {role: cost for role, cost in costs.items() if cost},
        config.budget.evaluations,
        _refining(config),
        fireworks,
    )


def _jobs(config: CampaignConfig, chain: int) -> dict[str, int]:
    """Fireworks of one round of a chain, by category."""
    flow = RoundFlowMaker().make(RoundKey("0" * 24, chain, 0), 0, config)
    return dict(Counter(job.config.manager_config["_category"] for job in flow.jobs if isinstance(job, Job)))


def _refining(config: CampaignConfig) -> int:
    return config.refine.best * config.refine.evaluations


def batch_scripts(workspace: Workspace, configs: dict[Path, CampaignConfig]) -> dict[str, str]:
    """The batch scripts of all categories of these campaigns, by category.

    Raises
    ------
    InputError
        The workspace has no file for a class, or one that cannot be used.
    """
    if not (workspace.folder / "fw_config").is_dir():
        raise InputError(
            "the workspace has no batch jobs yet", where=str(workspace.folder), mend="godelta init --slurm"
        )
    return scripts(workspace, {config.name: config for config in configs.values()})


def _reference_cost(config: CampaignConfig, store: Store | None, fields: dict[str, Any]) -> Cost:
    """Evaluations times their mean wall time on the cores of a batch job, else times the limit."""
    seconds = _mean_evaluation(store, reference_hash(config.reference)) if store else None
    limit = config.reference.limits.wall_seconds
    evaluations = config.budget.evaluations + _refining(config)
    hours = evaluations * (limit if seconds is None else seconds) * _cores(fields) / 3600.0
    return Cost(hours, 0.0, seconds is not None)


def _search_cost(
    config: CampaignConfig, store: Store | None, rounds: int, fields: dict[str, Any]
) -> Cost | None:
    """Rounds times the mean time of searches and trainings like these; None where nothing is known."""
    seconds = _mean_round(store, config) if store else None
    if seconds is None:
        return None
    hours = min(rounds, _rounds_that_evaluations_allow(config)) * seconds / 3600.0
    gpus = str(fields.get("gpus_per_node") or 0).rpartition(":")[2]
    return Cost(hours * _cores(fields), hours * (int(gpus) if gpus.isdigit() else 0), known=True)


def _cores(fields: dict[str, Any]) -> int:
    """Cores of a batch job."""
    tasks = int(fields.get("ntasks") or (fields.get("nodes") or 1) * (fields.get("ntasks_per_node") or 1))
    return tasks * int(fields.get("cpus_per_task") or 1)


def _rounds_that_evaluations_allow(config: CampaignConfig) -> int:
    return -(-config.budget.evaluations // config.search.selection.evaluations_per_round)


def _mean_evaluation(store: Store, reference: str) -> float | None:
    query = {"reference_hash": reference, "state": "ok"}
    found = store.evaluations.find(query, {"attempts": {"$slice": -1}}).limit(LAST_MEASURED)
    seconds = [raw["attempts"][-1]["cost"].get("wall_s") for raw in found if raw["attempts"]]
    known = [value for value in seconds if value]
    return fmean(known) if known else None


def _mean_round(store: Store, config: CampaignConfig) -> float | None:
    alike: dict[str, Any] = {
        "config.foundation.name": config.foundation.name,
        "config.system.formula": getattr(config.system, "formula", None),
    }
    ids = [raw["campaign_id"] for raw in store.campaigns.find(alike, {"campaign_id": 1})]
    found = store.rounds.find({"campaign_id": {"$in": ids}, "state": "closed"}, {"timings": 1})
    seconds = [
        sum(raw["timings"].get(name, 0.0) for name in ("loading_s", "potential_s", "training_s"))
        for raw in found.limit(LAST_MEASURED)
    ]
    return fmean(seconds) if seconds else None
