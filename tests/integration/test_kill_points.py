"""A worker killed before any of its writes: the campaign ends as if nothing had happened."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("kill_points.py")
EVERY = int(os.environ.get("GODELTA_KILL_EVERY", "0"))  # 1: before every single write


def run(folder, uri, values, points):
    command = [sys.executable, str(SCRIPT), str(folder), uri, json.dumps(values), *map(str, points)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3000)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.slow
def test_killed_before_a_write(tmp_path, mongod_uri, cheap):
    values = cheap(resources={"evaluations_per_job": 1})
    (whole,) = run(tmp_path, mongod_uri, values, [0])
    assert (whole["state"], whole["killed"]) == ("finished", False)
    assert whole["rounds"] == ["closed", "closed"]
    writes = whole["writes"]
    points = range(1, writes, EVERY) if EVERY else [writes * i // 13 + 1 for i in range(13)]
    compared = ("state", "rounds", "failures", "selections", "spent", "reserved", "pending", "models")
    wrong = []
    for answer in run(tmp_path, mongod_uri, values, points):
        if any(answer[name] != whole[name] for name in compared):
            wrong.append((answer, {name: whole[name] for name in compared if answer[name] != whole[name]}))
        assert answer["killed"] or answer["n"] > writes - 20  # pings are timed, not counted
    assert not wrong
