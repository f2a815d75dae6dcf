"""Worker processes: their names, their signs of life, and whether one is gone.

On its own host a worker is judged by pid, start time and boot: a laptop that slept, or a worker too busy to
say a word, is not gone. On another host the batch system is asked for its job where that can be done; else
only its silence tells, by the server's clock.
"""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Self

import psutil

from godelta.store.database import Store
from godelta.store.serverfile import birth_time, boot_id

# Whether a job of the batch system lives; None where the batch system cannot tell.
BatchLives = Callable[[str], bool | None]

SILENT_AFTER = timedelta(minutes=10)  # a living worker gives a sign of life every few seconds


@dataclass(frozen=True)
class WorkerName:
    """What names a worker in the LaunchPad and in leases.

    Parameters
    ----------
    host, boot
        The machine, and its boot.
    pid, born
        Process id and start time in the units of the system.
    generation
        Raised when the worker gives up what it has taken, as after an outage of the database.
    """

    host: str
    boot: str
    pid: int
    born: float
    generation: int = 0

    @classmethod
    def own(cls) -> Self:
        """The name of this process."""
        pid = psutil.Process().pid
        return cls(socket.gethostname(), _short(boot_id()), pid, birth_time(pid) or 0.0)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read `str` of a name; None for any other text."""
        try:
            host, boot, rest = text.rsplit("/", 2)
            pid, _, rest = rest.partition("@")
            born, _, generation = rest.partition("#")
            return cls(host, boot, int(pid), float(born), int(generation))
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"{self.process}#{self.generation}"

    @property
    def process(self) -> str:
        """The name without the generation."""
        return f"{self.host}/{self.boot}/{self.pid}@{self.born:.2f}"

    def renewed(self) -> Self:
        """The name under which the worker goes on after it has given up what it took."""
        return replace(self, generation=self.generation + 1)

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.host == socket.gethostname()


def sign_on(
    store: Store,
    name: WorkerName,
    *,
    takes: Sequence[str] = (),
    campaign_id: str | None = None,
    batch_job: str | None = None,
) -> None:
    """Tell that a worker begins.

    Parameters
    ----------
    takes
        The categories of jobs that it takes; none means every one.
    campaign_id
        The campaign that it keeps to; None: it takes every campaign's jobs.
    batch_job
        Id of the batch system's job that it runs in.
    """
    entry = {
        "takes": list(takes),
        "campaign_id": campaign_id,
        "batch_job": batch_job,
        "host": name.host,
    }
    store.workers.update_one(
        {"name": name.process},
        {
            "$set": entry,
            "$max": {"generation": name.generation},
            "$currentDate": {"seen": True, "since": True},
        },
        upsert=True,
    )


def give_sign(store: Store, name: WorkerName) -> None:
    """Tell that a worker lives, and its generation."""
    store.workers.update_one(
        {"name": name.process},
        {"$max": {"generation": name.generation}, "$currentDate": {"seen": True}},
        upsert=True,
    )


def sign_off(store: Store, name: WorkerName) -> None:
    """Tell that a worker leaves: whatever it still seems to hold is free."""
    store.workers.delete_one({"name": name.process})


def is_gone(store: Store, text: str, batch_lives: BatchLives | None = None) -> bool:
    """Whether the worker of this name holds nothing any more; a name that is none of ours never is gone."""
    name = WorkerName.parse(text)
    if name is None:
        return False
    if name.is_here and not _lives_here(name):
        return True
    seen = store.workers.find_one({"name": name.process})
    if seen is None:
        return not name.is_here  # it signs on before it takes a job
    if seen["generation"] > name.generation:
        return True
    if name.is_here:
        return False
    lives = batch_lives(seen["batch_job"]) if batch_lives and seen.get("batch_job") else None
    return not lives if lives is not None else bool(store.now() - seen["seen"] > SILENT_AFTER)


def _lives_here(name: WorkerName) -> bool:
    born = birth_time(name.pid)
    return name.boot == _short(boot_id()) and born is not None and f"{born:.2f}" == f"{name.born:.2f}"


def _short(boot: str) -> str:
    return boot.replace("-", "")[:12]
