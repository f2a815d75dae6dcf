"""The private server: found, started once, stopped, and alive again after everything."""

import contextlib
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
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
from godelta.store.mongod_binary import find_mongod
from godelta.store.mongodlog import explain_end, log_tail
from godelta.store.serverfile import (
    ServerRecord,
    birth_time,
    file_lock,
    network_file_system,
    wait_for_end,
)
from godelta.store.watch import was_killed

START = """
import sys
from pathlib import Path
from godelta.store.mongod import PrivateMongod
print(PrivateMongod(Path(sys.argv[1])).start())
"""


@pytest.fixture
def server(require: Callable[[str], None], tmp_path: Path) -> Iterator[PrivateMongod]:
    if "GODELTA_MONGOD" not in os.environ:
        require("mongod")
    server = PrivateMongod(tmp_path)
    yield server
    # The whole folder goes: no need for a clean end, which takes seconds.
    kill(server)


def kill(server: PrivateMongod) -> None:
    pid = server.status().pid
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
        assert wait_for_end(pid, 10)


def test_binary_comes_from_the_variable_the_path_or_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    binary = tmp_path / "mongod"
    binary.write_text("#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("GODELTA_MONGOD", raising=False)
    if importlib.util.find_spec("fiftyone") is not None:
        assert find_mongod().parent.parts[-3:] == ("fiftyone", "db", "bin")
    binary.chmod(0o755)
    assert find_mongod() == binary
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\n")
    monkeypatch.setenv("GODELTA_MONGOD", str(other))
    with pytest.raises(GodeltaError, match="not an executable"):
        find_mongod()
    other.chmod(0o755)
    assert find_mongod() == other
    assert "fiftyone" not in sys.modules


def test_error_without_any_binary_names_all_three_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("GODELTA_MONGOD", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(GodeltaError) as caught:
        find_mongod()
    for way in ("GODELTA_MONGOD", "PATH", "pip install"):
        assert way in str(caught.value)


def test_life_of_a_server(server: PrivateMongod) -> None:
    assert not server.status().running
    with pytest.raises(GodeltaError, match="no private database yet"):
        server.uri()
    uri = server.start()
    status = server.status()
    assert status.running
    assert server.start() == uri == server.uri()
    assert server.status().pid == status.pid
    for name in ("password", "keyfile", "server.json"):
        assert (server.home / name).stat().st_mode & 0o077 == 0
    assert psutil.Process(status.pid).net_connections("tcp")[0].laddr.ip == "127.0.0.1"
    server.stop()
    server.stop()
    assert not server.status().running
    assert birth_time(status.pid or 0) is None
    assert server.start() == uri, "the port is remembered"


def test_nobody_enters_without_the_password(server: PrivateMongod) -> None:
    uri = server.start()
    with pytest.raises(GodeltaError, match="refuses") as caught:
        connect(f"mongodb://127.0.0.1:{server.status().port}/?directConnection=true", timeout_ms=5000)
    assert "password" in str(caught.value)
    with pytest.raises(GodeltaError, match="refuses"):
        connect(uri.replace("godelta:", "godelta:x"), timeout_ms=5000)


def test_acknowledged_writes_survive_kill_9_in_mid_stream(server: PrivateMongod) -> None:
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


def test_a_taken_port_is_given_up_and_the_replica_set_follows(server: PrivateMongod) -> None:
    first = server.start()
    connect(first, timeout_ms=5000).campaigns.insert_one({"name": "kept"})
    port = server.status().port
    server.stop()
    with socket.create_server(("127.0.0.1", port)) as occupant:

        def turn_away() -> None:
            with contextlib.suppress(OSError):
                while True:
                    occupant.accept()[0].close()

        threading.Thread(target=turn_away, daemon=True).start()
        second = server.start()
        occupant.shutdown(socket.SHUT_RDWR)
    assert second != first
    assert connect(second, timeout_ms=5000).campaigns.find_one({})["name"] == "kept"


def test_two_starts_at_once_give_one_server(tmp_path: Path, server: PrivateMongod) -> None:
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", START, str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    answers = [process.communicate(timeout=120) for process in starts]
    assert [process.returncode for process in starts] == [0, 0, 0], answers
    assert len({out for out, _ in answers}) == 1
    serving = [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if str(server.data) in (process.info["cmdline"] or [])
    ]
    assert serving == [server.status().pid]


def test_a_start_killed_before_it_noted_the_pid_is_taken_over(server: PrivateMongod) -> None:
    uri = server.start()
    pid, port = server.status().pid, server.status().port
    assert port is not None
    ServerRecord.starting(port).write(server.record_file)
    assert server.start() == uri
    assert server.status().pid == pid


def test_a_stale_pid_that_another_process_has_now_is_not_ours(server: PrivateMongod) -> None:
    server.start()
    port = server.status().port
    assert port is not None
    kill(server)
    mine = ServerRecord.of_process(port, os.getpid())
    assert mine is not None
    mine.write(server.record_file)
    assert not server.status().running
    server.start()
    assert server.status().pid not in (None, os.getpid())


def test_a_server_of_another_host_is_refused_until_it_is_stopped(server: PrivateMongod) -> None:
    server.start()
    server.stop()
    record = json.loads(server.record_file.read_text())
    foreign = record | {"host": "node17", "boot_id": "x", "pid": 4711, "born": 1.0, "started": True}
    server.record_file.write_text(json.dumps(foreign))
    for action in (server.start, server.stop):
        with pytest.raises(GodeltaError, match=r"godelta db stop.*node17"):
            action()
    assert server.status().running
    assert server.status().host == "node17"
    server.record_file.write_text(json.dumps(foreign | {"pid": None, "born": None, "started": False}))
    server.start()
    assert server.status().pid


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


def test_the_clock_may_jump(server: PrivateMongod, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = server.start()
    pid = server.status().pid
    born = psutil.Process(pid).create_time()
    for jump in (-1e8, 1e8):
        now, boot = time.time() + jump, psutil.boot_time() + jump
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda now=now: now)
            patch.setattr(psutil, "boot_time", lambda boot=boot: boot)
            patch.setattr("psutil._pslinux.boot_time", lambda boot=boot: boot)
            patch.setattr("psutil._pslinux.BOOT_TIME", boot, raising=False)
            assert abs(psutil.Process(pid).create_time() - born) > 1e7
            assert server.status().pid == pid
            assert server.start() == uri
    assert server.status().pid == pid


def test_stopped_while_a_client_writes(server: PrivateMongod) -> None:
    store = connect(server.start(), "stopped", timeout_ms=1000)
    acknowledged: list[int] = []
    failed: list[PyMongoError] = []

    def write() -> None:
        while not failed:
            try:
                store.rounds.insert_one({"_id": len(acknowledged)})
                acknowledged.append(len(acknowledged))
            except PyMongoError as error:
                failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    while len(acknowledged) < 50:
        time.sleep(0.01)
    server.stop()
    writer.join()
    assert not server.status().running
    assert server.crash() is None
    store.close()
    again = connect(server.start(), "stopped", timeout_ms=20_000)
    assert {raw["_id"] for raw in again.rounds.find()} >= set(acknowledged)
    again.close()


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
def test_a_disk_too_small_to_start_on(require: Callable[[str], None], tmp_path: Path, size: str) -> None:
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


def test_a_disk_that_fills_up(require: Callable[[str], None], tmp_path: Path) -> None:
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


def test_long_paths_are_no_obstacle(tmp_path: Path, server: PrivateMongod) -> None:
    deep = tmp_path / ("a name with blanks " * 6) / ("x" * 150)
    deep.mkdir(parents=True)
    deep_server = PrivateMongod(deep)
    try:
        assert deep_server.start()
    finally:
        kill(deep_server)


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


def test_a_lock_that_is_never_given_back_is_an_error(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with file_lock(lock, 1.0), pytest.raises(GodeltaError, match="too long"), file_lock(lock, 0.1):
        pass
    with file_lock(lock, 0.1):
        pass


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


def test_a_watch_does_not_undo_a_stop_that_is_under_way(server: PrivateMongod) -> None:
    server.start()
    record = ServerRecord.read(server.record_file)
    assert record is not None
    with file_lock(server.home / "lock", 10.0):  # as `stop` holds it
        kill(server)
        assert was_killed(server), "so it looks until the stop has noted itself"
        watch = threading.Thread(target=server.start, args=(lambda: was_killed(server),))
        watch.start()
        record.stopped().write(server.record_file)
    watch.join()
    assert not server.status().running
    server.start(lambda: was_killed(server))
    assert not server.status().running
    server.start()
    kill(server)
    server.start(lambda: was_killed(server))
    assert server.status().running


def test_a_kill_right_after_the_first_start_finds_all_tables_in_a_checkpoint(server: PrivateMongod) -> None:
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
