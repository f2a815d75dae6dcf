"""A refinement on the command line: best, its trajectory, status, run, dry run."""

import io
from datetime import UTC, datetime

import pytest
from ase.io import read
from rich.console import Console

from godelta.campaign import CampaignConfig
from godelta.cli.live import line, render
from godelta.cli.logs import as_text
from godelta.logs import Line, Place
from godelta.store import campaigns
from godelta.store.documents import REFINEMENT_CHAIN
from godelta.store.progress import snapshot


@pytest.fixture
def refined(finish, workspace, opened):
    """The name of a finished campaign that has refined its lowest structure."""
    from godelta.makers.evaluate import run_evaluate
    from godelta.makers.refine import run_refine
    from godelta.makers.retrain import run_retrain
    from godelta.makers.session import Session
    from godelta.workflows.planner import open_refinement

    name = finish(refine={"best": 1, "fmax": 0.3})
    campaign = campaigns.get_campaign(opened, name)
    session, config = Session(workspace, opened), CampaignConfig.model_validate(campaign.config)
    while (round_ := open_refinement(opened, campaign.campaign_id, config)) is not None:
        run_refine(session, round_.key, 0)
        run_evaluate(session, round_.key, 0, 0)
        run_retrain(session, round_.key, 0)
    return name


@pytest.fixture
def ask(refined, workspace, inside):
    return lambda *arguments: inside(*arguments, "--workspace", workspace.folder)


def test_best_says_what_is_refined(ask):
    rows = ask("best", "done", "--format", "json").json()
    assert {row["refined"] for row in rows} == {True, False}
    assert [row["fmax"] <= 0.3 for row in rows if row["refined"]] == [True]
    assert all(row["fmax"] > 0.0 for row in rows)
    table = ask("best", "done").out
    head, *lines = table.splitlines()
    assert head.split()[-2:] == ["fmax", "refined"]
    told = [text.split() for text in lines[: len(rows)]]
    assert [text[-1] for text in told] == ["yes" if row["refined"] else "-" for row in rows]
    assert [text[-2] for text in told] == [f"{row['fmax']:.3f}" for row in rows]
    assert "refine:" in table
    for command in ("best done --all", "best done", "query", "models done", "status done"):
        answer = ask(*command.split())
        assert answer.code == 0, command
        assert str(REFINEMENT_CHAIN) not in answer.out, command
        assert "refine" in answer.out, command


def test_a_campaign_that_refines_nothing_is_shown_as_before(finished, workspace, inside):
    answer = inside("best", finished, "--workspace", workspace.folder)
    assert "refined" not in answer.out
    rows = inside("best", finished, "--format", "json", "--workspace", workspace.folder).json()
    assert {row["refined"] for row in rows} == {False}
    status = inside("status", finished, "--workspace", workspace.folder).out
    assert "refine" not in status
    refused = inside("best", finished, "--trajectory", rows[0]["structure_id"], "-w", workspace.folder)
    assert refused.code == 2
    assert "`refine: {best: 3}` in the campaign file" in refused.err


def test_a_trajectory_is_listed_and_written(ask, tmp_path):
    (best,) = (row for row in ask("best", "done", "--format", "json").json() if row["refined"])
    file = tmp_path / "steps.extxyz"
    start = best["structure_id"][:8]
    answer = ask("best", "done", "--trajectory", start, "--export", file)
    assert answer.code == 0
    steps = ask("best", "done", "--trajectory", start, "--format", "json").json()
    assert [row["rank"] for row in steps] == list(range(len(steps)))
    assert steps[-1]["structure_id"] == best["structure_id"]
    assert len(steps) > 1
    assert steps[0]["fmax"] > 0.3 >= steps[-1]["fmax"]
    images = read(file, ":")
    assert [image.get_potential_energy() for image in images] == pytest.approx(
        [row["energy"] for row in steps]
    )
    assert [image.info["structure_id"] for image in images] == [row["structure_id"] for row in steps]
    assert f"{len(steps)} structures written to" in answer.out
    for row in steps:
        assert row["structure_id"][:8] in answer.out
    every = ask("best", "done", "--trajectory", start, "--all", "--format", "json").json()
    assert len(every) >= len(steps)
    assert ask("best", "done", "--trajectory", "zz").code == 2


