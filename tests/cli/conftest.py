"""Running commands, in this process and as processes."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from godelta.store.workspace import Workspace

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

# Drawing in software, and none of what browsers look for by themselves.
CHROMIUM = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--use-gl=angle", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--force-prefers-reduced-motion",
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def godelta(tmp_path: Path) -> Callable[..., Answer]:
    """Run a command as a process, in an empty folder: `godelta("run", "a.yaml", cwd=..., env={...})`."""

    def run(*arguments: object, cwd: Path = tmp_path, timeout: float = 120, **env: str | None) -> Answer:
        environment = {k: v for k, v in (os.environ | env).items() if v is not None}
        done = subprocess.run(
            [sys.executable, "-m", "godelta.cli.main", *map(str, arguments)],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Run a command in this process, through the real entry point."""
    from godelta.cli import main as entry
    from godelta.cli.console import console

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["godelta", *map(str, arguments)])
        monkeypatch.setattr(console, "file", sys.stdout)
        capsys.readouterr()
        try:
            entry.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        printed = capsys.readouterr()
        return Answer(code, printed.out, printed.err)

    return run


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()


@pytest.fixture
def write_campaign(tmp_path: Path, cheap: Callable[..., dict[str, Any]]) -> Callable[..., Path]:
    """Write a cheap campaign's file; JSON is YAML."""

    def write(file: str = "campaign.yaml", **changes: Any) -> Path:
        path = tmp_path / file
        path.write_text(json.dumps(cheap(**changes), indent=1))
        return path

    return write


@pytest.fixture
def finished(finish: Callable[..., str]) -> str:
    """The name of a finished campaign in the workspace."""
    return finish()


@pytest.fixture
def finish(workspace: Workspace, cheap: Callable[..., dict[str, Any]]) -> Callable[..., str]:
    """Make a finished campaign in the workspace, without workers; its name: `finish(foundation=...)`."""
    from godelta.campaign import CampaignConfig
    from godelta.makers.evaluate import run_evaluate
    from godelta.makers.retrain import run_retrain
    from godelta.makers.search import run_search
    from godelta.makers.select import run_select
    from godelta.makers.session import Session
    from godelta.store import campaigns, rounds
    from godelta.store.documents import RoundKey
    from godelta.workflows.submit import register

    def make(**changes: Any) -> str:
        store = workspace.connect()
        config = CampaignConfig.model_validate(cheap(**{"name": "done"} | changes))
        campaign_id = register(store, config, Path()).campaign_id
        campaigns.set_state(store, campaign_id, "created", "running")
        session, model_id = Session(workspace, store), None
        for k in range(config.budget.rounds):
            key = RoundKey(campaign_id, 0, k)
            rounds.plan_round(store, key, model_id)
            run_search(session, key, 0)
            run_select(session, key, 0)
            for slot in range(2):
                run_evaluate(session, key, 0, slot)
            model_id = run_retrain(session, key, 0)["model_id"]
        campaigns.set_state(store, campaign_id, "running", "finished")
        campaigns.add_time(store, campaign_id, elapsed_s=3.0, worker_s=3.0)
        store.close()
        return config.name

    return make


@pytest.fixture(scope="session")
def chromium(require: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory) -> Iterator["Chrome"]:
    """A browser without a window, for the whole session."""
    require("chromium")
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for argument in (*CHROMIUM, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=Service(shutil.which("chromedriver")))
    yield driver
    driver.quit()
