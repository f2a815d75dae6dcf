"""`godelta restart`, `pause`, `resume` and `cancel`: what they print, their exit codes, and two at once."""

import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from godelta.campaign import CampaignConfig
from godelta.store import campaigns, rounds
from godelta.store.workers import WorkerName
from godelta.workflows import health, queue
from godelta.workflows.launchpad import configure_engines, open_launchpad
from godelta.workflows.submit import register, start

LEFT_UNDONE = 3


@pytest.fixture
def launchpad(workspace, monkeypatch):
    for name in ("FW_CONFIG_FILE", "JOBFLOW_CONFIG_FILE", "TQDM_DISABLE"):
        monkeypatch.setenv(name, "")  # so that they are put back
    monkeypatch.setattr(health, "STUCK_AFTER", timedelta(seconds=1))
    monkeypatch.setattr(queue, "LOCK_S", 0.3)
    configure_engines(workspace)
    return open_launchpad(workspace)


@pytest.fixture
def begun(launchpad, opened, cheap):
    """Register and plan a campaign; its id."""

    def make(name="cheap", **changes):
        config = CampaignConfig.model_validate(cheap(name=name, share=False, **changes))
        campaign_id = register(opened, config, Path()).campaign_id
        start(opened, launchpad, campaign_id)
        return campaign_id

    return make


@pytest.fixture
def command(inside, workspace):
    def run(*arguments):
        answer = inside(*arguments, "-w", workspace.folder)
        assert "Traceback" not in answer.out + answer.err
        return replace(answer, out=" ".join(answer.out.split()))

    return run


def lose_a_job(launchpad):
    from fireworks import FWorker

    own = WorkerName.own()
    launchpad.checkout_fw(FWorker(name=str(replace(own, born=own.born - 1000.0))), "/")


def epochs(opened, campaign_id):
    return [round_.epoch for round_ in rounds.rounds_of(opened, campaign_id)]


def test_a_workspace_without_campaigns(command, launchpad):
    answer = command("restart")
    assert (answer.code, answer.out) == (0, "No campaign is running or failed: nothing to restart.")


def test_it_says_asks_and_mends(command, begun, launchpad, opened, monkeypatch):
    campaign_id = begun()
    healthy = command("restart", "--yes")
    assert healthy.code == 0
    assert "Nothing is wrong that a restart can mend." in healthy.out
    lose_a_job(launchpad)
    dry = command("restart", "--dry-run")
    assert dry.code == LEFT_UNDONE
    for part in ("campaign place found will be", "cheap chain 0, round 0 search: the process", "Nothing was"):
        assert part in dry.out
    nobody = command("restart", "cheap")  # no terminal here
    assert nobody.code == LEFT_UNDONE
    assert "there is nobody to ask. `godelta restart --yes`" in nobody.out
    assert epochs(opened, campaign_id) == [0]
    for said, code in (("n\n", LEFT_UNDONE), ("y\n", 0)):
        monkeypatch.setattr(sys, "stdin", Terminal(said))
        assert command("restart", "cheap").code == code
    assert epochs(opened, campaign_id) == [1]
    last = command("restart", "cheap", "--yes")
    assert "Nothing is wrong" in last.out
    assert epochs(opened, campaign_id) == [1]


class Terminal:
    """A terminal at which somebody types."""

    def __init__(self, text):
        self.text = text

    def isatty(self):
        return True

    def readline(self, *_):
        text, self.text = self.text, ""
        return text


