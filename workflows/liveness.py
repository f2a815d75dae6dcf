"""Whether a worker process still exists: judged by host, pid and the time it started."""

import socket
from dataclasses import dataclass
from typing import Self

import psutil


@dataclass(frozen=True)
class WorkerName:
    """A worker's name in the LaunchPad: host, process id and the process's start time (s)."""

    host: str
    pid: int
    started: float

    @classmethod
    def own(cls) -> Self:
        """The name of this process."""
        process = psutil.Process()
        return cls(socket.gethostname(), process.pid, process.create_time())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `str` of a name; what is none belongs to no host, so that it is never called gone."""
        host, _, rest = text.rpartition("/")
        pid, _, started = rest.partition("@")
        try:
            return cls(host, int(pid), float(started))
        except ValueError:
            return cls("", 0, 0.0)

    def __str__(self) -> str:
        return f"{self.host}/{self.pid}@{self.started:.2f}"

    def gone(self) -> bool:
        """Whether the process has ended; False where it runs on another host and cannot be seen."""
        if self.host != socket.gethostname():
            return False
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 1.0
            return not same or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True
