"""`godelta run`, interrupted and killed at several moments: the same command completes the campaign."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import psutil
import pytest

from godelta.store import campaigns, rounds

CAMPAIGN = {
    "name": "hurt",
    "budget": {"chains": 1, "rounds": 2, "evaluations": 10},
    "search": {"structures_per_round": 6, "batch": 2},
}


@dataclass
class Run:
    """A `godelta run` of the campaign, and what it leaves in the database."""

    command: list
    store: object

    def begin(self):
        return subprocess.Popen(
            self.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    def wait_for(self, moment, process):
        """Wait until the campaign's first round is at a moment."""
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and process.poll() is None:
            campaign = campaigns.find_campaign(self.store, "hurt")
            if campaign is not None:
                if moment == "registered":
                    return
                if any(r.state == moment for r in rounds.rounds_of(self.store, campaign.campaign_id)):
                    return
            time.sleep(0.02)
        raise AssertionError(f"it never was {moment}")

    def finish(self):
        """Run it to its end, and look whether all is as it should be."""
        process = self.begin()
        out, _ = process.communicate(timeout=150)
        assert process.returncode == 0, out
        campaign = campaigns.get_campaign(self.store, "hurt")
        own = rounds.rounds_of(self.store, campaign.campaign_id)
        assert campaign.state == "finished"
        assert [round_.state for round_ in own] == ["closed", "closed"]
        assert [round_.failures for round_ in own] == [0, 0]
        selected = {i for round_ in own for i in round_.selection}
        assert campaign.spent == len(selected) > 0
        assert campaign.reserved == ()
        assert self.store.evaluations.count_documents({"state": "pending"}) == 0


@pytest.fixture
def run(workspace, opened, cheap, tmp_path):
    path = tmp_path / "hurt.yaml"
    path.write_text(json.dumps(cheap(**CAMPAIGN)))
    command = [sys.executable, "-m", "godelta.cli.main", "run", str(path), "--plain", "-w"]
    return Run([*command, str(workspace.folder)], opened)


def workers(process):
    return [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE and "worker" in child.cmdline()
    ]


def all_gone(processes):
    _, alive = psutil.wait_procs(processes, timeout=60)
    return not alive


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("registered", marks=pytest.mark.slow),
        pytest.param("searching", marks=pytest.mark.slow),
        "evaluating",
        pytest.param("closed", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c(run, moment):
    process = run.begin()
    run.wait_for(moment, process)
    children = workers(process)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "goes on" in out
    assert "Traceback" not in out
    assert all_gone(children)
    campaign = campaigns.get_campaign(run.store, "hurt")
    assert campaign.state in ("created", "paused")
    assert campaign.reserved == ()
    run.finish()


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["searching", "evaluating"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_ends_is_replaced(run, moment, number):
    process = run.begin()
    run.wait_for(moment, process)
    for worker in workers(process):
        worker.send_signal(number)
    out, _ = process.communicate(timeout=180)
    assert process.returncode == 0, out
    campaign = campaigns.get_campaign(run.store, "hurt")
    assert campaign.state == "finished"
    assert campaign.reserved == ()


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["registered", "searching", "evaluating"])
def test_all_is_killed(run, moment):
    process = run.begin()
    run.wait_for(moment, process)
    children = workers(process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert all_gone(children)  # told to stop by their parent's end
    run.finish()
