"""Campaigns go through SLURM's queue to their end, by the real commands."""

import json

import pytest
from kit import NAME, REFERENCE, SEARCH, wait_until

from godelta.workflows.launcher import ALIVE

OF_JOB = {
    "search": SEARCH,
    "select": "light",
    "evaluate": REFERENCE,
    "retrain": SEARCH,
    "advance_campaign": "light",
}


def pilots(scene):
    """Category, partition and state of this campaign's batch jobs."""
    told = scene.cluster.command("sacct", "-XnP", "--format=JobName,Partition,State").splitlines()
    return [line.removeprefix(scene.prefix).split("|") for line in told if line.startswith(scene.prefix)]


@pytest.mark.slow
def test_to_the_end(make_scene):
    scene = make_scene(budget={"chains": 2, "rounds": 2, "evaluations": 8})
    scene.launch()
    scene.computing()
    told = scene.command("status", NAME, "--format", "json", "-w", scene.workspace.folder)
    assert told.returncode == 0, told.stderr
    status = json.loads(told.stdout)
    assert (status["state"], status["ok"] + status["failed"] + status["pending"]) == ("running", 4)
    scene.finish()
    scene.check()

    fireworks = list(scene.db["fireworks"].find({}, {"name": 1, "spec._category": 1}))
    assert {raw["name"]: raw["spec"]["_category"] for raw in fireworks} == OF_JOB
    assert all(raw["spec"]["_category"] == OF_JOB[raw["name"]] for raw in fireworks)
    wait_until(lambda: {state for *_, state in pilots(scene)} == {"COMPLETED"})
    assert {(category, partition) for category, partition, _ in pilots(scene)} == {
        (SEARCH, "second"),
        (REFERENCE, "debug"),
    }
    assert list(scene.workspace.state.glob("pilots/*")) == []
    assert list(scene.workspace.state.glob("workers/*")) == []
    best = json.loads(scene.command("best", NAME, "--format", "json", "-w", scene.workspace.folder).stdout)
    assert best


@pytest.mark.slow
def test_as_from_cron(make_scene):
    """Nobody stays logged in: a look now and then sends what is needed."""
    scene = make_scene(budget={"chains": 1, "rounds": 1, "evaluations": 2})
    wait_until(
        lambda: scene.launch("--once").wait(60) == 0 and scene.state == "finished",
        seconds=240.0,
        every=4.0,
        tell=scene.tell,
    )
    wait_until(lambda: not scene.cluster.squeue())
    scene.check()


@pytest.mark.slow
def test_a_worker_that_was_killed_is_not_waited_for(make_scene):
    """It has not signed off, and for a worker without a job no other would be sent."""
    scene = make_scene(budget={"chains": 1, "rounds": 1, "evaluations": 2})
    scene.adapt("search", idle=300)
    scene.launch()
    scene.computing()
    [worker] = [one for one in scene.workers() if SEARCH in one.cmdline()]
    worker.kill()
    wait_until(lambda: scene.ready("retrain"), tell=scene.tell)
    wait_until(lambda: SEARCH in scene.sent()[2:], ALIVE.total_seconds() / 3.0, tell=scene.tell)
    wait_until(lambda: scene.state == "finished", tell=scene.tell)
    scene.cluster.drain()
    scene.check()


def test_a_calculator_that_workers_would_refuse_is_refused_at_once(make_scene):
    scene = make_scene()
    settings = scene.workspace.folder / "godelta.yaml"
    settings.write_text(settings.read_text().replace("counted_emt, ", ""))
    done = scene.command("submit", scene.file, "-w", scene.workspace.folder)
    assert done.returncode == 2
    assert "counted_emt.CountedEMT, which this workspace does not allow" in done.stderr
    assert scene.state == ""
