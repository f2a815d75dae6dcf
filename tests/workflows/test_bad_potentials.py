"""Foundations and references that fail, through the real engine: the campaign ends in a clear state."""

from collections import Counter
from pathlib import Path

import pytest

from godelta.store import campaigns, rounds
from godelta.store.progress import snapshot
from godelta.workflows.planner import MAX_FAILURES, advance


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.fixture(autouse=True)
def _sick_path(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)


@pytest.fixture
def run(start, opened, launchpad, take_jobs):
    """Run a campaign until it has ended, as `godelta run` does; its document."""

    def go(name="sick", campaign_id=None, **changes):
        if campaign_id is None:
            campaign_id = start(name, **changes)
        for _ in range(MAX_FAILURES + 2):
            advance(opened, launchpad, campaign_id)
            take_jobs(campaign_id=campaign_id, idle_seconds=0.1)
            document = campaigns.get_campaign(opened, campaign_id)
            if document.state != "running":
                return document
        raise AssertionError(f"it does not end: {document}")

    return go


def sick(name):
    return {"calculator": f"sick_potentials.{name}"}


def foundation(name):
    return {"foundation": {"name": "ase", **sick(name)}}


def reference(name):
    return {"reference": {"engine": "ase", **sick(name)}, "budget": {"rounds": 6, "evaluations": 12}}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NotANumber", ["no structure to evaluate in 2 rounds", "not finite", "godelta check"]),
        slow("Explodes", ["no structure to evaluate in 2 rounds", "forces are huge", "godelta check"]),
        slow("Bottomless", ["no structure to evaluate in 2 rounds", "absurdly low", "godelta check"]),
        ("WrongShape", ["(5, 3)", "not (4, 3)", "sick_potentials.WrongShape", "another foundation"]),
        slow("FlatForces", ["(12,)", "sick_potentials.FlatForces", "another foundation"]),
        slow("Garbage", ["ValueError", "sick_potentials.Garbage", "another foundation"]),
        slow("NoEnergy", ["sick_potentials.NoEnergy", "another foundation"]),
        ("Raises", ["RuntimeError: no licence on this machine", "sick_potentials.Raises"]),
        slow("OutOfMemory", ["MemoryError", "sick_potentials.OutOfMemory"]),
    ],
)
@pytest.mark.parametrize("rex", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_foundation_that(run, opened, name, words, rex):
    campaign = run(rex=rex, **foundation(name))
    assert campaign.state == "failed"
    assert campaign.spent == 0
    for word in words:
        assert word in campaign.reason
    assert opened.structures.count_documents({}) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "reason", "words"),
    [
        ("Raises", "engine_error", "no licence on this machine"),
        slow("NotANumber", "invalid_result", "not finite"),
        slow("WrongShape", "invalid_result", "(5, 3)"),
        slow("FlatForces", "invalid_result", "(12,)"),
        slow("Garbage", "engine_error", "ValueError"),
        slow("NoEnergy", "engine_error", ""),
        slow("OutOfMemory", "memory_limit", ""),
    ],
)
def test_a_reference_that_always_fails_stops_the_campaign_early(run, opened, name, reason, words):
    campaign = run(**reference(name))
    assert campaign.state == "failed"
    assert campaign.reason.startswith(f"the last 6 evaluations all failed: {reason}")
    assert words in campaign.reason
    assert "the same command goes on" in campaign.reason
    assert (campaign.spent, campaign.reserved) == (6, ())
    progress = snapshot(opened, campaign.campaign_id)
    assert (progress.ok, progress.failed, progress.pending) == (0, 6, 0)
    assert progress.best_energy is None


@pytest.mark.slow
def test_a_reference_that_refuses_every_geometry_is_tried_to_the_end(run, opened):
    """Another structure may always be the first good one."""
    campaign = run(
        reference={"engine": "emt", "limits": {"max_force": 1e-9}},
        budget={"rounds": 9, "evaluations": 5},
    )
    assert campaign.state == "failed"
    assert campaign.spent == 5
    assert campaign.reason.startswith("none of its 5 evaluations succeeded: force_limit")
    assert "another name" in campaign.reason
    # Run once more without a change, it says so again, and spends nothing.
    campaigns.set_state(opened, campaign.campaign_id, "failed", "running")
    again = run(campaign_id=campaign.campaign_id)
    assert (again.state, again.reason, again.spent) == ("failed", campaign.reason, 5)


@pytest.mark.slow
def test_a_reference_that_is_mended_goes_on(run, opened, tmp_path, monkeypatch):
    broken = tmp_path / "broken"
    broken.touch()
    monkeypatch.setenv("GODELTA_TEST_BROKEN", str(broken))
    changes = reference("FailsUntilMended")
    first = run(**changes)
    assert first.state == "failed"
    assert "the scratch disk is full" in first.reason
    broken.unlink()
    campaigns.set_state(opened, first.campaign_id, "failed", "running")
    mended = run(campaign_id=first.campaign_id)
    assert (mended.state, mended.reason) == ("finished", None)
    progress = snapshot(opened, mended.campaign_id)
    assert progress.failed == 6
    assert progress.ok > 0
    assert [r.failures for r in rounds.rounds_of(opened, mended.campaign_id)] == [0] * progress.closed_rounds
    # What failed before was not proposed again.
    selected = [i for r in rounds.rounds_of(opened, mended.campaign_id) for i in r.selection]
    assert max(Counter(selected).values()) == 1


def test_no_room_for_a_running_evaluation(run, opened, workspace, tmpfs):
    """No fault of the structures: nothing is counted as failed, and with room again the campaign goes on."""
    workspace.scratch.rmdir()
    workspace.scratch.symlink_to(tmpfs.folder)
    tmpfs.fill()
    full = run("full")
    assert full.state == "failed"
    for words in ("No space left on device", str(tmpfs.folder), "make room", "the same command goes on"):
        assert words in full.reason
    assert full.spent == 0
    progress = snapshot(opened, full.campaign_id)
    assert (progress.ok, progress.failed) == (0, 0)
    tmpfs.free()
    campaigns.set_state(opened, full.campaign_id, "failed", "running")
    roomy = run(campaign_id=full.campaign_id)
    assert roomy.state == "finished"
    assert roomy.reserved == ()
    assert snapshot(opened, full.campaign_id).ok > 0
