"""Disks that are full or read-only, odd names, false variables: one message, never a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from godelta.errors import InputError


def refused(answer, *parts, code):
    assert answer.code == code, answer.err + answer.out
    assert "Traceback" not in answer.err + answer.out
    assert answer.err.count("error:") == 1
    assert len(answer.err.strip().splitlines()) >= 2  # what and where, then how to mend it
    for part in parts:
        assert part in answer.err


@pytest.fixture
def on_disk(tmpfs, mongod_uri):
    """A workspace on a small file system, its database elsewhere."""
    folder = tmpfs.folder / "workspace"
    folder.mkdir()
    (folder / "godelta.yaml").write_text(f"database: {{uri: '{mongod_uri}', name: test_small}}\n")
    (folder / "godelta.yaml").chmod(0o600)
    return folder


def test_init_on_a_full_disk(inside, tmpfs):
    tmpfs.fill()
    refused(inside("init", tmpfs.folder / "new"), "No space left", "disk with space", code=1)


def test_init_on_a_read_only_disk(inside, tmpfs):
    tmpfs.read_only()
    refused(inside("init", tmpfs.folder / "new"), "Read-only", str(tmpfs.folder), code=1)


@pytest.mark.parametrize("state", ["full", "read-only"])
def test_run_in_a_workspace_that_takes_nothing(inside, tmpfs, on_disk, write_campaign, state):
    tmpfs.fill() if state == "full" else tmpfs.read_only()
    words = "No space left" if state == "full" else "Read-only"
    refused(inside("run", write_campaign(), "-w", on_disk, "--plain"), words, str(on_disk), code=1)


@pytest.mark.parametrize("state", ["full", "read-only"])
def test_commands_that_look_need_no_room(inside, tmpfs, on_disk, state):
    tmpfs.fill() if state == "full" else tmpfs.read_only()
    answer = inside("status", "-w", on_disk)
    assert answer.code == 0, answer.err
    assert "No campaign yet" in answer.out


def test_an_export_to_a_full_disk(inside, finished, workspace, tmpfs):
    tmpfs.fill()
    answer = inside("best", finished, "-w", workspace.folder, "--export", tmpfs.folder / "best.extxyz")
    refused(answer, "cannot be written", "No space left", "--export", code=2)
    missing = inside("best", finished, "-w", workspace.folder, "--export", tmpfs.folder / "no" / "best.cif")
    refused(missing, "cannot be written", "--export", code=2)


def test_plots_on_a_full_disk(inside, finished, workspace, write_campaign, tmpfs):
    """The campaign is finished, and safe in the database; only its plots find no room."""
    (workspace.folder / "results").symlink_to(tmpfs.folder)
    tmpfs.fill()
    refused(
        inside("run", write_campaign(name=finished), "-w", workspace.folder, "--plain"),
        "No space left",
        code=1,
    )
    tmpfs.free()
    assert inside("run", write_campaign(name=finished), "-w", workspace.folder, "--plain").code == 0


@pytest.mark.parametrize(
    ("arguments", "parts", "code"),
    [
        (("run", "x" * 300 + ".yaml"), ["too long"], 2),
        (("run", "none/of/these.yaml"), ["no such file", "godelta init"], 2),
        (("run", "/dev/null"), ["keys and values"], 2),
        (("run", "/dev/zero"), ["larger than"], 2),
        (("status", "nobody"), ["nobody"], 2),
        (("best", "nobody"), ["nobody"], 2),
        (("best", ""), ["no campaign ''"], 2),
        (("query", "--formula", "Xx2"), ["Xx"], 2),
        (("query", "--formula", "Ag2)"), ["Ag2)"], 2),
        (("query", "--elements", "Ag,Qq"), ["Qq"], 2),
        (("query", "--campaign", "nobody"), ["nobody"], 2),
        (("query", "--format", "extxyz", "--max-energy", "-1e9"), ["no structure fits"], 2),
    ],
)
def test_what_is_asked_for_in_vain(inside, workspace, tmp_path, monkeypatch, arguments, parts, code):
    monkeypatch.chdir(tmp_path)
    refused(inside(*arguments, "-w", workspace.folder), *parts, code=code)


@pytest.mark.parametrize("folder", ["x" * 300, "file/below"])
def test_workspaces_that_cannot_be(inside, tmp_path, write_campaign, monkeypatch, folder):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GODELTA_WORKSPACE", str(tmp_path / folder))
    refused(inside("run", write_campaign()), str(tmp_path / folder)[:40], code=1)
    answer = inside("status")
    assert answer.code in (1, 2)
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("value", ["lots", "-1", "0", "nan", "4 GB"])
def test_an_amount_of_memory_that_is_none(monkeypatch, value):
    from godelta.makers.potentials import default_bound_mb

    monkeypatch.setenv("GODELTA_POTENTIALS_MB", value)
    with pytest.raises(InputError, match="no amount of memory") as caught:
        default_bound_mb()
    assert "GODELTA_POTENTIALS_MB" in caught.value.where
    assert "megabytes" in caught.value.mend


def test_a_worker_with_an_amount_of_memory_that_is_none(godelta, workspace):
    answer = godelta("worker", "--idle", "0", "-w", workspace.folder, GODELTA_POTENTIALS_MB="lots")
    assert answer.code == 2
    assert "megabytes" in answer.err
    assert "Traceback" not in answer.err + answer.out


def test_a_name_that_is_no_text(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.yaml"
    command = [sys.executable, "-m", "godelta.cli.main", "run", name]
    for content in (None, b"name: \xe9\n"):
        if content is not None:
            with open(name, "wb") as stream:  # noqa: PTH123 - a path of bytes
                stream.write(content)
        done = subprocess.run(command, capture_output=True, cwd=tmp_path, check=False)
        assert done.returncode == 2
        assert done.stderr.count(b"error:") == 1
        assert b"Traceback" not in done.stderr


@pytest.mark.slow
def test_a_reference_that_always_fails(godelta, workspace, write_campaign):
    """The campaign stops with most of its budget unspent; every command says why."""
    reference = {"engine": "ase", "calculator": "sick_potentials.Raises"}
    path = write_campaign(name="sick", reference=reference, budget={"rounds": 9, "evaluations": 20})
    sick = {"PYTHONPATH": str(Path(__file__).parents[1] / "workflows")}
    here = ("-w", workspace.folder)
    for spent in (6, 12):  # the same command tries again
        run = godelta("run", path, "--plain", *here, **sick)
        assert run.code == 1
        assert "The campaign failed: the last 6 evaluations all failed: engine_error" in run.out
        assert "no licence on this machine" in run.out
        assert "the same command goes on" in run.out
        assert "Traceback" not in run.out + run.err
        row = godelta("status", "sick", "--format", "json", *here).json()
        assert (row["state"], row["ok"], row["failed"]) == ("failed", 0, spent)
    for command in (("status",), ("best", "sick")):
        answer = godelta(*command, *here)
        assert answer.code == 0
        assert "failed:" in answer.out
        assert "no licence on this machine" in answer.out
