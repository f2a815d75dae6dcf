"""A campaign, its LaunchPad, and workers that run in this process."""

import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from godelta.campaign import CampaignConfig
from godelta.makers.evaluate import run_evaluate
from godelta.makers.retrain import run_retrain
from godelta.makers.search import run_search
from godelta.makers.select import run_select
from godelta.makers.session import Session, use_session
from godelta.store import campaigns, evaluations, rounds, structures
from godelta.store.database import Store
from godelta.store.documents import RoundKey
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
    from jobflow import SETTINGS

    monkeypatch.setattr(SETTINGS, "JOB_STORE", SETTINGS.JOB_STORE)  # so that it is put back
    open_launchpad(workspace)
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


@pytest.fixture(scope="session")
def undisturbed(
    mongod_uri: str, tmp_path_factory: pytest.TempPathFactory, cheap_config: Callable[..., CampaignConfig]
) -> dict[tuple[int, int], list[tuple[str, float]]]:
    """What `start(share=False)` finds when nothing goes wrong: (hash, energy in eV) by chain and round."""
    folder = tmp_path_factory.mktemp("undisturbed")
    name = f"test_{uuid.uuid4().hex[:12]}"
    (folder / "godelta.yaml").write_text(f"database: {{uri: '{mongod_uri}', name: {name}}}\n")
    (folder / "godelta.yaml").chmod(0o600)
    workspace = Workspace(folder)
    workspace.prepare()
    store = workspace.connect()
    config = cheap_config(share=False)
    campaign_id = register(store, config, Path()).campaign_id
    session, model_id = Session(workspace, store), None
    for k in range(config.budget.rounds):
        key = RoundKey(campaign_id, 0, k)
        rounds.plan_round(store, key, model_id)
        run_search(session, key, 0)
        run_select(session, key, 0)
        for slot in range(config.search.selection.evaluations_per_round):
            run_evaluate(session, key, 0, slot)
        model_id = run_retrain(session, key, 0)["model_id"]
    found = _found(store, campaign_id)
    store.db.client.drop_database(name)
    store.close()
    return found


def _found(store: Store, campaign_id: str) -> dict[tuple[int, int], list[tuple[str, float]]]:
    level = campaigns.get_campaign(store, campaign_id).reference_hash
    found = {}
    for round_ in rounds.rounds_of(store, campaign_id):
        hashes = [structures.get_structure(store, i).structure_hash for i in round_.selection]
        done = [evaluations.get_evaluation(store, digest, level) for digest in hashes]
        found[round_.chain, round_.k] = [
            (digest, evaluation.energy or 0.0) for digest, evaluation in zip(hashes, done, strict=True)
        ]
    return found


@pytest.fixture
def as_undisturbed(
    opened: Store, undisturbed: dict[tuple[int, int], list[tuple[str, float]]]
) -> Callable[..., None]:
    """Assert that a campaign has ended as if nothing had happened; `lost`: attempts that were killed."""

    def check(campaign_id: str, *, lost: int = 0) -> None:
        campaign = campaigns.get_campaign(opened, campaign_id)
        assert campaign.state == "finished", campaign.reason
        assert _found(opened, campaign_id) == undisturbed
        states = [(r.k, r.state, r.failures) for r in rounds.rounds_of(opened, campaign_id)]
        assert states == [(k, "closed", 0) for k in range(len(undisturbed))]
        outcomes = [a["outcome"] for raw in opened.evaluations.find() for a in raw["attempts"]]
        count = sum(len(selection) for selection in undisturbed.values())
        assert sorted(outcomes) == ["lost"] * lost + ["ok"] * count  # nothing was computed twice
        assert (campaign.spent, campaign.reserved) == (count, ())

    return check


@pytest.fixture
def do_jobs(
    engine: Workspace, opened: Store, launchpad: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int], None]:
    """Be a worker for so many jobs, and go without a word."""

    def do(count: int) -> None:
        from fireworks import FWorker
        from fireworks.core.rocket_launcher import launch_rocket

        session = Session(engine, opened)
        use_session(session)
        monkeypatch.chdir(tmp_path)
        for _ in range(count):
            assert launch_rocket(launchpad, FWorker(name=str(session.heartbeat.name)), strm_lvl="ERROR")

    return do
