"""The database's password stays where it was put, in a campaign that goes well and in commands that fail."""

import os
import stat
import subprocess
import sys
import time
import uuid

import bson
import psutil
import pytest
from pymongo import MongoClient

from godelta.redaction import password_of
from godelta.store.workspace import Workspace

VARIABLE = "GODELTA_TEST_URI"


@pytest.fixture
def place(tmp_path, mongod_uri):
    """A workspace whose URI stands in the environment, and the name of its database."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    (tmp_path / "godelta.yaml").write_text(f"database: {{uri_env: {VARIABLE}, name: {name}}}\n")
    yield Workspace(tmp_path), name
    with MongoClient(mongod_uri) as client:
        client.drop_database(name)


def followed(process, password):
    """Wait for a process; whatever showed the password meanwhile, and how many engines were seen."""
    guilty, engines = [], set()
    while process.poll() is None:
        for other in psutil.process_iter():
            try:
                line = other.cmdline()
                if password in " ".join(line):
                    guilty.append(line)
                if "godelta.reference.guard" in line:
                    engines.add(other.pid)
                    if any(password in value for value in other.environ().values()):
                        guilty.append([*line, "(environment)"])
            except psutil.Error:
                continue
        time.sleep(0.01)
    return guilty, engines


@pytest.mark.slow
def test_a_campaign_leaves_its_password_nowhere(place, mongod_uri, write_campaign, inside, monkeypatch):
    workspace, name = place
    password = password_of(mongod_uri)
    command = [sys.executable, "-m", "godelta.cli.main", "run", "--plain", str(write_campaign())]
    output = workspace.folder / "output.txt"
    with output.open("wb") as stream:
        environment = os.environ | {VARIABLE: mongod_uri}
        process = subprocess.Popen(
            command, cwd=workspace.folder, env=environment, stdout=stream, stderr=stream
        )
        guilty, engines = followed(process, password)
    assert process.returncode == 0, output.read_text()
    assert not guilty
    assert engines
    monkeypatch.setenv(VARIABLE, mongod_uri)
    for arguments in (["status"], ["logs", "cheap"], ["best", "cheap"], ["query"], ["db", "status"]):
        answer = inside(*arguments, "--workspace", workspace.folder)
        assert password not in answer.out + answer.err
    private = workspace.state / "fw_config"
    read = 0
    for path in workspace.folder.rglob("*"):
        if not path.is_file():
            continue
        if path.parent == private:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            continue
        assert password.encode() not in path.read_bytes(), path
        read += 1
    assert read > 5
    with MongoClient(mongod_uri) as client:
        collections = [client[name][each] for each in client[name].list_collection_names()]
        documents = [raw for collection in collections for raw in collection.find()]
    assert len(documents) > 20
    for raw in documents:
        assert password.encode() not in bson.encode(raw), raw
    assert any("_tasks" in raw.get("spec", {}) for raw in documents)


def test_a_server_of_ones_own_is_named(place, mongod_uri, inside, monkeypatch):
    workspace, _ = place
    monkeypatch.setenv(VARIABLE, mongod_uri)
    for command in ("start", "status"):
        answer = inside("db", command, "--workspace", workspace.folder)
        assert answer.code == 0
        assert "server of your own, 127.0.0.1:" in answer.out
    assert not (workspace.state / "db").exists()


@pytest.mark.parametrize("command", ["status", "run", "worker", "check", "db status"])
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("mongodb://me:not-the-one@127.0.0.1:PORT/?authSource=admin&directConnection=true", "password"),
        ("mongodb://me:not-the-one@127.0.0.1:PORT/?appName=a@b/c", "URI"),
        ("mongodb://me:not-the-one/at-all@127.0.0.1:PORT/", "URI"),
        ("mongodb://me:not-the-one", "URI"),
        ("me:not-the-one@h", "URI"),
        ("", "sbatch --export"),
    ],
)
def test_commands_that_fail(place, mongod_uri, write_campaign, inside, monkeypatch, command, wrong, says):
    workspace, _ = place
    port = mongod_uri.rpartition("@")[2].partition("/")[0].partition(":")[2]
    monkeypatch.setenv(VARIABLE, wrong.replace("PORT", port))
    arguments = [*command.split(), *([write_campaign()] if command == "run" else [])]
    answer = inside(*arguments, "--workspace", workspace.folder)
    said = answer.out + answer.err
    assert says in said
    assert "Traceback" not in said
    for path in workspace.folder.rglob("*"):
        if path.is_file() and path.parent != workspace.state / "fw_config":
            said += path.read_text(errors="replace")
    assert "not-the-one" not in said
    assert "at-all" not in said


@pytest.mark.slow
def test_a_worker_whose_user_is_taken_away(place, mongod_uri):
    workspace, _ = place
    user = f"user_{uuid.uuid4().hex[:8]}"
    with MongoClient(mongod_uri) as client:
        client.admin.command("createUser", user, pwd="the-first-one", roles=["root"])
        host = mongod_uri.rpartition("@")[2]
        process = subprocess.Popen(
            [sys.executable, "-m", "godelta.cli.main", "worker", "--idle", "90"],
            cwd=workspace.folder,
            env=os.environ | {VARIABLE: f"mongodb://{user}:the-first-one@{host}"},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            while not (workspace.state / "workers").is_dir() and process.poll() is None:
                time.sleep(0.1)
            client.admin.command("dropUser", user)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 1
    message = said[said.rindex("error: ") :]
    assert "the MongoDB server refuses the connection" in message
    assert "was the password changed" in message
    assert "the-first-one" not in said
