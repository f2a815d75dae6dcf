"""`godelta benchmark` with real campaigns."""

import json
import signal
import subprocess
import sys
import time

import matplotlib.image
import numpy as np
import pytest
from ase import Atoms

from godelta.analysis.comparison import Trace, success_of
from godelta.cli.benchmark_report import note_successes
from godelta.cli.benchmark_structures import note_equivalents
from godelta.store import campaigns, evaluations, structures
from godelta.store.documents import REFINEMENT_CHAIN, StructureDocument


@pytest.fixture
def write(tmp_path, cheap):
    def write(**changes):
        common = cheap(budget={"rounds": 1}, search={"selection": {"evaluations_per_round": 2}})
        for key in ("name", "seed"):
            common.pop(key)
        common["search"] = {key: common["search"][key] for key in ("selection", "relax")}
        values = {
            "name": "tiny",
            "campaign": common,
            "vary": {
                "search": {
                    "rss": {"method": "rss", "structures_per_round": 4, "batch": 2},
                    "bh": {"method": "bh"},
                }
            },
            "seeds": 2,
            "price_s": 10,
        }
        path = tmp_path / "bench.yaml"
        path.write_text(json.dumps(values | changes, indent=1))
        return path

    return write


@pytest.mark.slow
def test_interrupted_resumed_extended_and_reported(godelta, workspace, opened, write):
    path = write()
    process = subprocess.Popen(
        [sys.executable, "-m", "godelta.cli.main", "benchmark", path, "-w", workspace.folder],
        stdout=subprocess.PIPE,
        text=True,
        cwd=path.parent,
    )
    deadline = time.monotonic() + 100
    while not opened.campaigns.count_documents({"state": "finished"}) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"godelta benchmark {path} goes on" in " ".join(out.split())
    assert {c.name for c in campaigns.list_campaigns(opened)} == {
        f"tiny.{method}.s{seed}" for method in ("rss", "bh") for seed in (1, 2)
    }
    finished = {
        c.name: _history(opened, c) for c in campaigns.list_campaigns(opened) if c.state == "finished"
    }
    assert 1 <= len(finished) < 4
    assert not opened.campaigns.count_documents({"state": "running"})

    again = godelta("benchmark", path, "-w", workspace.folder, "--workers", 2)
    assert again.code == 0, again.err
    assert f"4 campaigns, {len(finished)} of them done" in again.out
    assert again.out.count("  finished, ") == 4 - len(finished)
    assert "2 runs of a cell say little" in again.out
    now = {c.name: c for c in campaigns.list_campaigns(opened)}
    assert all(c.state == "finished" for c in now.values())
    assert all(_history(opened, now[name]) == before for name, before in finished.items())

    told = godelta("benchmark", path, "-w", workspace.folder, "--results-only", "--format", "json").json()
    runs = {run["campaign"]: run for run in told["runs"]}
    for name, campaign in now.items():
        assert runs[name]["energies"] == [row["energy"] for row in _history(opened, campaign)]
        assert runs[name]["total_cpu_s"] >= runs[name]["cpu_s"][-1] > runs[name]["cpu_s"][0] > 0
    energies = [energy for run in runs.values() for energy in run["energies"]]
    assert told["target"] == min(energies)
    assert sum(cell["successes"] for cell in told["cells"]) >= 1
    folder = workspace.folder / "results" / "tiny"
    assert json.loads((folder / "benchmark.json").read_text()) == told
    assert matplotlib.image.imread(folder / "success.png")[..., :3].std() > 0.02
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in now)
    assert f"{told['target']:.4f} eV" in page
    assert "bench.yaml" in page

    # A third seed, and a target that any evaluation reaches: one campaign more, which stops early.
    path = write(seeds=[1, 3], target={"energy": 100.0}, vary={"search": {"rss": _rss(path)}})
    more = godelta("benchmark", path, "-w", workspace.folder)
    assert more.code == 0, more.err
    assert "2 campaigns, 1 of them done" in more.out
    assert "tiny.rss.s3  reached the target" in more.out
    assert "below the target: mend `target.energy`" in more.out


@pytest.mark.slow
def test_refinement_is_left_out_where_a_target_ends_the_search(godelta, workspace, opened, write):
    path = write(seeds=1)
    values = json.loads(path.read_text())
    values["vary"] = {"search": {"rss": _rss(path)}}
    values["campaign"] |= {"refine": {"best": 1, "fmax": 0.5}, "budget": {"rounds": 20, "evaluations": 40}}
    path.write_text(json.dumps(values | {"name": "stopped", "target": {"energy": 100.0}}))
    answer = godelta("benchmark", path, "-w", workspace.folder)
    assert "stopped.rss.s1  reached the target" in answer.out, answer.err
    assert not opened.rounds.count_documents({"chain": REFINEMENT_CHAIN})
    # Where nothing stops it, its evaluations are ones of the campaign like all others.
    values["campaign"]["budget"] = {"rounds": 1, "evaluations": 2}
    path.write_text(json.dumps(values | {"name": "whole"}))
    answer = godelta("benchmark", path, "-w", workspace.folder, "--format", "json")
    assert answer.code == 0, answer.err
    (run,) = answer.json()["runs"]
    spent = campaigns.get_campaign(opened, "whole.rss.s1").spent
    refining = opened.rounds.distinct("selection", {"chain": REFINEMENT_CHAIN})
    assert len(run["energies"]) == 2 + len(refining) >= spent > 2
    assert run["cpu_s"] == sorted(run["cpu_s"])


