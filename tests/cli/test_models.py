"""`godelta models`."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def ask(workspace, inside):
    return lambda *arguments: inside(*arguments, "--workspace", workspace.folder)


def test_errors_over_rounds(finished, ask):
    answer = ask("models", "done", "--format", "json").json()
    first, second = answer["models"]
    assert [(row["chain"], row["after_round"], row["evaluations"]) for row in (first, second)] == [
        (0, 0, 2),
        (0, 1, 4),
    ]
    assert second["next_round"] is None
    met = first["next_round"]
    assert met["n"] == answer["calibration"]["proposed by searches"]["n"] == 2
    rows = ask("best", "done", "--all", "--format", "json").json()
    late = [row for row in rows if row["round"] == 1]
    assert len(late) == 2
    assert met["mae"] <= met["rmse"]
    assert answer["calibration"]["held out"]["n"] == second["metrics"]["n_inside_window"]
    assert answer["calibration"]["held out"]["rmse"] == pytest.approx(second["metrics"]["loo_rmse_ev"])
    table = ask("models", "done").out
    for row in (first, second):
        assert row["model_id"][:8] in table
    assert f"{met['mae']:.4f}" in table
    assert "held out" in table


def test_a_plot(finished, ask, tmp_path):
    path = tmp_path / "calibration.png"
    answer = ask("models", "done", "--plot", path)
    assert (answer.code, str(path) in answer.out) == (0, True), answer.err
    with Image.open(path) as image:
        assert np.asarray(image.convert("L")).std() > 10


def test_nothing_yet(store, workspace, ask, finish):
    finish(budget={"rounds": 1})
    connected = workspace.connect()
    connected.rounds.update_many({}, {"$set": {"next_model_id": None}})
    assert "no model yet" in ask("models", "done").out
    answer = ask("models", "done", "--plot", "nothing.png")
    assert (answer.code, "nothing to plot" in answer.err) == (2, True)
    assert ask("models", "unknown").code == 2


def test_exported_as_a_calculator(finished, ask, tmp_path, store, workspace):
    from godelta.delta.export import load_calculator
    from godelta.store import structures

    first, second = ask("models", "done", "--format", "json").json()["models"]
    answer = ask("models", "done", "--export", tmp_path / "latest")
    assert (answer.code, f"model {second['model_id'][:8]} exported" in answer.out) == (0, True), answer.err
    row = ask("best", "done", "--format", "json").json()[0]
    atoms = structures.get_structure(workspace.connect(), row["structure_id"]).atoms()
    atoms.calc = load_calculator(tmp_path / "latest")
    assert atoms.get_potential_energy() == pytest.approx(row["energy"], abs=0.05)
    answer = ask("models", "done", "--export", tmp_path / "first", "--model", first["model_id"][:6])
    assert f"model {first['model_id'][:8]} exported" in answer.out
    for words, said in (
        (("--model", "0"), "--model chooses"),
        (("--export", tmp_path / "none", "--model", "nonsense"), "no such model"),
        (("--export", tmp_path / "first"), "not empty"),
    ):
        answer = ask("models", "done", *words)
        assert (answer.code, said in answer.err) == (2, True), answer.err
