"""The private server: found, started once, stopped, and alive again after everything."""

import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from pymongo.errors import PyMongoError

from godelta.errors import GodeltaError
from godelta.store.database import connect
from godelta.store.mongod import PrivateMongod
from godelta.store.mongod_binary import find_mongod
from godelta.store.serverfile import ServerRecord, birth_time, file_lock
from godelta.store.watch import was_killed

Kill = Callable[[PrivateMongod], None]

START = """
import sys
from pathlib import Path
from godelta.store.mongod import PrivateMongod
print(PrivateMongod(Path(sys.argv[1])).start())
"""


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


def test_a_stale_pid_that_another_process_has_now_is_not_ours(server: PrivateMongod, kill: Kill) -> None:
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


def test_long_paths_are_no_obstacle(tmp_path: Path, server: PrivateMongod, kill: Kill) -> None:
    deep = tmp_path / ("a name with blanks " * 6) / ("x" * 150)
    deep.mkdir(parents=True)
    deep_server = PrivateMongod(deep)
    try:
        assert deep_server.start()
    finally:
        kill(deep_server)


def test_a_lock_that_is_never_given_back_is_an_error(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with file_lock(lock, 1.0), pytest.raises(GodeltaError, match="too long"), file_lock(lock, 0.1):
        pass
    with file_lock(lock, 0.1):
        pass


def test_a_watch_does_not_undo_a_stop_that_is_under_way(server: PrivateMongod, kill: Kill) -> None:
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
