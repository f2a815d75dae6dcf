"""The record of a private server's process, and the files around it."""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import psutil

from godelta.errors import GodeltaError

_NETWORK = ("nfs", "lustre", "gpfs", "beegfs", "cifs", "smb", "afs", "panfs", "ceph", "sshfs", "pvfs")


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """Which process serves a workspace: a pid means nothing without host, boot and start time.

    Parameters
    ----------
    port
        Loopback port, kept from start to start.
    host, boot_id
        The machine, and its boot; a host that was renamed without a reboot is still the same.
    pid, born
        Process id and its start time in the units of the system; None while it starts.
    started
        False after a clean stop: then any host may start it.
    """

    port: int
    host: str
    boot_id: str
    pid: int | None
    born: float | None
    started: bool

    @classmethod
    def starting(cls, port: int) -> Self:
        """A server about to be launched on this host."""
        return cls(port, socket.gethostname(), boot_id(), None, None, True)

    @classmethod
    def of_process(cls, port: int, pid: int) -> Self | None:
        """The record of a process of this host, None where it has ended."""
        born = birth_time(pid)
        return None if born is None else cls(port, socket.gethostname(), boot_id(), pid, born, True)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read a record; None where there is none.

        Raises
        ------
        GodeltaError
            Where the file is damaged.
        """
        try:
            record = cls(**json.loads(path.read_text()))
            record._check()
            return record
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise GodeltaError(
                "the record of the private database cannot be read",
                where=str(path),
                mend="make sure that no mongod of this workspace runs on any host, then delete the file",
            ) from error

    def _check(self) -> None:
        kinds = {"port": int, "host": str, "boot_id": str, "started": bool}
        right = all(isinstance(getattr(self, name), kind) for name, kind in kinds.items())
        optional = isinstance(self.pid, int | None) and isinstance(self.born, int | float | None)
        if not (right and optional and 0 < self.port < 65_536):
            raise ValueError("a value of the wrong kind")

    def write(self, path: Path) -> None:
        """Replace the record on disk atomically."""
        write_private(path, json.dumps(asdict(self)))

    def stopped(self) -> Self:
        """The record after a clean stop; it keeps the port."""
        return replace(self, pid=None, born=None, started=False)

    @property
    def is_here(self) -> bool:
        """Whether the record is of this machine."""
        return self.host == socket.gethostname() or self.boot_id == boot_id()

    def is_alive(self, data: Path) -> bool:
        """Whether the recorded process lives on this machine and serves the given data directory."""
        if self.pid is None or self.boot_id != boot_id() or birth_time(self.pid) != self.born:
            return False
        try:
            return str(data) in psutil.Process(self.pid).cmdline()
        except psutil.NoSuchProcess:
            return False


def boot_id() -> str:
    """An identifier that changes at each boot of this machine."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else f"{psutil.boot_time():.0f}"


def birth_time(pid: int) -> float | None:
    """Start time of a living process, None for an ended one and for a zombie.

    On Linux these are ticks since boot, which no change of the clock touches.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists():
            # Field 22; the name in field 2 may itself hold blanks and parentheses.
            return float(stat.read_text().rpartition(")")[2].split()[19])
        return process.create_time()
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return None


def wait_for_end(pid: int, seconds: float) -> bool:
    """Wait until a process has ended; whether it has. A zombie counts as ended: nobody may reap it."""
    deadline = time.monotonic() + seconds
    while birth_time(pid) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, completely or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def file_lock(path: Path, seconds: float) -> Iterator[None]:
    """Hold an exclusive lock on a file; it ends with the process that holds it.

    Raises
    ------
    GodeltaError
        Where another process holds it for longer than the given time.
    """
    deadline = time.monotonic() + seconds
    with path.open("a") as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise GodeltaError(
                        "another godelta process has been starting or stopping the database for too long",
                        where=str(path),
                        mend="wait for it, or end it: `ps -fu $USER` shows its process",
                    ) from None
                time.sleep(0.05)
        yield


def network_file_system(path: Path) -> str | None:
    """The kind of the network file system that holds a path, None on a local one."""
    real = path.resolve()
    best, kind = Path("/"), ""
    for partition in psutil.disk_partitions(all=True):
        mount = Path(partition.mountpoint)
        if real.is_relative_to(mount) and len(mount.parts) >= len(best.parts):
            best, kind = mount, partition.fstype
    return kind if any(name in kind.lower() for name in _NETWORK) else None
