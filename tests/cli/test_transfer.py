"""export, import and migrate, as commands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from godelta.store import campaigns, migrations
from godelta.store.backup import restore, verify
from godelta.store.database import connect
from godelta.store.workers import WorkerName, sign_off, sign_on
from godelta.store.workspace import Workspace

FIXTURE = Path(__file__).parent.parent / "store" / "data" / "schema-1.zip"


@pytest.fixture
def there(workspace, mongod_uri, tmp_path):
    """Another workspace, with a database of its own."""
    name = f"{workspace.settings().database.name}_there"
    made = Workspace(tmp_path / "there")
    made.folder.mkdir()
    (made.folder / "godelta.yaml").write_text(f"database: {{uri: '{mongod_uri}', name: {name}}}\n")
    (made.folder / "godelta.yaml").chmod(0o600)
    yield made
    with connect(mongod_uri, timeout_ms=20_000).db.client as client:
        client.drop_database(name)


@pytest.fixture
def old(workspace, mongod_uri, monkeypatch):
    """The workspace's database is one of the schema before."""
    store = connect(mongod_uri, workspace.settings().database.name)
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "apply", lambda _store: None)
        restore(store, FIXTURE)
    yield store
    store.close()


def test_a_campaign_moves_and_its_file_still_fits(
    inside, finished, workspace, there, write_campaign, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    answer = inside("export", finished, "-w", workspace.folder)
    assert answer.code == 0, answer.err
    (file,) = tmp_path.glob("*.zip")
    assert re.fullmatch(r"done-\d{8}-\d{6}\.zip", file.name)
    assert re.search(rf"Wrote {file.name}: 2 rounds, \d+ structures, 4 evaluations, 2 models", answer.out)
    answer = inside("import", file, "-w", there.folder)
    assert answer.code == 0, answer.err
    assert "Imported done (finished): 2 rounds" in answer.out
    ask = ("best", "done", "--format", "json", "-w")
    assert inside(*ask, there.folder).json() == inside(*ask, workspace.folder).json() != []
    again = inside("import", file, "-w", there.folder)
    assert again.code == 0
    assert "in this database already (finished); nothing was changed" in again.out
    # The file that it was made from is its file here too.
    answer = inside("run", write_campaign(name="done"), "-w", there.folder, "--plain")
    assert answer.code == 0, answer.err
    assert "finished" in answer.out


def test_names_that_do_not_do(inside, finished, workspace, opened, tmp_path):
    file = tmp_path / "a.zip"
    assert inside("export", finished, file, "--features", "-w", workspace.folder).code == 0
    assert verify(file).collections["features"].count > 0
    opened.campaigns.update_one({"name": "done"}, {"$set": {"campaign_id": "0" * 24}})
    for options, words in (((), "has the name 'done'"), (("--name", "a b"), "cannot be the name")):
        answer = inside("import", file, *options, "-w", workspace.folder)
        assert answer.code == 2
        assert words in answer.err
        assert "--name" in answer.err
    answer = inside("import", file, "--name", "moved", "-w", workspace.folder)
    assert answer.code == 0, answer.err
    assert "4 of the evaluations were here already" in answer.out
    assert campaigns.get_campaign(opened, "moved").config["name"] == "moved"


def test_what_cannot_be_exported_or_imported(inside, finished, workspace, tmp_path):
    answer = inside("export", "nobody", "-w", workspace.folder)
    assert answer.code == 2
    assert "there are: done" in answer.err
    assert inside("db", "backup", tmp_path / "all.zip", "-w", workspace.folder).code == 0
    for name, words in (("nowhere.zip", "No such file"), ("all.zip", "godelta db restore")):
        answer = inside("import", tmp_path / name, "-w", workspace.folder)
        assert answer.code == 2
        assert words in answer.err
        assert "Traceback" not in answer.err
    answer = inside("db", "restore", tmp_path / "all.zip", "-w", workspace.folder)
    assert "not empty" in answer.err


def test_an_old_database_is_migrated_after_a_backup(inside, old, workspace):
    for command in (("status",), ("query",), ("best", "alloy"), ("export", "alloy"), ("db", "backup")):
        answer = inside(*command, "-w", workspace.folder)
        assert answer.code == 1, command
        assert "godelta migrate" in answer.err
    answer = inside("migrate", "-w", workspace.folder)
    assert answer.code == 0, answer.err
    (file,) = (workspace.folder / "backups").glob("*-schema-1-*.zip")
    assert str(file) in answer.out
    assert "it had 1" in answer.out
    assert verify(file).schema_version == 1
    assert inside("status", "alloy", "-w", workspace.folder, "--format", "json").json()["ok"] == 4
    answer = inside("migrate", "-w", workspace.folder)
    assert answer.code == 0
    assert "nothing to do" in answer.out
    assert len(list((workspace.folder / "backups").iterdir())) == 1
    # And back again, to the state before.
    answer = inside("db", "restore", file, "--force", "-w", workspace.folder)
    assert answer.code == 0, answer.err
    assert inside("status", "alloy", "-w", workspace.folder, "--format", "json").json()["ok"] == 4


def test_not_while_workers_live(inside, old, workspace, tmp_path):
    name = WorkerName.own()
    sign_on(old, name)
    answer = inside("migrate", "-w", workspace.folder)
    assert answer.code == 1
    assert name.process in answer.err
    assert migrations.version_of(old) == 1
    assert not (workspace.folder / "backups").exists()
    sign_off(old, name)
    gone = WorkerName(name.host, name.boot, 1, 1.0)
    sign_on(old, gone)  # its process has ended
    file = tmp_path / "before.zip"
    answer = inside("migrate", "--backup", file, "-w", workspace.folder)
    assert answer.code == 0, answer.err
    assert verify(file).schema_version == 1


def test_where_the_backup_cannot_be_written_nothing_is_migrated(inside, old, workspace, tmp_path):
    (tmp_path / "there.zip").write_text("precious")
    for target in (tmp_path / "there.zip", tmp_path / "there.zip" / "a.zip"):
        answer = inside("migrate", "--backup", target, "-w", workspace.folder)
        assert answer.code in (1, 2)
        assert "Traceback" not in answer.err
        assert migrations.version_of(old) == 1
    assert old.db["meta"].find_one({"_id": migrations.NOTE}) is None


def test_an_old_backup_is_restored_as_it_has_to_be_now(inside, workspace):
    answer = inside("db", "restore", FIXTURE, "-w", workspace.folder)
    assert answer.code == 0, answer.err
    rows = inside("query", "--format", "json", "-w", workspace.folder).json()
    assert {row["campaign"] for row in rows} == {"alloy", "twin"}


@pytest.mark.slow
def test_an_old_campaign_goes_on_to_its_end(inside, old, workspace, write_campaign):
    """The one that was in mid-campaign; nothing that was computed is computed again."""
    assert inside("migrate", "-w", workspace.folder).code == 0
    done = {raw["_id"]: raw for raw in old.evaluations.find({"state": "ok"})}
    path = write_campaign(name="twin", budget={"rounds": 3}, delta={"inducing_points": 20})
    command = [sys.executable, "-m", "godelta.cli.main", "run", path, "-w", workspace.folder, "--plain"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    answer = inside("status", "twin", "-w", workspace.folder, "--format", "json").json()
    assert (answer["state"], answer["closed_rounds"], answer["pending"]) == ("finished", 3, 0)
    assert {raw["_id"]: raw for raw in old.evaluations.find({"_id": {"$in": list(done)}})} == done
