"""The private server after kill -9, on full disks, with damaged files: alive again, or a word that helps."""

import contextlib
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from pymongo.errors import PyMongoError

from godelta.errors import GodeltaError
from godelta.store.database import connect
from godelta.store.mongod import PrivateMongod
from godelta.store.mongodlog import explain_end, log_tail
from godelta.store.serverfile import network_file_system

Kill = Callable[[PrivateMongod], None]


def test_acknowledged_writes_survive_kill_9_in_mid_stream(server: PrivateMongod, kill: Kill) -> None:
    store = connect(server.start(), "crash", timeout_ms=1000)
    store.ensure_indexes()
    acknowledged: list[int] = []

    def write() -> None:
        for number in range(100_000):
            try:
                store.rounds.insert_one({"campaign_id": "c", "chain": 0, "k": number})
            except PyMongoError:
                return
            acknowledged.append(number)

    writer = threading.Thread(target=write)
    writer.start()
    while len(acknowledged) < 50:
        time.sleep(0.01)
    kill(server)
    writer.join()
    assert not server.status().running
    store.close()
    assert len(acknowledged) >= 50
    store = connect(server.start(), "crash", timeout_ms=20_000)
    stored = {raw["k"] for raw in store.rounds.find()}
    assert set(acknowledged) <= stored
    store.close()


@pytest.mark.parametrize(
    ("file", "old", "new", "what", "mend"),
    [
        ("WiredTiger.turtle", b"", b"no such thing", "damaged", "godelta db restore"),
        ("WiredTiger.wt", b"", b"no such thing", "damaged", "godelta db restore"),
        ("WiredTiger.turtle", b"version=(major=1", b"version=(major=99", "another version", "GODELTA_MONGOD"),
    ],
)
def test_data_that_cannot_be_used(
    server: PrivateMongod, file: str, old: bytes, new: bytes, what: str, mend: str
) -> None:
    server.start()
    server.stop()
    path = server.data / file
    path.write_bytes(path.read_bytes().replace(old, new) if old else new)
    if not old:
        (server.data / "WiredTiger").write_text("nor this")
    for _ in range(2):
        with pytest.raises(GodeltaError, match=what) as caught:
            server.start()
        assert caught.value.where == str(server.data)
        assert mend in str(caught.value)
        assert str(server.log) in str(caught.value)
    assert not server.status().running


def test_the_words_of_a_newer_mongod(tmp_path: Path) -> None:
    """What mongod 6 says about data of mongod 7, after WiredTiger itself has opened them."""
    log = tmp_path / "mongod.log"
    attr = {"error": "Location4926900: Invalid featureCompatibilityVersion document in admin.system.version"}
    log.write_text(json.dumps({"s": "F", "msg": "Wrong mongod version", "attr": attr}))
    assert "another version of MongoDB" in str(explain_end(tmp_path, log, "no idea"))
    log.write_text(json.dumps({"s": "F", "msg": "Something else"}))
    assert "no idea:\nSomething else" in str(explain_end(tmp_path, log, "no idea"))


def test_no_binary_that_runs(server: PrivateMongod, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    binary = tmp_path / "mongod"
    binary.write_text("#!/bin/sh\necho no such option\nexit 2\n")
    binary.chmod(0o755)
    monkeypatch.setenv("GODELTA_MONGOD", str(binary))
    with pytest.raises(GodeltaError, match=r"exit code 2(.|\n)*no such option"):
        server.start()


def test_a_password_that_does_not_fit_is_explained(server: PrivateMongod) -> None:
    server.start()
    password = server.home / "password"
    right = password.read_text()
    password.write_text("0" * 48)
    with pytest.raises(GodeltaError, match="password does not open"):
        server.start()
    password.write_text(right)
    server.start()


def test_a_missing_password_is_not_made_anew(server: PrivateMongod) -> None:
    server.start()
    password = server.home / "password"
    right = password.read_text()
    for running in (True, False):
        password.unlink()
        with pytest.raises(GodeltaError, match="password is missing") as caught:
            server.start()
        assert caught.value.where == str(password)
        assert not password.exists()
        password.write_text(right)
        if running:
            server.stop()
    assert server.start()


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", '{"port": 20000}', '{"pid": 1}',
        '{"port": "x", "host": "h", "boot_id": "b", "pid": 1, "born": 1.0, "started": true}',
        '{"port": 99999, "host": "h", "boot_id": "b", "pid": 1, "born": 1.0, "started": true}',
        '{"port": 20000, "host": "h", "boot_id": "b", "pid": "1", "born": 1.0, "started": true}',
    ],
)  # fmt: skip
def test_a_damaged_record_is_explained(tmp_path: Path, text: str) -> None:
    server = PrivateMongod(tmp_path)
    server.home.mkdir(parents=True)
    server.record_file.write_text(text)
    for action in (server.start, server.stop, server.status, server.uri):
        with pytest.raises(GodeltaError, match="cannot be read") as caught:
            action()
        assert caught.value.where == str(server.record_file)
    server.record_file.write_bytes(b"\xff\xfe")
    with pytest.raises(GodeltaError, match="cannot be read"):
        server.status()


