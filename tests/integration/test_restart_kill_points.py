"""`restart` killed before any of its writes: another one finishes what it began."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("restart_kill_points.py")
SAME = ("state", "rounds", "failures", "selections", "spent", "reserved", "pending", "computed", "models")


def answers(folder, uri, values, damage, points):
    command = [sys.executable, str(SCRIPT), str(folder), uri, json.dumps(values), damage, *map(str, points)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3000, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["everything", "failed"])
def test_killed_before_a_write(tmp_path, mongod_uri, cheap, damage):
    """Everything: a lost run, an orphan, a stale lock, a lease and reservations of a worker that is gone.

    Failed: a full disk failed the campaign, and an evaluation is to be tried again, in its last round.
    """
    values = cheap(share=False, budget={"rounds": 1, "evaluations": 10})
    (whole,) = answers(tmp_path, mongod_uri, values, damage, [0])
    assert (whole["state"], whole["after"], whole["left"], whole["live"]) == ("finished", "running", [], 1)
    assert (whole["spent"], whole["reserved"], whole["pending"]) == (2 + (damage == "failed"), [], 0)
    writes = whole["writes"]
    assert writes > 8
    every = answers(tmp_path, mongod_uri, values, damage, range(1, writes + 1))
    assert [answer["n"] for answer in every if answer["killed"]] == list(range(1, writes + 1))
    wrong = [
        (answer["n"], name, answer[name])
        for answer in every
        for name in (*SAME, "after", "left", "live")
        if answer[name] != whole[name]
    ]
    assert not wrong