def test_status_and_progress_tell_how_far_it_is_and_why_it_ended(ask, opened):
    text = " ".join(ask("status", "done").out.split())
    assert "refinement 1 of 1 converged" in text
    assert "ended: all that was asked for is refined" in text
    one = ask("status", "done", "--format", "json").json()
    (row,) = ask("status", "--format", "json").json()
    refinement = one["refinement"]
    assert row["refinement"].items() <= refinement.items()
    assert refinement["statuses"] == {"converged": 1}
    assert (refinement["best"], refinement["fmax"], refinement["active"]) == (1, 0.3, False)
    (each,) = refinement["each"]
    assert each["status"] == "converged"
    assert each["energy"] < each["start_energy"]
    assert f"{each['start_energy']:.4f}" in text
    assert row["budget"] == 10 + refinement["evaluations"]
    assert each["evaluations"] == refinement["evaluations"]
    progress = snapshot(opened, "done")
    spent = progress.refinement.evaluations
    assert f"of {10 + spent} | best" in line(progress)
    assert "| refined: 1 of 1 converged |" in line(progress)
    drawn = io.StringIO()
    Console(width=100, file=drawn).print(render(progress))
    assert "refined: 1 of 1 converged" in drawn.getvalue()


@pytest.mark.slow
def test_a_run_refines_and_says_so(godelta, write_campaign, workspace):
    path = write_campaign(
        name="short", budget={"rounds": 1, "evaluations": 2}, refine={"best": 1, "fmax": 0.3}
    )
    answer = godelta("run", path, "--plain", "--workspace", workspace.folder)
    assert answer.code == 0, answer.err
    assert "refining: 0 of 1 converged" in answer.out
    spent = answer.out.partition("Refinement took ")[2].split()[0]
    assert f"{2 + int(spent)} of {2 + int(spent)} evaluations spent" in answer.out
    assert f"Refinement took {spent} of these: 1 of 1 converged." in answer.out
    # More is asked for: the same command goes on.
    smaller = {"best": 1, "fmax": 0.001, "evaluations": int(spent) + 1}
    more = write_campaign(name="short", budget={"rounds": 1, "evaluations": 2}, refine=smaller)
    again = godelta("run", more, "--plain", "--workspace", workspace.folder)
    assert again.code == 0, again.err
    assert f"Refinement took {int(spent) + 1} of these: 0 of 1 converged, 1 spent." in again.out


def test_logs_call_its_rounds_by_their_name():
    place = Place(campaign="a", chain=REFINEMENT_CHAIN, round=3, job="refine")
    text = str(as_text(Line(datetime.now(UTC), "INFO", place, "here", 1, "godelta", "done"), of_all=False))
    assert "refinement round 3 refine: done" in text


def test_a_dry_run_counts_it(inside, tmp_path, write_campaign):
    from godelta.cli.init_slurm import SlurmAnswers, slurm_files

    folder = tmp_path / "cluster"
    answers = SlurmAnswers("normal", "abc", None, None, (), "true", ("ase",), "emt", 1, "06:00:00")
    folder.mkdir()
    (folder / "godelta.yaml").write_text("{}\n")
    for path, text in slurm_files(folder, answers).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    plain = write_campaign("plain.yaml", name="plain")
    refining = write_campaign("refining.yaml", name="refining", refine={"best": 3, "evaluations": 20})
    answer = inside("submit", plain, refining, "--dry-run", "--workspace", folder)
    assert answer.code == 0, answer.err
    text = " ".join(answer.out.split())
    assert "<= 10 + 60" in text
    assert "After the search, refining refines its 3 lowest structures, with 20 evaluations each" in text
    assert "After the search, plain" not in text