def _history(store, campaign):
    return evaluations.history(store, campaign.campaign_id, campaign.reference_hash)


def _rss(path):
    return json.loads(path.read_text())["vary"]["search"]["rss"]


def test_nothing_begun_and_mistakes(inside, workspace, write):
    path = write()
    ask = ("benchmark", path, "-w", workspace.folder, "--results-only")
    assert "tiny has no evaluation yet" in inside(*ask).out
    assert inside(*ask, "--format", "json").json()["cells"] == []
    wrong = inside("benchmark", write(seeds=0), "-w", workspace.folder)
    assert wrong.code == 2
    assert "`seeds`" in wrong.err + wrong.out


def test_submitted_as_a_set(inside, workspace, opened, write):
    answer = inside("submit", write(), "-w", workspace.folder)
    assert answer.code == 0, answer.err
    names = {c.name: c.state for c in campaigns.list_campaigns(opened)}
    assert names == {f"tiny.{method}.s{seed}": "running" for method in ("rss", "bh") for seed in (1, 2)}


def test_campaigns_that_failed_without_an_evaluation_count_and_waiting_ones_do_not(
    inside, workspace, opened, write
):
    path = write()
    assert inside("submit", path, "-w", workspace.folder).code == 0
    known = {c.name: c for c in campaigns.list_campaigns(opened)}
    found = known["tiny.rss.s1"]
    structure = StructureDocument.from_atoms(
        trimer(2.5), campaign_id=found.campaign_id, chain=0, round=0, foundation_energy=0.0, model_energy=0.0
    )
    structures.add_candidates(opened, [structure])
    claim = evaluations.claim(
        opened, structure.structure_hash, found.reference_hash, "me", 60, wanted=structure
    )
    evaluations.commit_ok(opened, claim, -1.0, structure.atoms().positions * 0, {"cpu_s": 2.0})
    for name in ("tiny.rss.s2", "tiny.bh.s1"):
        campaigns.set_state(opened, known[name].campaign_id, "running", "failed")

    answer = inside("benchmark", path, "-w", workspace.folder, "--results-only", "--format", "json")
    assert answer.code == 1
    cells = {cell["cell"]: (cell["successes"], cell["runs"]) for cell in answer.json()["cells"]}
    assert cells == {"rss": (1, 2), "bh": (0, 1)}


@pytest.mark.parametrize(
    ("state", "ended"),
    [("finished", True), ("failed", True), ("running", False), ("paused", False), ("cancelled", False)],
)
def test_only_campaigns_that_came_to_their_end_never_succeed(state, ended):
    row = {"cell": "rss", "state": state, "equivalent": None}
    row |= {"energies": [1.0], "cpu_s": [2.0], "total_cpu_s": 3.0}
    idle = row | {"energies": [], "cpu_s": [], "total_cpu_s": 0.0}
    traces = note_successes([row, idle], 0.0, 0.05)
    assert [trace.ended for _, trace in traces] == [ended] * (2 if ended else 1)


@pytest.fixture
def row(opened):
    """A campaign's row of evaluated structures, each with its energy in eV."""

    def row(*found):
        ids = []
        for atoms, _ in found:
            document = StructureDocument.from_atoms(
                atoms, campaign_id="c", chain=0, round=0, foundation_energy=0.0, model_energy=0.0
            )
            structures.add_candidates(opened, [document])
            ids.append(document.structure_id)
        return {"energies": [energy for _, energy in found], "structure_ids": ids}

    return row


def trimer(length, angle=60.0, turned=0.0):
    second = length * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle)), 0.0])
    atoms = Atoms("Cu3", [[0, 0, 0], [length, 0, 0], second], cell=[20, 20, 20])
    atoms.rotate(turned, "z")
    return atoms


def test_an_equivalent_structure_is_a_success_too(opened, row):
    triangle, line = trimer(2.5), trimer(2.5, angle=180)
    rows = [
        row((line, -1.0), (trimer(2.55, turned=40.0), -1.8), (triangle, -2.0)),
        row((line, -1.1), (trimer(3.2), -1.9)),  # not the same shape within 0.15 Å
        row((trimer(2.52, turned=70.0), None), (trimer(2.45), -1.4)),  # failed, and too high
    ]
    note_equivalents(opened, rows, -2.0, 0.05)
    assert [one["equivalent"] for one in rows] == [1, None, None]
    trace = Trace(np.array([-1.0, -1.8, -2.0]), np.arange(3.0), 3.0, rows[0]["equivalent"])
    assert success_of(trace, -2.0, within=0.05) == 1
    assert success_of(Trace(trace.energies, trace.cpu_s, 3.0), -2.0, within=0.05) == 2
    note_equivalents(opened, rows, -9.0, 0.05)  # nobody has found it
    assert [one["equivalent"] for one in rows] == [None] * 3


def test_campaigns_that_failed_are_named_where_nothing_was_evaluated(inside, workspace, opened, write):
    path = write()
    assert inside("submit", path, "-w", workspace.folder).code == 0
    for campaign in campaigns.list_campaigns(opened):
        campaigns.set_state(opened, campaign.campaign_id, "running", "failed")
    answer = inside("benchmark", path, "-w", workspace.folder, "--results-only")
    assert answer.code == 1
    assert "tiny has no evaluation yet" in answer.out
    assert "4 campaigns failed:" in answer.out
    assert "tiny.bh.s2" in answer.out
