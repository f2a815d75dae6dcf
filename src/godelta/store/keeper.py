"""The keeper of a private server: a small process that stops the server when nobody uses it any more.

It knows clients by their TCP connections, so it needs neither a password nor a connection of its own,
and it counts the time while the machine is awake. Every decision falls under the lock of start and
stop: whoever starts the server a moment before, or after, finds it running.
"""

import fcntl
import json
import os
import select
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import psutil

from godelta import logs
from godelta.errors import GodeltaError
from godelta.store.serverfile import ServerRecord, file_lock, write_private

LOOK_SECONDS = 5.0
LOCK_SECONDS = 3600.0
LOG_BYTES = 100_000

_USE = "use.json"
_LOCK = "keeper.lock"


@dataclass(frozen=True, slots=True)
class Use:
    """The last start of a server: every one has a mark of its own, and says how long to wait."""

    mark: str
    idle_seconds: float | None

    @classmethod
    def read(cls, home: Path) -> "Use":
        """The last start; one that never ends where nothing can be read."""
        try:
            return cls(**json.loads((home / _USE).read_text()))
        except (OSError, ValueError, TypeError):
            return cls("", None)


def note_use(home: Path, idle_seconds: float | None) -> None:
    """Tell the keeper that the server is wanted from now on; to be called under the server's lock."""
    write_private(home / _USE, json.dumps({"mark": uuid.uuid4().hex, "idle_seconds": idle_seconds}))


def ensure_keeper(workspace: Path, home: Path) -> None:
    """Start a keeper unless one is there; to be called under the server's lock."""
    with (home / _LOCK).open("a") as lock:
        if not _take(lock):
            return
    log = home / "keeper.log"
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.unlink()
    with log.open("ab") as output:
        # It returns as soon as the keeper has detached itself.
        subprocess.run(
            [sys.executable, "-m", "godelta.store.keeper", str(workspace)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            check=False,
        )


def count_clients(pid: int, port: int, besides: int | None = None) -> int:
    """How many connections other processes have to a server; one that has ended has none.

    Parameters
    ----------
    pid, port
        The server.
    besides
        A process whose connections do not count.
    """
    established = _established(pid)
    # mongod also talks to itself.
    uncounted = {near for near, _ in established}
    if besides is not None:
        uncounted |= {near for near, _ in _established(besides)}
    return sum(near.port == port and far not in uncounted for near, far in established)


def _established(pid: int) -> list[tuple[Any, Any]]:
    """Both ends of a process's connections, its own first."""
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.NoSuchProcess:
        return []
    return [(item.laddr, item.raddr) for item in connections if item.status == psutil.CONN_ESTABLISHED]


def keep(workspace: Path, lock: IO[str]) -> None:
    """Watch over the server until it has ended, and end it when it has been idle for long enough.

    Parameters
    ----------
    workspace
        The server's workspace.
    lock
        What says that there is a keeper; closed at the end, while nobody can start a server.
    """
    home = workspace / ".godelta" / "db"
    last, idle_since = Use("", None), time.monotonic()
    while True:
        record = _living(home)
        if record is None:
            # Whoever is starting a server now believes in this keeper: wait for the outcome.
            with file_lock(home / "lock", LOCK_SECONDS):
                record = _living(home)
                if record is None:
                    lock.close()
                    return
        assert record.pid is not None
        use, now = Use.read(home), time.monotonic()
        if use != last or use.idle_seconds is None or count_clients(record.pid, record.port):
            last, idle_since = use, now
        elif now - idle_since >= use.idle_seconds:
            _stop(workspace, record, use)
            idle_since = now
        _wait(record.pid, min(LOOK_SECONDS, (use.idle_seconds or LOOK_SECONDS) / 4))


def _living(home: Path) -> ServerRecord | None:
    record = ServerRecord.read(home / "server.json")
    return record if record is not None and record.is_alive(home / "data") else None


def _stop(workspace: Path, record: ServerRecord, use: Use) -> None:
    from godelta.store.mongod import PrivateMongod  # pymongo: not before it is needed

    server = PrivateMongod(workspace)

    def still_unused() -> bool:
        assert record.pid is not None
        return Use.read(server.home) == use and count_clients(record.pid, record.port) == 0

    try:
        if server.stop(only_if=still_unused):
            _say(f"stopped the server (pid {record.pid}): no client for {use.idle_seconds:g} s")
    except GodeltaError as error:
        _say(str(error))


def _say(text: str) -> None:
    print(datetime.now(UTC).isoformat(timespec="seconds"), text, flush=True)  # noqa: T201 - its log


def _wait(pid: int, seconds: float) -> None:
    """Sleep, but not beyond the end of a process where the system can tell it."""
    if sys.platform == "linux":
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            descriptor = None
        if descriptor is not None:
            try:
                select.select([descriptor], [], [], seconds)
            finally:
                os.close(descriptor)
            return
    time.sleep(min(seconds, 1.0))


def _take(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def main(workspace: Path) -> None:
    """Detach from the process that asked for a keeper, and keep."""
    lock = (workspace / ".godelta" / "db" / _LOCK).open("a")
    if not _take(lock):
        return
    # The lock goes to the child as well: it is held without a gap.
    if os.fork():
        os._exit(0)
    os.chdir("/")
    logs.write_to(workspace / ".godelta" / "logs")
    try:
        keep(workspace, lock)
    except (FileNotFoundError, GodeltaError) as error:  # the workspace is gone, or unreadable
        _say(str(error))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
