"""One campaign, served by workers of two environments that exclude each other's packages."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from godelta.store import campaigns

SEVENNET = Path(__file__).parents[2] / ".venv-sevennet" / "bin" / "python"  # made by `make test-sevennet`


@pytest.fixture
def godelta(workspace):
    """Start `godelta ... -w WORKSPACE` in one of the environments."""

    started = []

    def start(python: str, *arguments: str) -> subprocess.Popen[str]:
        command = [python, "-m", "godelta.cli.main", *arguments, "-w", str(workspace.folder)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_sevennet_searches_and_another_environment_evaluates(require, godelta, opened, cheap, tmp_path):
    require("sevennet-environment")
    path = tmp_path / "both.yaml"
    path.write_text(json.dumps(cheap(name="both", foundation={"name": "sevennet-0", "device": "cpu"})))
    refused = godelta(sys.executable, "submit", str(path))
    told = refused.communicate(timeout=200)[0]
    assert refused.returncode == 2
    assert "godelta[sevennet]" in told
    submitted = godelta(str(SEVENNET), "submit", str(path))
    assert "both is in the queue" in submitted.communicate(timeout=200)[0]
    roles = {str(SEVENNET): "search-sevennet-0", sys.executable: "evaluate-emt"}
    workers = [
        godelta(python, "worker", "--campaign", "both", "--category", role) for python, role in roles.items()
    ]
    searched, evaluated = (worker.communicate(timeout=300)[0] for worker in workers)
    assert [worker.returncode for worker in workers] == [0, 0]
    campaign = campaigns.get_campaign(opened, "both")
    assert campaign.state == "finished"
    assert campaign.spent == 4
    assert "search: done" in searched
    assert "retrain: trained" in searched
    assert "evaluate: " in evaluated
    assert "search: " not in evaluated
    assert "evaluate: " not in searched
