"""`godelta compare`, with EMT as reference, so that EMT as foundation is right and others are not."""

import csv
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from godelta.foundation.base import FoundationIdentity
from godelta.foundation.kept import Kept
from godelta.foundation.settings import SevenNetSettings
from godelta.store import campaigns, evaluations, models, rounds
from godelta.store.structures import selected_structures

RIGHT = "{name: ase, calculator: ase.calculators.emt.EMT}"
WRONG = "{name: ase, calculator: godelta.examples.exchanged_emt.ExchangedEMT}"
SEVENNET = Path(__file__).parents[2] / ".venv-sevennet" / "bin" / "python"  # made by `make test-sevennet`


@pytest.fixture
def ask(inside, workspace):
    return lambda *given: inside("compare", *given, "--workspace", workspace.folder)


def _foundations(*names):
    return [word for name in names for word in ("--foundation", name)]


def test_the_reference_itself_is_right_and_another_is_not(finished, ask, opened, tmp_path):
    answer = ask("done", *_foundations(RIGHT, WRONG), "--format", "json")
    assert answer.code == 0, answer.err
    found = answer.json()
    (right, r), (wrong, w) = found["levels"].items()
    assert right.startswith("EMT:")
    assert wrong.startswith("ExchangedEMT:")
    assert r["energy"]["mae"] == pytest.approx(0.0, abs=1e-9)
    assert r["forces"]["rmse"] == pytest.approx(0.0, abs=1e-9)
    assert r["spearman"] == pytest.approx(1.0)
    assert r["n"] == w["n"] == found["structures"] == 4
    # The same by hand, from the database.
    campaign = campaigns.get_campaign(opened, "done")
    pairs = evaluations.training_set(opened, campaign.campaign_id, campaign.reference_hash)
    error = np.array([one.foundation_energy - two.energy for one, two in pairs])
    error -= error.mean()
    assert w["energy"]["mae"] == pytest.approx(np.abs(error).mean() / 4)
    (minima,) = found["minima"]
    assert [row["ranks"][right] for row in minima["lowest"]] == list(range(1, minima["distinct"] + 1))
    lowest = min(pairs, key=lambda pair: pair[1].energy)[0]
    assert minima["choices"][right] == {"structure_id": lowest.structure_id, "above": 0.0}
    assert {row["element"] for row in found["forces"]} == {"Ag", "Cu"}


def test_table_picture_and_lines(finished, ask, tmp_path):
    picture, lines = tmp_path / "parity.png", tmp_path / "parity.csv"
    answer = ask("done", *_foundations(RIGHT, WRONG), "--model", "--plot", picture, "--export", lines)
    assert answer.code == 0, answer.err
    for said in ("EMT:", "Δ, left out", "Δ, selected", "Ag-Cu", "bonded to", "The lowest of", str(picture)):
        assert said in answer.out, said
    with Image.open(picture) as image:
        assert np.asarray(image.convert("L")).std() > 10
    with lines.open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4
    (energy,) = (name for name in rows[0] if name.startswith("energy EMT"))
    assert [float(row[energy]) for row in rows] == pytest.approx([float(row["reference"]) for row in rows])


def test_the_model_is_judged_on_what_it_had_not_learnt(finished, ask, opened):
    levels = ask("done", *_foundations(WRONG), "--model", "--format", "json").json()["levels"]
    campaign = campaigns.get_campaign(opened, "done")
    history = evaluations.history(opened, campaign.campaign_id, campaign.reference_hash)
    met = [row["model_energy"] - row["energy"] for row in history if row["uncertainty"] is not None]
    said = levels["Δ, selected"]
    assert said["n"] == levels["no Δ, selected"]["n"] == len(met) == 2
    atoms = len(selected_structures(opened, campaign.campaign_id)[0].numbers)
    assert said["energy"]["mae"] == pytest.approx(abs(met[0] - met[1]) / 2 / atoms)
    last = rounds.rounds_of(opened, campaign.campaign_id)[-1].next_model_id
    loo = models.get_model(opened, last).metrics
    assert levels["Δ, left out"]["n"] == loo["n_inside_window"]
    # Of root mean squares, that about the mean is the smaller one.
    assert levels["Δ, left out"]["energy"]["rmse"] * atoms <= loo["loo_rmse_ev"] + 1e-9
    assert levels["Δ, left out"]["forces"] is None


