"""A server that nobody uses stops itself; one that somebody wants never does."""

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from godelta.store.database import connect
from godelta.store.keeper import Use, count_clients, note_use
from godelta.store.mongod import PrivateMongod
from godelta.store.serverfile import file_lock, wait_for_end

Make = Callable[[float | None], PrivateMongod]


@pytest.fixture
def make(require: Callable[[str], None], tmp_path: Path) -> Iterator[Make]:
    """A server of the test's workspace, idle after so many seconds."""
    require("mongod")
    yield lambda seconds: PrivateMongod(tmp_path, None if seconds is None else seconds / 60)
    for process in processes(tmp_path):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def processes(workspace: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(workspace) in word for word in process.info["cmdline"] or [])
    ]


def keepers(workspace: Path) -> list[int]:
    return [p.pid for p in processes(workspace) if "godelta.store.keeper" in p.info["cmdline"]]


def wait_until(true: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def stopped(server: PrivateMongod) -> Callable[[], bool]:
    return lambda: not server.status().running


def test_an_idle_server_stops_and_starts_again(make: Make, tmp_path: Path) -> None:
    server = make(1.0)
    uri = server.start()
    store = connect(uri, timeout_ms=5000)
    store.campaigns.insert_one({"name": "kept"})
    store.close()
    pid = server.status().pid
    assert keepers(tmp_path)
    assert wait_until(stopped(server))
    assert wait_until(lambda: not processes(tmp_path)), "the keeper goes with the server"
    assert server.crash() is None, "it was stopped, not killed"
    assert f"stopped the server (pid {pid}): no client for 1 s" in (server.home / "keeper.log").read_text()
    assert server.start() == uri
    again = connect(uri, timeout_ms=5000)
    assert again.campaigns.count_documents({"name": "kept"}) == 1
    again.close()


def test_a_client_keeps_it_up_even_in_silence(make: Make) -> None:
    server = make(0.5)
    uri = server.start()
    status = server.status()
    assert status.pid
    assert status.port
    with socket.create_connection(("127.0.0.1", status.port)):
        assert wait_until(lambda: count_clients(status.pid, status.port) == 1)
        assert not wait_until(stopped(server), 3.0)
        assert server.start() == uri
    assert wait_until(stopped(server))
    assert count_clients(status.pid, status.port) == 0


def test_it_never_stops_where_that_is_wanted(make: Make, tmp_path: Path) -> None:
    server = make(None)
    server.start()
    assert keepers(tmp_path) == []
    assert PrivateMongod(tmp_path, 0).idle_seconds is None
    # The settings of the last start hold, also for a keeper that is there already.
    make(1.5).start()
    assert len(keepers(tmp_path)) == 1
    make(None).start()
    assert not wait_until(stopped(server), 4.0)
    make(0.5).start()
    assert wait_until(stopped(server))


def test_a_keeper_that_was_killed_is_replaced_and_never_doubled(make: Make, tmp_path: Path) -> None:
    server = make(600.0)
    server.start()
    (first,) = keepers(tmp_path)
    server.start()
    assert keepers(tmp_path) == [first]
    os.kill(first, signal.SIGKILL)
    assert wait_for_end(first, 10)
    assert server.status().running
    server.start()
    (second,) = keepers(tmp_path)
    assert second != first


def test_the_keeper_ends_with_a_server_that_is_killed(make: Make, tmp_path: Path) -> None:
    server = make(600.0)
    server.start()
    (keeper,) = keepers(tmp_path)
    pid = server.status().pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    assert wait_for_end(keeper, 10)
    assert server.crash() is not None


def test_a_keeper_stays_for_the_server_that_is_started_meanwhile(make: Make, tmp_path: Path) -> None:
    server = make(600.0)
    server.start()
    (keeper,) = keepers(tmp_path)
    with file_lock(server.home / "lock", 10.0):  # as `start` holds it, while it starts another one
        server._shut_down(server.status().pid or 0)
        server._launch()
        server._prepare()
    assert not wait_for_end(keeper, 1.0)
    server.stop()
    assert wait_for_end(keeper, 10)


def test_a_start_while_the_keeper_makes_up_its_mind_wins(make: Make) -> None:
    server = make(1.0)
    server.start()
    with file_lock(server.home / "lock", 10.0):
        # Idle for long, the keeper wants to stop the server, and waits for the lock ...
        time.sleep(3.0)
        assert server.status().running
        note_use(server.home, 600.0)  # ... and this is what a `start` does when it gets it first
    assert not wait_until(stopped(server), 3.0)


def test_a_client_that_came_without_start_wins_as_well(make: Make) -> None:
    server = make(1.0)
    uri = server.start()
    with file_lock(server.home / "lock", 10.0):
        time.sleep(3.0)
        store = connect(uri, timeout_ms=5000)
    assert not wait_until(stopped(server), 3.0)
    store.campaigns.insert_one({"name": "kept"})
    store.close()
    assert wait_until(stopped(server))


@pytest.mark.slow
def test_starts_at_the_very_moment_of_the_stop_always_find_a_server(make: Make) -> None:
    idle = 2.0
    server = make(idle)
    failures: list[BaseException] = []

    def use(delay: float) -> None:
        time.sleep(delay)
        try:
            with connect(server.start(), timeout_ms=1000).db.client as client:
                client.admin.command("ping")
        except Exception as error:  # noqa: BLE001 - whatever it is, the test must tell
            failures.append(error)

    server.start()
    ends = 0
    for number in range(12):
        before = server.status().pid
        # Its looks come every half second: two clients at different moments around its decision.
        users = [threading.Thread(target=use, args=(idle + 0.1 * number - 0.3 + late,)) for late in (0, 0.15)]
        for user in users:
            user.start()
        for user in users:
            user.join()
        ends += server.status().pid != before
    assert failures == []
    assert ends > 0, "the moment was never met"


def test_what_cannot_be_read_stops_nothing(tmp_path: Path) -> None:
    assert Use.read(tmp_path).idle_seconds is None
    for text in ("", "{", "[]", '{"mark": 1}'):
        (tmp_path / "use.json").write_text(text)
        assert Use.read(tmp_path).idle_seconds is None
    note_use(tmp_path, 3.0)
    first = Use.read(tmp_path)
    note_use(tmp_path, 3.0)
    assert first.idle_seconds == 3.0
    assert Use.read(tmp_path) != first
