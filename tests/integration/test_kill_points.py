"""A worker killed before any of its writes: the campaign ends as if nothing had happened.

Of one chain all writes are taken; of two, which write the same and wait for each other, every third one.
GODELTA_KILL_EVERY=1 takes all of these too.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("kill_points.py")
PROCESSES = 3  # they often wait
EVERY_OF_TWO = int(os.environ.get("GODELTA_KILL_EVERY", "3"))
SAME = ("state", "rounds", "failures", "selections", "spent", "reserved", "pending", "computed", "models")


def begin(folder, uri, values, points):
    command = [sys.executable, str(SCRIPT), str(folder), uri, json.dumps(values), *map(str, points)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answers(process):
    out, errors = process.communicate(timeout=3000)
    assert process.returncode == 0, errors[-3000:]
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


def differences(answer, whole):
    """What is not as in the campaign that nobody disturbed."""
    found = {name: answer[name] for name in SAME if answer[name] != whole[name]}
    if answer["started"] > whole["started"] + answer["killed"]:
        found["started"] = answer["started"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("chains", "evaluations"), [(1, 2), (2, 1)])
def test_killed_before_a_write(tmp_path, mongod_uri, cheap, chains, evaluations):
    values = cheap(
        share=False,
        search={"selection": {"evaluations_per_round": evaluations}},
        budget={"chains": chains, "rounds": 1, "evaluations": 10},
        resources={"evaluations_per_job": 1},
    )
    (whole,) = answers(begin(tmp_path, mongod_uri, values, [0]))
    assert (whole["state"], whole["killed"]) == ("finished", False)
    assert whole["rounds"] == ["closed"] * chains
    assert whole["spent"] == whole["computed"] == evaluations * chains
    writes = whole["writes"]
    assert writes > 100 * chains
    points = range(1, writes, EVERY_OF_TWO if chains > 1 else 1)
    parts = [points[first::PROCESSES] for first in range(PROCESSES)]
    running = [begin(tmp_path, mongod_uri, values, points) for points in parts]
    every_answer = [answer for process in running for answer in answers(process)]
    assert sorted(answer["n"] for answer in every_answer) == list(points)
    wrong = [(answer["n"], found) for answer in every_answer if (found := differences(answer, whole))]
    assert not wrong
    survived = [answer["n"] for answer in every_answer if not answer["killed"]]
    assert all(n > writes - 20 for n in survived)  # pings are timed, not counted
