"""A campaign, its LaunchPad, and workers that run in this process."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from godelta.campaign import CampaignConfig
from godelta.store import campaigns
from godelta.store.database import Store
from godelta.store.workspace import Workspace
from godelta.workflows.launchpad import configure_engines, open_launchpad
from godelta.workflows.submit import register
from godelta.workflows.worker import WorkerOptions, work


@pytest.fixture
def engine(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """The workspace, with FireWorks and jobflow pointed at its database."""
    for name in ("FW_CONFIG_FILE", "JOBFLOW_CONFIG_FILE", "TQDM_DISABLE"):
        monkeypatch.setenv(name, "")  # so that they are put back
    configure_engines(workspace)
    from jobflow import SETTINGS, JobStore
    from monty.serialization import loadfn

    # Both engines read their files on import only, and every test has another database.
    spec = loadfn(workspace.state / "fw_config" / "jobflow.yaml")["JOB_STORE"]
    monkeypatch.setattr(SETTINGS, "JOB_STORE", JobStore.from_dict_spec(spec))
    monkeypatch.setattr("godelta.makers.session._current", None)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield workspace
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def launchpad(engine: Workspace) -> Any:
    return open_launchpad(engine)


@pytest.fixture
def start(
    engine: Workspace, opened: Store, cheap_config: Callable[..., CampaignConfig]
) -> Callable[..., str]:
    """Register a cheap campaign and set it running; its id."""

    def make(name: str = "cheap", **changes: Any) -> str:
        document = register(opened, cheap_config(name=name, **changes), Path())
        campaigns.set_state(opened, document.campaign_id, "created", "running")
        return document.campaign_id

    return make


@pytest.fixture
def take_jobs(engine: Workspace) -> Callable[..., int]:
    """Be a worker in this process until nothing is left to do; the number of jobs."""
    return lambda **options: work(engine, WorkerOptions(**({"idle_seconds": 0.5} | options)))
