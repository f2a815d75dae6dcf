"""A worker killed before any of its writes in a later round, of methods that are told what was evaluated.

The default takes every thirteenth write; GODELTA_KILL_EVERY=1 takes all.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("continued_kill_points.py")
EVERY = int(os.environ.get("GODELTA_KILL_EVERY", "13"))
PROCESSES = 3  # they often wait
SAME = (
    "state", "rounds", "failures", "selections", "progress", "statistics", "walkers", "spent", "reserved",
    "pending", "computed", "models",
)  # fmt: skip
BH = {
    "method": "bh",
    "walkers": 2,
    "iterations_per_round": 2,
    "relax": {"steps": 6},
    "selection": {"evaluations_per_round": 2},
}
GOFEE = {
    "method": "gofee",
    "candidates": 4,
    "iterations_per_round": 2,
    "random_until": 1,
    "follow_up": True,
    "relax": {"steps": 6},
    "selection": {"evaluations_per_round": 2},
}
PLAIN = {
    "method": "bh",
    "relax_in": "reference",
    "walkers": 2,
    "relax": {"steps": 6},
    "selection": {"evaluations_per_round": 2},
}


def killed_again_and_again(folder, uri, begun, wanted):
    """How it ends without a kill, after it was seen that it ends so with a kill before any of the writes."""
    command = [sys.executable, str(SCRIPT), str(folder), uri, json.dumps(begun), json.dumps(wanted)]
    done = subprocess.run(
        [*command, str(EVERY), str(PROCESSES)], capture_output=True, text=True, timeout=3000, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    whole, *every = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert sorted(answer["n"] for answer in every) == list(range(1, whole["writes"], EVERY))
    wrong = [
        (answer["n"], name, answer[name], whole[name])
        for answer in every
        for name in SAME
        if answer[name] != whole[name]
    ]
    assert not wrong
    assert all(answer["started"] <= whole["started"] + answer["killed"] for answer in every)
    survived = [answer["n"] for answer in every if not answer["killed"]]
    assert all(n > whole["writes"] - 20 for n in survived)  # pings are timed, not counted
    assert (whole["state"], whole["reserved"], whole["pending"]) == ("finished", [], 0)
    return whole


@pytest.mark.slow
@pytest.mark.parametrize(
    ("search", "evaluations", "proposed"),
    [(BH, 6, 4), (GOFEE, 5, 9), (PLAIN, 6, 0)],
    ids=["bh", "gofee", "plain"],
)
def test_a_method_that_is_told_what_was_evaluated(tmp_path, mongod_uri, cheap, search, evaluations, proposed):
    """The third round: basin hopping judges trials by reference energies, GOFEE steps along forces.

    Where structures are relaxed in the reference, it is the third step of each.
    """
    begun, wanted = (
        cheap(search=search, budget={"rounds": rounds, "evaluations": evaluations}) for rounds in (2, 3)
    )
    whole = killed_again_and_again(tmp_path, mongod_uri, begun, wanted)
    assert whole["rounds"] == ["closed"] * 3
    assert len(whole["selections"][2]) == 2
    assert len(set(whole["walkers"])) == 3
    assert whole["spent"] == whole["computed"] == whole["started"] == evaluations
    if search is BH:  # a verdict on each walker's trial of the second round
        assert all(rate is not None for rate in whole["progress"][2]["acceptance"])
    moves = whole["statistics"][2].get("moves", {})
    assert sum(counts["proposed"] for counts in moves.values()) == proposed


@pytest.mark.slow
def test_a_refinement(tmp_path, mongod_uri, cheap):
    """From the moment that the search has ended, its budget spent."""
    few = {"budget": {"rounds": 1, "evaluations": 3}, "search": {"selection": {"evaluations_per_round": 3}}}
    begun, wanted = cheap(**few), cheap(**few, refine={"best": 2, "evaluations": 2})
    whole = killed_again_and_again(tmp_path, mongod_uri, begun, wanted)
    assert whole["rounds"] == ["closed"] * 4
    assert [len(selection) for selection in whole["selections"]] == [3, 2, 2, 0]
    assert whole["spent"] == whole["computed"] == whole["started"] == 7
    told = [statistics["refinement"] for statistics in whole["statistics"][1:]]
    assert [one["running"] for one in told] == [2, 2, 0]
    assert [track["status"] for track in told[-1]["tracks"]] == ["spent", "spent"]
    assert [track["evaluations"] for track in told[-1]["tracks"]] == [2, 2]
    for before, after in zip(told[0]["tracks"], told[-1]["tracks"], strict=True):
        assert after["start"] == before["start"] != after["at"]
        assert after["energy"] < before["energy"]
