"""`godelta explain`: table, JSON, picture, and what cannot be explained."""

import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write
from PIL import Image


@pytest.fixture
def ask(workspace, inside):
    return lambda *arguments: inside(*arguments, "--workspace", workspace.folder)


def best(ask):
    return ask("best", "done", "-n", "1", "--format", "json").json()[0]


def test_atoms_add_up_and_evaluations_are_named(finished, ask):
    row = best(ask)
    answer = ask("explain", row["structure_id"], "--format", "json").json()
    assert (answer["structure_id"], answer["formula"]) == (row["structure_id"], "AgCu3")
    assert sorted(atom["symbol"] for atom in answer["atoms"]) == ["Ag", "Cu", "Cu", "Cu"]
    assert all(atom["foundation"] is None for atom in answer["atoms"])  # an ASE calculator
    own = next(one for one in answer["evaluations"] if one["structure_id"] == row["structure_id"])
    # Learned nearly exactly, so that the correction is the residual.
    delta = sum(atom["delta"] for atom in answer["atoms"])
    assert delta == pytest.approx(row["energy"] - row["foundation_energy"], abs=0.05)
    assert abs(own["residual"]) < 1.0
    shifts = [abs(one["shift"]) for one in answer["evaluations"]]
    assert shifts == sorted(shifts, reverse=True)
    table = ask("explain", row["structure_id"][:8], "--top", "2").out
    assert f"{delta:.4f}" in table
    assert answer["evaluations"][0]["structure_id"][:8] in table


def test_a_picture(finished, ask, tmp_path):
    path = tmp_path / "atoms.png"
    answer = ask("explain", best(ask)["structure_id"], "--image", path)
    assert (answer.code, str(path) in answer.out) == (0, True), answer.err
    with Image.open(path) as image:
        assert min(image.size) > 300
        assert len(image.convert("RGB").getcolors(maxcolors=10**6)) > 50


def test_with_an_embedding(finish, ask, tmp_path, require):
    require("chgnet")
    finish(foundation={"name": "chgnet"})
    row = best(ask)
    data = tmp_path / "data.extxyz"
    overlapping, molecule = Atoms("Cu3Ag", cell=[9.0] * 3, pbc=True), Atoms("CuAg", [[0, 0, 0], [0, 0, 2.4]])
    write(data, [bulk("Cu"), bulk("Cu", a=3.7), bulk("Ag"), overlapping, molecule])
    answer = ask("explain", row["structure_id"], "--data", data, "--near", "2", "--format", "json").json()
    assert sum(atom["foundation"] for atom in answer["atoms"]) == pytest.approx(
        row["foundation_energy"], abs=1e-3
    )
    assert [one["symbol"] for one in answer["environments"]] == [one["symbol"] for one in answer["atoms"]]
    assert all(len(one["nearest"]) == 2 for one in answer["environments"])
    assert "novelty" in ask("explain", row["structure_id"], "--data", data).out


@pytest.mark.parametrize("aggregation", ["atomic", "global"])
def test_a_correction_on_an_embedding(finish, ask, tmp_path, require, aggregation):
    """`atomic` has an energy for each atom and a panel in the picture; whole structures have neither."""
    require("chgnet")
    finish(
        foundation={"name": "chgnet"},
        delta={"descriptor": "embedding", "aggregation": aggregation},
        budget={"rounds": 1},
    )
    row, path = best(ask), tmp_path / "atoms.png"
    answer = ask("explain", row["structure_id"], "--format", "json").json()
    own = {one["structure_id"] for one in answer["evaluations"]}
    assert row["structure_id"] in own
    on_atoms = [atom["delta"] for atom in answer["atoms"]]
    table = ask("explain", row["structure_id"], "--image", path).out
    with Image.open(path) as image:
        width, height = image.size
    if aggregation == "global":
        assert on_atoms == [None] * 4
        assert "compares whole structures (aggregation: global): nothing of it is on one atom" in table
        assert width < 1.5 * height
        return
    learnt = row["energy"] - row["foundation_energy"]
    assert sum(on_atoms) == pytest.approx(learnt, abs=0.1)
    assert f"{sum(on_atoms):.4f}" in table
    assert width > 1.5 * height
    assert "whole structures" not in table


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("0000",), "no such structure"),
        (("nonsense!",), "no such structure"),
        (("{id}", "--data", "missing.xyz"), "has no features of atoms"),
        (("{id}", "--image", "/nowhere/at/all.png"), "cannot be written"),
        (("{id}", "--image", "picture.nonsense"), "cannot be written"),
    ],
)
def test_what_cannot_be_explained(finished, ask, words, said):
    structure_id = best(ask)["structure_id"]
    answer = ask("explain", *(word.format(id=structure_id) for word in words))
    assert answer.code == 2
    assert said in answer.err
    assert "Traceback" not in answer.err


def test_a_file_that_is_none(finish, ask, tmp_path, require):
    require("chgnet")
    finish(foundation={"name": "chgnet"}, budget={"rounds": 1})
    damaged = tmp_path / "damaged.extxyz"
    damaged.write_text("3\nnothing\nAg 0 0\n")
    for path, said in ((damaged, "cannot be read"), (tmp_path / "none.xyz", "no such file")):
        answer = ask("explain", best(ask)["structure_id"], "--data", path)
        assert (answer.code, said in answer.err) == (2, True), answer.err


def test_nothing_is_learnt_yet(finished, ask, store, workspace):
    structure_id = best(ask)["structure_id"]
    workspace.connect().rounds.update_many({}, {"$set": {"model_id": None, "next_model_id": None}})
    assert "Nothing has been learnt yet" in ask("explain", structure_id).out
