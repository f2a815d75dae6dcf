"""`status` on a cluster: batch jobs that wait and run, workers in their allocations, what waits for what."""

import json
import time

import pytest
from kit import NAME, REFERENCE, SEARCH, wait_until

from godelta.workflows.overview import SLURM_PATIENCE_S


@pytest.fixture
def status(make_scene):
    """A campaign whose batch jobs wait in SLURM's queue, and what `status` says of it."""
    scene = make_scene(budget={"chains": 1, "rounds": 1, "evaluations": 2})

    def ask(*words):
        done = scene.command("status", NAME, "-w", scene.workspace.folder, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    ask.scene = scene
    return ask


def held(cluster, partition):
    cluster.command("scontrol", "update", f"PartitionName={partition}", "State=DOWN")


@pytest.mark.slow
def test_pilots_that_wait_and_run(status):
    scene = status.scene
    held(scene.cluster, "second")
    try:
        assert scene.launch("--once").wait(60) == 0
        wait_until(lambda: "PartitionDown" in status(), every=1.0, tell=status)
        assert f"{SEARCH}: no worker yet, 1 pilot pending (PartitionDown), 0 running" in status()
        (job,) = json.loads(status("--format", "json"))["batch_jobs"]
        assert (job["category"], job["state"], job["partition"]) == (SEARCH, "PENDING", "second")
    finally:
        scene.cluster.command("scontrol", "update", "PartitionName=second", "State=UP")

    def running():
        found = json.loads(status("--format", "json"))
        return [worker for worker in found["workers"] if worker["batch_job"] == job["job_id"]]

    (worker,) = wait_until(running, every=1.0, tell=status)
    assert worker["takes"] == [SEARCH, "light"]
    assert worker["host"] == f"node-{job['job_id']}"
    wait_until(lambda: REFERENCE in status(), every=1.0, tell=status)
    wait_until(lambda: scene.launch("--once").wait(60) == 0 and scene.state == "finished", every=4.0)
    assert "finished: `godelta best" in status()


@pytest.mark.slow
def test_a_slurm_that_does_not_answer_costs_a_few_seconds(status):
    scene = status.scene
    held(scene.cluster, "second")
    assert scene.launch("--once").wait(60) == 0
    began = time.monotonic()
    status()
    usual = time.monotonic() - began
    scene.cluster.stop_controller()
    try:
        began = time.monotonic()
        assert "batch jobs are not shown: SLURM" in status()
        assert time.monotonic() - began < usual + SLURM_PATIENCE_S + 5.0
    finally:
        scene.cluster.start_controller()
        scene.cluster.command("scontrol", "update", "PartitionName=second", "State=UP")
