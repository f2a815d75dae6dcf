"""`godelta db`: the server's state, backups, and campaigns that go on from one."""

import gc
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile

import pytest

from godelta.store import campaigns
from godelta.store.backup import COLLECTIONS, verify
from godelta.store.database import connect
from godelta.store.mongod import PrivateMongod
from godelta.store.serverfile import wait_for_end
from godelta.store.workspace import Workspace

BUSY = """
import sys, time, pymongo
client = pymongo.MongoClient(sys.argv[1])
client.admin.command("ping")
print("on", flush=True)
time.sleep(300)
"""
COMMAND = [sys.executable, "-m", "godelta.cli.main"]


def done_evaluations(store):
    return {raw["_id"]: raw for raw in store.evaluations.find({"state": {"$ne": "pending"}})}


@pytest.mark.slow
def test_a_backup_taken_in_mid_campaign_goes_on(godelta, workspace, opened, write_campaign, tmp_path):
    path, file = write_campaign(budget={"rounds": 3, "evaluations": 6}), tmp_path / "mid.zip"
    process = subprocess.Popen([*COMMAND, "run", str(path), "-w", str(workspace.folder), "--plain"])
    deadline = time.monotonic() + 120
    while not opened.evaluations.find_one({"lease": {"$ne": None}}) or not done_evaluations(opened):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    answer = godelta("db", "backup", file, "-w", workspace.folder)
    assert answer.code == 0, answer.err
    assert re.search(r"Wrote .*mid.zip: 1 campaigns, \d+ structures, \d+ evaluations", answer.out)
    assert process.wait(120) == 0
    end = campaigns.get_campaign(opened, "cheap")
    assert (end.state, end.spent) == ("finished", 6)
    all_done = done_evaluations(opened)

    refused = godelta("db", "restore", file, "-w", workspace.folder)
    assert refused.code == 2
    assert "not empty" in refused.err
    assert "--force" in refused.err
    assert campaigns.get_campaign(opened, "cheap").state == "finished"

    answer = godelta("db", "restore", file, "-w", workspace.folder, "--force")
    assert answer.code == 0, answer.err
    back = campaigns.get_campaign(opened, "cheap")
    kept = done_evaluations(opened)
    assert back.state == "running"
    assert 0 < len(kept) < len(all_done)
    assert opened.evaluations.count_documents({"lease": {"$ne": None}}) == 0
    assert opened.db["workflows"].count_documents({}) == 0

    answer = godelta("run", path, "-w", workspace.folder, "--plain")
    assert answer.code == 0, answer.err
    again = campaigns.get_campaign(opened, "cheap")
    assert (again.state, again.spent, again.reserved) == ("finished", 6, ())
    after = done_evaluations(opened)
    assert {key: after[key] for key in kept} == kept, "nothing was computed a second time"
    numbers = sorted(raw["k"] for raw in opened.rounds.find())
    assert numbers == list(range(len(numbers)))


def test_a_backup_into_another_database_and_workspace(
    inside, finished, workspace, opened, mongod_uri, tmp_path
):
    file, name = tmp_path / "done.zip", f"{opened.db.name}_copy"
    assert inside("db", "backup", file, "-w", workspace.folder).code == 0
    answer = inside("db", "restore", file, "-w", workspace.folder, "--name", name)
    assert answer.code == 0, answer.err
    assert f"database: {{name: {name}}}" in answer.out
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "godelta.yaml").write_text(f"database: {{uri: '{mongod_uri}', name: {name}}}\n")
    (copy / "godelta.yaml").chmod(0o600)
    try:
        mine = inside("best", finished, "-w", workspace.folder, "--format", "json")
        assert inside("best", finished, "-w", copy, "--format", "json").json() == mine.json() != []
        bad = inside("db", "restore", file, "-w", copy, "--name", "a/b")
        assert bad.code == 2
        assert "--name" in bad.err
    finally:
        opened.db.client.drop_database(name)