def test_own_foundation_and_what_was_compared_before_by_default(finished, ask):
    assert next(iter(ask("done", "--format", "json").json()["levels"])).startswith("ExchangedEMT")
    ask("done", *_foundations(RIGHT))
    names = [name.partition(":")[0] for name in ask("done", "--format", "json").json()["levels"]]
    assert names == ["ExchangedEMT", "EMT"]


def test_what_another_environment_has_evaluated_is_shown_here(finished, ask, opened, workspace, require):
    """The other environment is played by this process; its foundation is one that cannot be had here."""
    from importlib.util import find_spec

    if find_spec("sevenn") is not None:
        pytest.skip("SevenNet can be had here")
    answer = ask("done", *_foundations("sevennet-0"))
    assert answer.code == 2
    assert "the same command in an environment that has it" in answer.err
    neither = ask("done", *_foundations("sevennet-0", "{name: ase, calculator: nowhere.Calculator}"))
    assert neither.code == 2
    assert "\nsevennet-0: " in neither.err
    assert "\nase Calculator: " in neither.err
    partly = ask("done", *_foundations("sevennet-0", RIGHT))
    assert partly.code == 0
    assert "not shown: sevennet-0" in partly.out
    _evaluate_as_sevennet(opened, workspace, leave_out=1)
    assert "not shown: sevennet-0" in ask("done", *_foundations("sevennet-0", RIGHT)).out
    assert "3 of 4 structures" in ask("done").out
    _evaluate_as_sevennet(opened, workspace, leave_out=0)
    found = ask("done", *_foundations("sevennet-0", RIGHT), "--format", "json").json()
    assert found["levels"]["sevennet-0"]["energy"]["mae"] == pytest.approx(0.0, abs=1e-9)
    assert found["missing"] == []
    assert found["foundations"][0]["weights_sha256"] == "7" * 64


def _evaluate_as_sevennet(store, workspace, *, leave_out):
    campaign = campaigns.get_campaign(store, "done")
    pairs = evaluations.training_set(store, campaign.campaign_id, campaign.reference_hash)[leave_out:]
    identity = FoundationIdentity(
        name="sevennet-0",
        version="1",
        weights_sha256="7" * 64,
        dtype="float32",
        device="cpu",
        energy_scale="x",
    )
    energies = {one.structure_hash: two.energy + 1.0 for one, two in pairs}
    forces = {one.structure_hash: np.array(two.forces) for one, two in pairs}
    Kept(SevenNetSettings(), identity, energies, forces).add_to(workspace.state / "compared")


@pytest.mark.slow
def test_several_campaigns_of_one_reference(finish, ask):
    finish()
    finish(name="other", system={"formula": "Cu2Ag2"}, seed=4)
    finish(name="else", reference={"engine": "ase", "calculator": "ase.calculators.emt.EMT"})
    found = ask("done", "other", *_foundations(RIGHT), "--model", "--format", "json").json()
    assert found["structures"] == 8
    assert sorted(row["formula"] for row in found["minima"]) == ["Ag2Cu2", "AgCu3"]
    # Of different formulas, as a study's: one level, which is each campaign's own for its structures.
    alone = [
        ask(one, *_foundations(RIGHT), "--model", "--format", "json").json() for one in ("done", "other")
    ]
    for level in ("no Δ, selected", "Δ, selected", "Δ, left out"):
        assert found["levels"][level]["n"] == sum(one["levels"][level]["n"] for one in alone)
    for formula, one in zip(("AgCu3", "Ag2Cu2"), alone, strict=True):
        (minima,) = (row for row in found["minima"] if row["formula"] == formula)
        assert minima["choices"]["Δ, left out"] == one["minima"][0]["choices"]["Δ, left out"]
    finish(name="twin", seed=5)
    assert {"done: Δ, left out", "twin: Δ, left out"} <= set(
        ask("done", "twin", "--model", "--format", "json").json()["levels"]
    )
    answer = ask("done", "else")
    assert (answer.code, "energies of different references never mix" in answer.err.replace("\n", " ")) == (
        2,
        True,
    )


