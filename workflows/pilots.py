"""The folders of batch jobs: made when one is sent, gone when its worker left in order, kept where it failed.

A batch job that ends before its worker has signed on (its environment is broken, the database cannot be
reached from there) would be followed by the next one at once, all night long. So each further one of its
category waits twice as long as the last.
"""

import contextlib
import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from godelta.errors import GodeltaError
from godelta.store.workspace import Workspace

PILOTS = "pilots"  # in the workspace's state
SCRIPT = "FW_submit.script"
SENT = "job_id"
AT_WORK = "at_work"  # made by the worker once it has signed on
PAUSE_S = 60.0, 3600.0  # after the first batch job that failed so, and at most
TAIL = 1000  # characters


@dataclass(frozen=True)
class Stillborn:
    """Batch jobs of one category that ended before they took a job; the last one at `last`, POSIX time."""

    count: int
    last: float
    folder: Path

    @property
    def until(self) -> float:
        """When the next one may be sent, POSIX time."""
        return self.last + min(PAUSE_S[0] * 2.0 ** (self.count - 1), PAUSE_S[1])

    def error(self) -> GodeltaError:
        """What to tell, with the end of what the last one printed."""
        minutes = max(1, round((self.until - time.time()) / 60))
        printed = _tail(self.folder)
        return GodeltaError(
            f"{self.count} batch job{'s' * (self.count > 1)} ended before taking a job; the next one is"
            f" sent in {minutes} min{printed}",
            where=str(self.folder),
            mend="mend pre_rocket in the qadapter file of its class, then `godelta submit --launch` anew",
        )


def make_folder(workspace: Workspace, category: str) -> Path:
    """A new folder for a batch job of a category.

    Raises
    ------
    GodeltaError
        It cannot be made.
    """
    folder = workspace.state / PILOTS / f"{category}-{secrets.token_hex(6)}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise GodeltaError(
            f"the folder of a batch job cannot be made: {error.strerror}",
            where=str(folder.parent),
            mend="make room in the workspace, or lower your quota's use; then give the command again",
        ) from None
    return folder


def stillborn(workspace: Workspace, category: str, living: Collection[str], since: float) -> Stillborn | None:
    """The batch jobs of a category that ended without having worked; None where there are none.

    Parameters
    ----------
    living
        Ids of the batch jobs that wait or run.
    since
        POSIX time; those that were sent earlier do not count.
    """
    dead = []
    for folder in (workspace.state / PILOTS).glob(f"{category}-*"):
        if folder.name.rpartition("-")[0] != category or (folder / AT_WORK).exists():
            continue
        with contextlib.suppress(OSError):  # gone by now
            sent = folder / SENT
            if sent.stat().st_mtime > since and sent.read_text() not in living:
                dead.append((_last_change(folder), folder))
    if not dead:
        return None
    last, folder = max(dead)
    return Stillborn(len(dead), last, folder)


def note_sent(folder: Path, job_id: str) -> None:
    """Remember which batch job a folder is of; a full disk does not unsend it."""
    with contextlib.suppress(OSError):
        (folder / SENT).write_text(job_id)


def note_at_work(workspace: Workspace, folder: Path) -> None:
    """Tell that a worker has signed on from a batch job's folder; nothing for any other folder."""
    if is_pilots(workspace, folder):
        with contextlib.suppress(OSError):
            (folder / AT_WORK).touch()


def is_pilots(workspace: Workspace, folder: Path) -> bool:
    """Whether a folder is a batch job's."""
    return folder.parent == workspace.state / PILOTS


def remove_folder(folder: Path) -> None:
    """Remove the folder of a batch job that left nothing worth keeping; what it holds is in the log too."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            path.unlink(missing_ok=True)
        folder.rmdir()


def _last_change(folder: Path) -> float:
    return max(path.stat().st_mtime for path in folder.iterdir())


def _tail(folder: Path) -> str:
    outputs = sorted(folder.glob("*.out"))
    if not outputs:
        return ""
    lines = outputs[-1].read_text(errors="replace")[-TAIL:].strip().splitlines()[-5:]
    return ":\n" + "\n".join(f"    {line}" for line in lines)
