"""The private server: found, started once, stopped, and alive again after everything."""

import contextlib
import importlib.util
import json
import os
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
from godelta.store.mongod import PrivateMongod, find_mongod
from godelta.store.serverfile import (
    ServerRecord,
    birth_time,
    file_lock,
    log_tail,
    network_file_system,
    wait_for_end,
)

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


def test_failures_show_the_end_of_the_log(server: PrivateMongod) -> None:
    server.start()
    server.stop()
    (server.data / "WiredTiger.turtle").write_text("no such thing")
    (server.data / "WiredTiger").write_text("nor this")
    with pytest.raises(GodeltaError, match=r"(?i)did not start(.|\n)*wiredtiger"):
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


def test_a_damaged_record_is_explained(server: PrivateMongod) -> None:
    server.home.mkdir(parents=True)
    server.record_file.write_text("{")
    with pytest.raises(GodeltaError, match="cannot be read"):
        server.start()
    server.record_file.unlink()


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