def test_it_ends_with_the_command_that_goes_on(command, begun, launchpad, monkeypatch, tmp_path, workspace):
    begun()
    lose_a_job(launchpad)
    answer = command("restart", "--yes")
    assert answer.out.endswith(
        "cheap is running; rounds queued: 1 No worker is there for search-ase. To go on:"
        " godelta run FILE (the campaign file of cheap)"
    )
    (tmp_path / "squeue").write_text("#!/bin/sh\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (workspace.folder / "fw_config").mkdir()
    assert command("restart").out.endswith("To go on: godelta submit --launch")


def test_a_job_that_ended_just_now_is_waited_for(command, begun, launchpad, opened):
    """What only seems stuck at this moment is looked at until that is clear."""
    campaign_id = begun()
    launchpad.fireworks.update_many({"state": "READY"}, {"$set": {"state": "WAITING"}})
    launchpad.workflows.update_one({}, {"$set": {"updated_on": opened.now()}})
    answer = command("restart", "--yes")
    assert "its jobs wait for nothing" in answer.out
    assert epochs(opened, campaign_id) == [1]


@pytest.mark.parametrize("state", ["created", "paused", "finished", "cancelled"])
def test_others_are_said_and_left_alone(command, begun, opened, state):
    campaign_id = begun()
    campaigns.set_state(opened, campaign_id, "running", state)
    named = command("restart", "cheap", "--yes")
    assert named.code == 0
    assert f"cheap {state} left alone; " in named.out
    assert campaigns.get_campaign(opened, campaign_id).state == state
    assert command("restart").out == "No campaign is running or failed: nothing to restart."


def test_a_failed_campaign_is_started_by_its_name(command, begun, opened):
    campaign_id = begun()
    campaigns.set_state(opened, campaign_id, "running", "failed", reason="chain 0, round 0: ValueError: no")
    unnamed = command("restart", "--yes")
    assert unnamed.code == 0
    assert "chain 0, round 0: ValueError: no left alone; mend the reason" in unnamed.out
    assert "godelta restart cheap" in unnamed.out
    assert command("restart", "cheap", "--yes").code == 0
    assert campaigns.get_campaign(opened, campaign_id).state == "running"


def test_a_file_changes_what_is_adjustable(command, begun, opened, write_campaign):
    campaign_id = begun()
    path = write_campaign(share=False, budget={"rounds": 5}, resources={"reference": {"partition": "long"}})
    dry = command("restart", path, "--dry-run")
    assert dry.code == LEFT_UNDONE
    for part in ("settings budget.rounds: 2 -> 5", "resources.reference.partition: None -> 'long'"):
        assert part in dry.out
    assert campaigns.get_campaign(opened, campaign_id).config["budget"]["rounds"] == 2
    answer = command("restart", path, "--yes")
    assert answer.code == 0
    assert f"godelta run {path}" in answer.out
    assert campaigns.get_campaign(opened, campaign_id).config["budget"]["rounds"] == 5
    refused = command("restart", write_campaign(share=False, seed=12), "--yes")
    assert refused.code == 2
    assert "seed: 3 -> 12" in refused.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["restart", "nobody"], "there is no campaign 'nobody'"),
        (["restart", "nothing.yaml"], "no such file"),
        (["restart", "--retry", "because"], "no reason of a failed evaluation: because"),
        (["pause"], "which campaigns?"),
        (["pause", "cheap", "--all"], "which campaigns?"),
        (["resume", "--all", "--reopen"], "name them, without --all"),
        (["cancel", "cheap", "nobody", "--yes"], "there is no campaign 'nobody'"),
    ],
)
def test_wrong_input_changes_nothing(command, begun, opened, arguments, message):
    campaign_id = begun()
    answer = command(*arguments)
    assert answer.code == 2
    assert message in answer.err
    assert campaigns.get_campaign(opened, campaign_id).state == "running"


def test_pausing_several_and_all(command, begun, opened):
    for number, name in enumerate("abc"):
        begun(name, seed=number)
    states = lambda: "".join(c.state[0] for c in campaigns.list_campaigns(opened))  # noqa: E731
    assert command("pause", "a", "b", "a").out.count("is paused") == 2
    assert states() == "ppr"
    assert command("pause", "--all").out.startswith("c is paused.")
    assert command("pause", "--all").out == "There is no such campaign."
    assert command("resume", "--all").code == 0
    assert states() == "rrr"
    asked = command("cancel", "--all")
    assert (asked.code, states()) == (LEFT_UNDONE, "rrr")
    assert command("cancel", "a", "c", "--yes").code == 0
    assert states() == "crc"
    assert command("resume", "a").code == 0
    assert states() == "crc"
    assert command("resume", "a", "--reopen").out == "a goes on."
    assert states() == "rrc"


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["lost", "gone"])
def test_two_restarts_at_once(begun, launchpad, opened, workspace, godelta, damage):
    campaign_id = begun()
    if damage == "lost":
        lose_a_job(launchpad)
    else:
        launchpad.workflows.delete_many({})
    line = [sys.executable, "-m", "godelta.cli.main", "restart", "--yes", "-w", str(workspace.folder)]
    both = [subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in "ab"]
    outputs = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    live = list(launchpad.workflows.find({"state": {"$ne": "ARCHIVED"}}))
    assert len(live) == 1
    assert epochs(opened, campaign_id) == [1 if damage == "lost" else 0]
    held = {node for raw in live for node in raw["nodes"]}
    waiting = launchpad.fireworks.distinct("fw_id", {"state": {"$in": ["READY", "WAITING"]}})
    assert set(waiting) == held
    answer = godelta("worker", "--campaign", "cheap", "-w", workspace.folder)
    assert answer.code == 0, answer.err
    finished_well(opened, campaign_id)


