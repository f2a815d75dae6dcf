"""`restart`, `pause`, `resume`, `cancel` killed before any of their writes: the next one finishes it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("restart_kill_points.py")
SAME = ("state", "rounds", "failures", "selections", "spent", "reserved", "pending", "computed", "models")


def killed_before_every_write(folder, uri, values, words, names):
    """How it ends without a kill, after it was seen that it ends so with a kill before any of the writes."""
    command = [sys.executable, str(SCRIPT), str(folder), uri, json.dumps(values), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3000, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    whole, *every = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [answer["n"] for answer in every if answer["killed"]] == list(range(1, whole["writes"] + 1))
    wrong = [
        (answer["n"], name, answer[name], whole[name])
        for answer in every
        for name in names
        if answer[name] != whole[name]
    ]
    assert not wrong
    return whole


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["everything", "failed"])
def test_a_restart(tmp_path, mongod_uri, cheap, damage):
    """Everything: a lost run, an orphan, a stale lock, a lease and reservations of a worker that is gone.

    Failed: a full disk failed the campaign, and an evaluation is to be tried again, in its last round.
    """
    values = cheap(share=False, budget={"rounds": 1, "evaluations": 10})
    names = (*SAME, "after", "left", "live")
    whole = killed_before_every_write(tmp_path, mongod_uri, values, ("restart", damage), names)
    assert whole["writes"] > 8
    assert (whole["state"], whole["after"], whole["left"], whole["live"]) == ("finished", "running", [], 1)
    assert (whole["spent"], whole["reserved"], whole["pending"]) == (2 + (damage == "failed"), [], 0)


@pytest.mark.slow
@pytest.mark.parametrize(("command", "writes"), [("pause", 2), ("cancel", 5), ("resume", 4)])
def test_a_stop_and_what_undoes_it(tmp_path, mongod_uri, cheap, command, writes):
    """In a campaign with a lost run, an orphan, a stale lock, a lease and reservations."""
    values = cheap(share=False, budget={"rounds": 1, "evaluations": 10})
    names = (*SAME, "stopped", "takable")
    whole = killed_before_every_write(tmp_path, mongod_uri, values, (command, "everything"), names)
    assert whole["writes"] >= writes
    assert (whole["state"], whole["takable"]) == ("finished", 0)
    assert whole["stopped"] == ("cancelled" if command == "cancel" else "paused")
    assert (whole["spent"], whole["reserved"], whole["pending"]) == (2, [], 0)
