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
    rows = ask("best", "done", "--format", "json").json()
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
