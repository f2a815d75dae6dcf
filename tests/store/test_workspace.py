"""Finding a workspace, and its settings."""

import os
import stat
from pathlib import Path

import pytest

from godelta.errors import GodeltaError, InputError
from godelta.store.workspace import Workspace


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch):
    monkeypatch.delenv("GODELTA_WORKSPACE", raising=False)


def test_the_nearest_folder_above(tmp_path, monkeypatch):
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert Workspace.find().folder == deep
    (tmp_path / "godelta.yaml").write_text("")
    assert Workspace.find().folder == tmp_path
    (tmp_path / "a" / ".godelta" / "db").mkdir(parents=True)
    assert Workspace.find().folder == tmp_path / "a"


def test_variable_and_option_go_first(tmp_path, monkeypatch):
    (tmp_path / "godelta.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GODELTA_WORKSPACE", str(tmp_path / "named"))
    assert Workspace.find().folder == tmp_path / "named"
    assert Workspace.find(Path("given")).folder == tmp_path / "given"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Workspace.find(Path("~/x")).folder == tmp_path / "x"


def test_settings(tmp_path):
    workspace = Workspace(tmp_path)
    assert workspace.settings().database.uri is None
    file = tmp_path / "godelta.yaml"
    file.write_text("# nothing but comments\n")
    assert workspace.settings().database.name == "godelta"
    file.write_text("database: {uri: 'mongodb://u:secret@h/', name: mine}\n")
    file.chmod(0o600)
    assert workspace.database_uri(start=False) == ("mongodb://u:secret@h/", "mine")
    assert "secret" not in repr(workspace.settings())


@pytest.mark.parametrize(
    ("text", "part"),
    [("a: 1\n", "`a`"), ("database: {nam: x}\n", "`database.nam`"), ("[", "YAML"), ("- x\n", "dict"),
     ("database: {name: 'a/b'}\n", "`database.name`")],
)  # fmt: skip
def test_settings_that_cannot_be_used(tmp_path, text, part):
    (tmp_path / "godelta.yaml").write_text(text)
    with pytest.raises(InputError, match=part) as caught:
        Workspace(tmp_path).settings()
    assert caught.value.where.split(",")[0] == str(tmp_path / "godelta.yaml")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None])
def test_settings_that_cannot_be_read(tmp_path, content):
    path = tmp_path / "godelta.yaml"
    if content is None:
        path.symlink_to(path)  # is_file() says no: as if there were none
        assert Workspace(tmp_path).settings().database.uri is None
        return
    path.write_bytes(content)
    with pytest.raises(InputError):
        Workspace(tmp_path).settings()


def test_prepare_makes_the_folders(tmp_path):
    workspace = Workspace(tmp_path / "new")
    for _ in range(2):
        workspace.prepare()
    assert workspace.logs.is_dir()
    assert workspace.scratch.is_dir()


def test_scratch_elsewhere(tmp_path, monkeypatch):
    first, second = Workspace(tmp_path / "first"), Workspace(tmp_path / "second")
    for empty in ("", " "):
        monkeypatch.setenv("GODELTA_SCRATCH", empty)
        assert first.scratch == first.state / "scratch"
    monkeypatch.setenv("NODE_DISK", str(tmp_path / "disk"))
    monkeypatch.setenv("GODELTA_SCRATCH", "$NODE_DISK/mine")
    for workspace in (first, second, first):
        workspace.prepare()
        assert workspace.scratch.parent == tmp_path / "disk" / "mine"
        assert stat.S_IMODE(workspace.scratch.stat().st_mode) == 0o700
    assert first.scratch != second.scratch
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GODELTA_SCRATCH", "~/scratch")
    assert first.scratch.parent == tmp_path / "home" / "scratch"


@pytest.mark.parametrize("given", ["relative/path", "$NOT_SET_HERE/x"])
def test_scratch_that_is_no_whole_path(tmp_path, monkeypatch, given):
    monkeypatch.delenv("NOT_SET_HERE", raising=False)
    monkeypatch.setenv("GODELTA_SCRATCH", given)
    with pytest.raises(InputError, match="whole path"):
        Workspace(tmp_path).prepare()


def test_scratch_that_others_may_write_to(tmp_path, monkeypatch):
    monkeypatch.setenv("GODELTA_SCRATCH", str(tmp_path / "disk"))
    workspace = Workspace(tmp_path / "workspace")
    workspace.scratch.mkdir(parents=True)
    workspace.scratch.chmod(0o770)
    with pytest.raises(GodeltaError, match="others may write"):
        workspace.prepare()
    workspace.scratch.rmdir()
    (tmp_path / "mine").mkdir()
    workspace.scratch.symlink_to(tmp_path / "mine")
    with pytest.raises(GodeltaError, match="another user's"):
        workspace.prepare()
    workspace.scratch.unlink()
    (tmp_path / "disk").rmdir()
    (tmp_path / "disk").write_text("")
    with pytest.raises(GodeltaError, match="cannot be made"):
        workspace.prepare()


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    workspace = Workspace(tmp_path / "file")
    for task in (workspace.prepare, lambda: workspace.database_uri(start=True)):
        with pytest.raises(GodeltaError, match="cannot be written"):
            task()


def test_no_private_server_yet(tmp_path):
    with pytest.raises(GodeltaError, match="no private database"):
        Workspace(tmp_path).connect()
    assert list(tmp_path.iterdir()) == []


def test_configuration_files_are_private(workspace, monkeypatch):
    from godelta.workflows.launchpad import configure_engines

    for name in ("FW_CONFIG_FILE", "JOBFLOW_CONFIG_FILE", "TQDM_DISABLE"):
        monkeypatch.setenv(name, "")
    configure_engines(workspace)
    for path in (workspace.state / "fw_config").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert os.environ["FW_CONFIG_FILE"].startswith(str(workspace.folder))