def test_only_low_structures(finished, ask):
    everything = ask("done", "--format", "json").json()
    energies = sorted(row["energy"] for row in everything["minima"][0]["lowest"])
    assert ask("done", "--within", "0", "--format", "json").json()["structures"] < everything["structures"]
    span = energies[-1] - energies[0] + 1e-6
    assert ask("done", "--within", str(span), "--format", "json").json()["structures"] == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--foundation", "chgnut"), "no such foundation: chgnut"),
        (("--foundation", "{name: ase, calculater: x}"), "did you mean `calculator`"),
        (("--foundation", "{name: [}"), "not valid YAML"),
        (("--python", "nonet=python"), "begins no foundation's name"),
    ],
)
def test_options_that_make_no_sense(ask, options, said):
    answer = ask("nobody", *options)
    assert (answer.code, said in answer.err) == (2, True), answer.err


def test_what_cannot_be_had_or_written(finished, ask):
    for options, said in (
        (("--foundation", "{name: ase, calculator: nowhere.Calculator}"), "cannot be imported"),
        (("--plot", "/nowhere/parity.png"), "cannot be written"),
        (("--export", "/nowhere/parity.csv"), "cannot be written"),
    ):
        answer = ask("done", *options)
        assert (answer.code, said in answer.err) == (2, True), answer.err


def test_nothing_evaluated_yet(finished, ask, opened):
    opened.db["evaluations"].delete_many({})
    answer = ask("done")
    assert (answer.code, "nothing has been evaluated yet" in answer.err) == (2, True)
    assert ask("nobody").code == 2


def test_chgnet_is_not_loaded_for_what_is_kept(finished, ask, require, monkeypatch):
    require("chgnet")
    first = ask("done", *_foundations("chgnet"), "--format", "json")
    assert first.json()["levels"]["chgnet-0.3.0"]["energy"]["mae"] > 0.0

    def refuse(settings):
        raise AssertionError("loaded")

    monkeypatch.setattr("godelta.foundation.kept.load_foundation", refuse)
    again = ask("done", *_foundations("chgnet"), "--format", "json")
    assert again.json()["levels"] == first.json()["levels"]


@pytest.mark.slow
def test_two_environments(finished, ask, workspace, require):
    """By the other's Python from here, and by the same command there and then here."""
    require("sevennet-environment")
    words = _foundations("sevennet-0", RIGHT)
    answer = ask("done", *words, "--python", f"sevennet={SEVENNET}", "--format", "json")
    assert answer.code == 0, answer.err
    asked = answer.json()
    assert asked["levels"]["sevennet-0"]["forces"]["mae"] > 0.0
    (identity,) = (one for one in asked["foundations"] if one["name"] == "sevennet-0")
    assert len(identity["weights_sha256"]) == 64
    shutil.rmtree(workspace.state / "compared")
    command = [SEVENNET, "-m", "godelta.cli.main", "compare", "done", "--workspace", workspace.folder]
    there = subprocess.run(
        [*command, "--foundation", "sevennet-0"], capture_output=True, text=True, check=False
    )
    assert there.returncode == 0, there.stderr
    here = ask("done", *words, "--format", "json").json()
    assert here["levels"]["sevennet-0"] == asked["levels"]["sevennet-0"]