def finished_well(opened, campaign_id):
    campaign = campaigns.get_campaign(opened, campaign_id)
    assert campaign.state == "finished"
    assert [(r.state, r.failures) for r in rounds.rounds_of(opened, campaign_id)] == [("closed", 0)] * 2
    outcomes = [a["outcome"] for raw in opened.evaluations.find() for a in raw["attempts"]]
    assert outcomes == ["ok"] * campaign.spent
    assert campaign.reserved == ()


@pytest.mark.slow
def test_restarting_while_a_worker_works_changes_nothing(begun, opened, workspace, godelta):
    campaign_id = begun(budget={"rounds": 4})
    line = [sys.executable, "-m", "godelta.cli.main", "worker", "--campaign", "cheap"]
    worker = subprocess.Popen([*line, "-w", str(workspace.folder)], stderr=subprocess.PIPE)
    count = 0
    while worker.poll() is None:
        answer = godelta("restart", "--yes", "-w", workspace.folder)
        assert answer.code == 0, answer.err
        assert "rounds queued" not in answer.out, answer.out
        count += 1
    assert worker.wait() == 0
    assert count > 1
    assert epochs(opened, campaign_id) == [0] * 4
    assert campaigns.get_campaign(opened, campaign_id).state == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("word", ["pause", "cancel"])
def test_a_run_in_another_terminal_ends_with_a_sentence(workspace, opened, write_campaign, godelta, word):
    path = write_campaign(budget={"rounds": 40, "evaluations": 400})
    line = [
        sys.executable,
        "-m",
        "godelta.cli.main",
        "run",
        str(path),
        "--plain",
        "-w",
        str(workspace.folder),
    ]
    run = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        deadline = time.monotonic() + 90
        while not opened.evaluations.count_documents({"state": "ok"}):
            assert time.monotonic() < deadline
            assert run.poll() is None
            time.sleep(0.1)
        answer = godelta(word, "cheap", *(["--yes"] if word == "cancel" else []), "-w", workspace.folder)
        assert answer.code == 0, answer.err
        out, _ = run.communicate(timeout=90)
    finally:
        run.send_signal(signal.SIGKILL)
    campaign = campaigns.get_campaign(opened, "cheap")
    assert run.returncode == 0, out
    assert f"cheap was {campaign.state} from elsewhere" in out
    assert "Traceback" not in out
    assert campaign.state == {"pause": "paused", "cancel": "cancelled"}[word]
    assert campaign.reserved == ()
    assert opened.evaluations.count_documents({"lease": {"$ne": None}}) == 0
    if word == "cancel":
        again = godelta("run", path, "--plain", "-w", workspace.folder)
        assert again.code == 2
        assert "was cancelled" in again.err


def test_a_study_by_its_file_or_its_name_as_far_as_it_has_begun(
    command, begun, opened, launchpad, write_campaign
):
    begun("many.Cu4", system={"formula": "Cu4"}, tags=["many"])
    path = write_campaign(name="many", system={"formula": ["Cu4", "Cu3Ag"]}, share=False)
    lose_a_job(launchpad)
    answer = command("restart", path, "--dry-run")
    assert answer.code in (0, LEFT_UNDONE), answer.err
    assert "Not begun yet: many.Cu3Ag" in answer.out
    assert "many.Cu4" in command("restart", "many", "--dry-run").out
    nothing = write_campaign(name="none", system={"formula": ["Cu4", "Cu3Ag"]})
    answer = command("restart", nothing)
    assert (answer.code, "there is no campaign 'none.Cu4'" in answer.err) == (2, True)
