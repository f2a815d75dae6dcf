"""`godelta lattice`: what it prints, and what it does not compute again."""

import shutil

import pytest

SURFACE = "{kind: surface, builder: fcc111, element: Cu, size: [2, 2, 2], formula: Au1}"
CAMPAIGN = f"""
name: au-on-cu
system:     {SURFACE}
foundation: {{name: ase, calculator: ase.calculators.emt.EMT}}
reference:  {{engine: ase, calculator: ase.calculators.emt.EMT}}
"""


@pytest.fixture
def ask(inside, workspace, tmp_path):
    def call(text, *options):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return inside("lattice", path, "--workspace", workspace.folder, *options)

    return call


@pytest.mark.slow
def test_both_levels_and_what_to_write(ask):
    answer = ask(CAMPAIGN)
    assert answer.code == 0, answer.err
    assert "foundation ase" in answer.out
    assert "reference ase-EMT" in answer.out
    assert "The slab of Cu in the campaign file has 3.6100 Å" in answer.out
    assert "`lattice_constant: 3.58" in answer.out
    own = ask(
        CAMPAIGN.replace("formula: Au1", "formula: Au1, lattice_constant: 3.7"), "--format", "json"
    ).json()
    assert own["campaign"] == 3.7
    assert [row["constant"] for row in own["levels"].values()] == pytest.approx([3.59, 3.59], abs=0.01)


@pytest.mark.slow
def test_evaluations_of_a_stopped_command_are_found_again(ask, workspace, monkeypatch):
    first = ask(CAMPAIGN, "--format", "json")
    folders = sorted(workspace.scratch.glob("kept/*/Cu-*"))
    assert len(folders) == 7
    shutil.rmtree(folders[3])
    from godelta.reference import isolated

    run, evaluated = isolated.run_guarded, []
    monkeypatch.setattr(isolated, "run_guarded", lambda *given: (evaluated.append(given[0]), run(*given))[1])
    assert ask(CAMPAIGN, "--format", "json").json() == first.json()
    assert evaluated == [folders[3].resolve()]


@pytest.mark.parametrize(
    ("system", "reference", "said", "mend"),
    [
        ("{kind: cluster, formula: Cu4}", "{engine: emt}", "no metal", "kind: surface"),
        (SURFACE.replace("Cu", "Fe"), "{engine: emt}", "cannot do Fe", "it knows"),
        (SURFACE.replace("Cu", "Ag"), "{engine: gpaw}", "no k-points", "kpts"),
    ],
)
def test_what_has_no_lattice(ask, require, system, reference, said, mend):
    if "gpaw" in reference:
        require("gpaw")
    answer = ask(f"name: none\nsystem: {system}\nreference: {reference}\n")
    assert answer.code == 2
    assert said in answer.err
    assert mend in answer.err