@contextlib.contextmanager
def small_disk(folder: Path, size: str, **options: str) -> Iterator[Path]:
    folder.mkdir()
    words = ",".join([f"size={size}", *(f"{name}={value}" for name, value in options.items())])
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", words, "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("size", ["4k", "100k", "300k"])
def test_a_disk_too_small_to_start_on(
    require: Callable[[str], None], tmp_path: Path, size: str, kill: Kill
) -> None:
    require("mongod")
    with small_disk(tmp_path / "disk", size) as disk:
        (disk / "ballast").write_bytes(bytes(1000))
        server = PrivateMongod(disk)
        try:
            for _ in range(2):
                with pytest.raises(GodeltaError, match=r"full|No space left") as caught:
                    server.start()
                assert "make space" in str(caught.value)
            subprocess.run(["mount", "-o", "remount,size=900m", disk], check=True)
            assert server.start()
        finally:
            kill(server)


def test_a_disk_that_fills_up(require: Callable[[str], None], tmp_path: Path, kill: Kill) -> None:
    require("mongod")
    with small_disk(tmp_path / "disk", "400m") as disk:
        server = PrivateMongod(disk)
        try:
            store = connect(server.start(), "full", timeout_ms=2000)
            acknowledged: list[int] = []

            def fill() -> None:
                for number in range(1000):
                    store.rounds.insert_one({"_id": number, "noise": os.urandom(1_000_000)})
                    acknowledged.append(number)

            with pytest.raises(PyMongoError):
                fill()
            store.close()
            assert acknowledged
            kill(server)
            ballast = disk / "ballast"
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as stream:
                while True:
                    stream.write(bytes(4096))
            try:
                server.start()  # what the end of the first mongod has freed may do
            except GodeltaError as error:
                assert re.search(r"full|No space left", str(error))  # noqa: PT017
            kill(server)
            ballast.unlink()
            subprocess.run(["mount", "-o", "remount,size=900m", disk], check=True)
            store = connect(server.start(), "full", timeout_ms=20_000)
            assert {raw["_id"] for raw in store.rounds.find({}, {"_id": 1})} >= set(acknowledged)
            store.close()
        finally:
            kill(server)


def test_a_disk_that_cannot_be_written(require: Callable[[str], None], tmp_path: Path) -> None:
    require("mongod")
    with small_disk(tmp_path / "disk", "10m") as disk:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(GodeltaError, match="cannot be written: Read-only file system"):
            PrivateMongod(disk).start()


def test_network_file_systems_are_refused(
    server: PrivateMongod, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from types import SimpleNamespace

    mounts = [
        SimpleNamespace(mountpoint="/", fstype="ext4"),
        SimpleNamespace(mountpoint=str(tmp_path), fstype="nfs4"),
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)
    assert network_file_system(Path("/")) is None
    with pytest.raises(GodeltaError, match="network file system"):
        server.start()
    assert not server.home.exists()


def test_log_tail_prefers_errors_of_the_last_run(tmp_path: Path) -> None:
    log = tmp_path / "mongod.log"
    assert "no log" in log_tail(log)
    lines = [
        {"s": "E", "msg": "old trouble"},
        {"s": "I", "msg": "***** SERVER RESTARTED *****"},
        {"s": "E", "msg": "disk is full", "attr": {"errno": 28}},
        {"s": "I", "msg": "exiting"},
    ]
    log.write_text("\n".join(json.dumps(line) for line in lines))
    assert log_tail(log) == 'disk is full {"errno": 28}'


def test_a_kill_right_after_the_first_start_finds_all_tables_in_a_checkpoint(
    server: PrivateMongod, kill: Kill
) -> None:
    """What recovery has to make again while it replays writes, mongod 6.0 may fail to make."""
    store = connect(server.start())
    store.ensure_indexes()
    kill(server)
    server.start()
    *_, after = server.log.read_text().split("***** SERVER RESTARTED *****")
    made = re.findall(r'"msg":"createCollection","attr":{"namespace":"([^"]+)"', after)
    assert "config.transactions" not in made
    assert "transactions" in store.db.client["config"].list_collection_names()
    store.close()
