"""Making a campaign known to the database."""

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase.data import chemical_symbols

from godelta.campaign import CampaignConfig
from godelta.foundation import check_foundation
from godelta.reference.registry import check_engine, reference_hash
from godelta.search import make_method
from godelta.settings import digest
from godelta.store import campaigns, pretraining
from godelta.store.database import Store
from godelta.store.documents import CampaignDocument
from godelta.systems.builders import build_problem
from godelta.systems.packing import pack_problem
from godelta.systems.problem import SearchProblem
from godelta.workflows.planner import advance

if TYPE_CHECKING:
    from fireworks import LaunchPad

RECORDED_PACKAGES = (
    "godelta", "ase", "chgnet", "dscribe", "fireworks", "gpaw", "jobflow", "mace-torch", "numba", "numpy",
    "orb-models", "scipy", "sevenn", "tblite", "torch",
)  # fmt: skip


def start(store: Store, launchpad: "LaunchPad", campaign_id: str) -> bool:
    """Let a registered campaign run, and plan its rounds; whether there is anything left to do."""
    campaign = campaigns.get_campaign(store, campaign_id)
    if campaign.state == "finished" and not campaigns.reopen(store, campaign_id):
        return False
    campaigns.set_state(store, campaign_id, ("created", "paused", "failed"), "running")
    advance(store, launchpad, campaign_id)
    return campaigns.get_campaign(store, campaign_id).state == "running"


def register(store: Store, config: CampaignConfig, base: Path) -> CampaignDocument:
    """Create the campaign, or find it again by its name and the same identity.

    Parameters
    ----------
    base
        Folder that relative paths of the configuration start from.

    Raises
    ------
    InputError
        The system cannot be built, the foundation or the reference cannot compute it, there is no such search
        method, there is nothing to pretrain on, or the name belongs to a campaign with another configuration
        or other weights.
    """
    if (known := campaigns.find_campaign(store, config.name)) is not None:
        config = config.with_defaults_of(CampaignConfig.model_validate(known.config))
    problem = build_problem(config.system, base)
    weights = check_foundation(config.foundation)
    check_engine(config.reference, problem)
    make_method(config.search, problem)  # one of the user's own may not be there
    packed = pack_problem(problem)
    # A template file may change while its name in the configuration stays.
    identity = config.identity() | {"problem": hashlib.sha256(packed).hexdigest()}
    return campaigns.create_campaign(
        store,
        name=config.name,
        config=config.model_dump(mode="json"),
        identity=identity,
        identity_hash=digest(identity),
        problem=packed,
        reference_hash=reference_hash(config.reference),
        versions=package_versions(),
        weights_sha256=weights,
        pretraining=_pretraining(store, config, problem, weights),
    )


def _pretraining(
    store: Store, config: CampaignConfig, problem: SearchProblem, weights: str | None
) -> bytes | None:
    """Packed evaluations that a new campaign starts from; one that is there already has kept its own."""
    wanted = config.delta.pretrain_from
    if wanted is None or campaigns.find_campaign(store, config.name) is not None:
        return None
    numbers = np.concatenate([problem.template.numbers, problem.numbers])
    pairs = pretraining.choose(
        store,
        wanted,
        foundation=config.foundation.model_dump(mode="json"),
        weights_sha256=weights,
        reference_hash=reference_hash(config.reference),
        elements={chemical_symbols[number] for number in numbers},
    )
    return pretraining.pack(pairs)


@cache
def package_versions() -> dict[str, str]:
    """Versions of the packages that results depend on, where installed."""
    found = {}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
