"""`godelta check`: each line ok, or how to mend it."""

import pytest


def test_all_is_well(inside, workspace, write_campaign):
    answer = inside("check", write_campaign(), "-w", workspace.folder)
    assert answer.code == 0, answer.out
    names = ("workspace", "database server", "database", "system", "foundation", "reference")
    lines = answer.out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [f"ok  {name}" for name in names]
    assert "4 atoms to place, 0 given" in lines[3]
    assert "ExchangedEMT" in lines[4]


def test_without_a_campaign_the_optional_parts_are_looked_at(inside, workspace, monkeypatch):
    import importlib.metadata

    def version(name):
        if name == "gpaw":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.2.3"

    monkeypatch.setattr("importlib.metadata.version", version)
    monkeypatch.setattr("godelta.cli.check._chgnet", lambda: "0.3.0")
    monkeypatch.setattr("shutil.which", lambda name, **more: None)
    answer = inside("check", "-w", workspace.folder)
    assert answer.code == 1
    assert "!!  reference espresso: pw.x is not found" in answer.out
    assert "!!  reference vasp: vasp_std is not found" in answer.out
    assert "ok  reference xtb: tblite 1.2.3" in answer.out
    assert "no  reference gpaw" in answer.out
    assert 'mend: install it with: pip install "godelta[gpaw]"' in answer.out


@pytest.mark.parametrize(
    ("changes", "line", "mend"),
    [
        ({"system": {"confinement": 1.5}}, "system", "confinement"),
        ({"foundation": {"name": "ase", "calculator": "no.such.Thing"}}, "foundation", "PYTHONPATH"),
        ({"system": {"formula": "Cu3S"}}, "reference", "knows"),
        ({"reference": {"engine": "ase", "calculator": "no.such.Thing"}}, "reference", "PYTHONPATH"),
    ],
)
def test_what_a_campaign_lacks(inside, workspace, write_campaign, changes, line, mend):
    answer = inside("check", write_campaign(**changes), "-w", workspace.folder)
    assert answer.code == 1
    assert f"no  {line}: " in answer.out
    assert mend in answer.out
    assert "ok  database: MongoDB" in answer.out
    assert "Traceback" not in answer.out + answer.err


def test_no_server_and_a_folder_that_cannot_be_written(inside, tmp_path, monkeypatch):
    monkeypatch.setenv("GODELTA_MONGOD", "/nowhere")
    monkeypatch.setattr("godelta.cli.check._chgnet", lambda: "0.3.0")
    answer = inside("check", "-w", tmp_path)
    assert answer.code == 1
    assert "no  database server: /nowhere is not an executable file" in answer.out
    assert "no  database: " in answer.out
    (tmp_path / "file").write_text("")
    answer = inside("check", "-w", tmp_path / "file")
    assert answer.code == 1
    assert "no  workspace: cannot be written" in answer.out


def test_a_bad_campaign_file(inside, workspace, tmp_path):
    answer = inside("check", tmp_path / "none.yaml", "-w", workspace.folder)
    assert answer.code == 2
    assert "no such file" in answer.err


def test_without_slurm_nothing_is_checked(inside, workspace, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    answer = inside("check", "--slurm", "-w", workspace.folder)
    assert (answer.code, answer.out) == (1, "")
    assert "there is no SLURM on this machine" in answer.err
    assert "where you submit jobs" in answer.err


@pytest.mark.slow  # SLURM itself tries for a minute
def test_slurm_that_does_not_answer(inside, workspace, require, monkeypatch):
    require("slurm")
    monkeypatch.setenv("SLURM_CONF", "/nowhere")
    answer = inside("check", "--slurm", "-w", workspace.folder)
    assert answer.code == 1
    assert "ok  database: MongoDB" in answer.out
    assert "no  SLURM: SLURM does not answer" in answer.out
    assert "Traceback" not in answer.out + answer.err