def test_the_name_of_a_backup(inside, finished, workspace, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    answer = inside("db", "backup", "-w", workspace.folder)
    assert answer.code == 0
    (file,) = tmp_path.glob("*.zip")
    assert re.fullmatch(rf"{workspace.settings().database.name}-\d{{8}}-\d{{6}}\.zip", file.name)
    assert file.name in answer.out
    assert verify(file).collections["campaigns"].count == 1
    assert inside("db", "backup", file, "-w", workspace.folder).code == 2
    with zipfile.ZipFile(file) as archive:
        names = set(archive.namelist())
        assert "uri" not in json.loads(archive.read("manifest.json"))
    assert names == {"manifest.json", *(f"{name}.bson" for name in COLLECTIONS)}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_backup_that_is_interrupted(workspace, opened, tmp_path, number):
    opened.features.insert_many({"structure_id": str(i), "noise": os.urandom(500_000)} for i in range(200))
    for delay in (0.0, 0.1, 0.3):
        file = tmp_path / "out" / "a.zip"
        file.parent.mkdir(exist_ok=True)
        command = [*COMMAND, "db", "backup", str(file), "-w", str(workspace.folder)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while not list(file.parent.iterdir()):
            assert process.poll() is None
            time.sleep(0.005)
        time.sleep(delay)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert "Traceback" not in err
        assert process.returncode == 130, out + err
        assert "nothing was written" in out
        assert list(file.parent.iterdir()) == []


def test_a_backup_that_is_interrupted_while_it_begins_a_part(inside, workspace, tmp_path, monkeypatch):
    """zipfile then refuses to be closed, and once more when it is forgotten."""

    def interrupted(*_):
        raise KeyboardInterrupt

    complaints = []
    monkeypatch.setattr("zipfile._ZipWriteFile", interrupted)
    monkeypatch.setattr("sys.unraisablehook", complaints.append)
    answer = inside("db", "backup", tmp_path / "a.zip", "-w", workspace.folder)
    gc.collect()
    assert (answer.code, answer.err, complaints) == (130, "", [])
    assert "nothing was written" in answer.out
    assert not list(tmp_path.glob("*.zip*")) + list(tmp_path.glob(".*zip*"))


def test_a_file_that_is_no_backup(inside, workspace, tmp_path):
    for name in ("nowhere.zip", "bad.zip"):
        (tmp_path / "bad.zip").write_text("hello")
        answer = inside("db", "restore", tmp_path / name, "-w", workspace.folder)
        assert answer.code == 2
        assert str(tmp_path / name) in answer.err
        assert answer.err.count("error:") == 1
    (tmp_path / "empty").mkdir()
    answer = inside("db", "backup", "-w", tmp_path / "empty")
    assert answer.code == 2
    assert "no workspace" in answer.err


def test_a_private_server_from_start_to_restore(inside, require, tmp_path):
    require("mongod")
    workspace = Workspace(tmp_path)
    (tmp_path / "godelta.yaml").write_text("database: {idle_minutes: 7.5}\n")
    file = tmp_path / "a.zip"
    try:
        answer = inside("db", "start", "-w", tmp_path)
        assert answer.code == 0, answer.err
        assert "7.5 minutes without a client" in answer.out
        assert inside("status", "-w", tmp_path).code == 0
        assert inside("db", "backup", file, "-w", tmp_path).code == 0
        pid = workspace.server().status().pid
        os.kill(pid, signal.SIGKILL)
        assert wait_for_end(pid, 10)
        answer = inside("db", "status", "-w", tmp_path)
        assert answer.code == 1
        assert "it ended by itself" in answer.out
        assert inside("db", "restore", file, "-w", tmp_path).code == 0
        uri, name = workspace.database_uri(start=False)
        busy = subprocess.Popen([sys.executable, "-c", BUSY, uri], stdout=subprocess.PIPE)
        try:
            assert busy.stdout.readline() == b"on\n"
            answer = inside("db", "restore", file, "--force", "-w", tmp_path)
            assert answer.code == 1
            assert "other processes are at work" in answer.err
        finally:
            busy.kill()
            busy.wait()
        assert inside("db", "restore", file, "--force", "-w", tmp_path).code == 0
        connect(uri, name).close()
        assert inside("db", "stop", "-w", tmp_path).code == 0
        answer = inside("db", "status", "-w", tmp_path)
        assert answer.code == 1
        assert "by itself" not in answer.out
    finally:
        PrivateMongod(tmp_path).stop()
