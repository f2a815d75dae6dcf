"""Every way in which a DFT program fails: a document with its reason each, and a campaign that goes on."""

import sys
from collections import Counter
from pathlib import Path

import pytest

from godelta.store import campaigns, evaluations, structures
from godelta.workflows.planner import advance

STAND_IN = Path(__file__).parents[1] / "reference" / "vasp_stand_in.py"

# Each structure, known by its folder without the attempt's number, meets another end; the seventh is well.
PROGRAM = """#!/bin/sh
here="$(dirname "$0")"
place="${PWD%-*}"
grep -qxF "$place" "$here/places" || echo "$place" >> "$here/places"
echo "running"
case "$(grep -nxF "$place" "$here/places" | cut -d: -f1)" in
1) kill -SEGV $$ ;;
2) words=never ;;
3) words=bad ;;
4) exec sleep 100 ;;
5) words=cut ;;
6) kill -KILL $$ ;;
esac
exec PYTHON STAND_IN $words
"""


@pytest.mark.slow
def test_each_failure_has_its_reason_and_blocks_nothing(start, opened, launchpad, take_jobs, tmp_path):
    program = tmp_path / "vasp" / "vasp_std"
    program.parent.mkdir()
    (program.parent / "places").touch()
    program.write_text(PROGRAM.replace("PYTHON", sys.executable).replace("STAND_IN", str(STAND_IN)))
    program.chmod(0o755)
    for name in ("Cu", "Ag"):
        folder = program.parent / "potpaw_PBE.54" / name
        folder.mkdir(parents=True)
        (folder / "POTCAR").write_text(f"  PAW_PBE {name} of nobody\n")
    reference = {
        "engine": "vasp",
        "command": str(program),
        "version": "6.4.3",
        "pp_path": str(program.parent),
        "potcars": {"Cu": "Cu", "Ag": "Ag"},
        "limits": {"wall_seconds": 10.0},
    }
    campaign_id = start(
        reference=reference,
        search={"structures_per_round": 6, "batch": 6, "selection": {"evaluations_per_round": 4}},
    )
    advance(opened, launchpad, campaign_id)
    take_jobs(campaign_id=campaign_id)
    document = campaigns.get_campaign(opened, campaign_id)
    assert document.state == "finished", document.reason
    told = [
        evaluations.get_evaluation(opened, structure.structure_hash, document.reference_hash)
        for structure in structures.selected_structures(opened, campaign_id)
    ]
    reasons = Counter(one.reason for one in told)
    assert reasons == {
        "crashed": 1,
        "not_converged": 1,
        "engine_error": 2,
        "wall_limit": 1,
        "lost": 1,  # killed three times
        None: 2,
    }
    messages = [one.message for one in told if one.state == "failed"]
    for words in ("SIGSEGV", "iterations (NELM)", "VERY BAD NEWS", "not whole", "longer than 10 s"):
        assert any(words in message for message in messages), (words, messages)
    assert all(
        "running" in one.attempts[-1].log_tail
        for one in told
        if one.state == "failed" and one.reason != "lost"
    )
