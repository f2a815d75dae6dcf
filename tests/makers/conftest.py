"""A campaign in a real database, and sessions that work on it without any workflow engine."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from godelta.campaign import CampaignConfig
from godelta.makers.evaluate import run_evaluate
from godelta.makers.retrain import run_retrain
from godelta.makers.search import run_search
from godelta.makers.select import run_select
from godelta.makers.session import Session
from godelta.store import campaigns, rounds
from godelta.store.database import Store
from godelta.store.documents import RoundKey
from godelta.store.workspace import Workspace
from godelta.workflows.submit import register

Begin = Callable[..., RoundKey]


@pytest.fixture
def session(workspace: Workspace, opened: Store) -> Session:
    return Session(workspace, opened)


@pytest.fixture
def begin(opened: Store, cheap_config: Callable[..., CampaignConfig]) -> Begin:
    """Register a cheap campaign and plan round 0 of its chains; the key of the first."""

    def make(name: str = "cheap", **changes: Any) -> RoundKey:
        config = cheap_config(name=name, **changes)
        document = register(opened, config, Path())
        campaigns.set_state(opened, document.campaign_id, "created", "running")
        for chain in range(config.budget.chains):
            rounds.plan_round(opened, RoundKey(document.campaign_id, chain, 0), model_id=None)
        return RoundKey(document.campaign_id, 0, 0)

    return make


@pytest.fixture
def run_round(session: Session) -> Callable[..., str | None]:
    """Run all jobs of a round; the id of the model that it ends with."""

    def run(key: RoundKey, epoch: int = 0) -> str | None:
        run_search(session, key, epoch)
        run_select(session, key, epoch)
        for slot in range(session.parts(key.campaign_id).config.search.selection.evaluations_per_round):
            run_evaluate(session, key, epoch, slot)
        run_retrain(session, key, epoch)
        return rounds.get_round(session.store, key).next_model_id

    return run
