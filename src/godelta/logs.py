"""The log of a workspace: JSON lines, each with its campaign, chain, round and job.

Every process writes files of its own. One shared file would need a lock for each line or each rotation, and
appending to one is not safe between the hosts of a network file system, where workers of a cluster share a
workspace. Files are never renamed: a process that has filled one opens the next, and removes the oldest ones
of the folder where these take too much room. Who reads merges them by time.

`logging` itself is used as ever: `log = logging.getLogger(__name__)`, `log.info(...)`. What a line belongs to
is said around the work, by `place`.
"""

import contextlib
import contextvars
import heapq
import json
import logging
import os
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, Self

from godelta.redaction import redact

FILE_BYTES = 2_000_000
FOLDER_BYTES = 50_000_000
FOLDER_FILES = 500
SUFFIX = ".jsonl"
ROOT = "godelta"  # the logger above those of all our modules

Event = Literal["begins", "ends"]  # of a campaign, so that who follows it knows when to leave


@dataclass(frozen=True, slots=True)
class Place:
    """What a line belongs to; None where it belongs to none. `round` counts from 0."""

    campaign: str | None = None
    campaign_id: str | None = None
    chain: int | None = None
    round: int | None = None
    job: str | None = None


_place: contextvars.ContextVar[Place] = contextvars.ContextVar("place", default=Place())  # noqa: B039 - it is frozen


@contextlib.contextmanager
def place(**changes: str | int | None) -> Iterator[Place]:
    """Say what the lines written within belong to; what is not named stays as it is around.

    A thread starts without a place, unless its function is `carried`.

    Parameters
    ----------
    **changes
        Fields of `Place`.
    """
    token = _place.set(replace(_place.get(), **changes))  # type: ignore[arg-type]
    try:
        yield _place.get()
    finally:
        _place.reset(token)


def carried(function: Callable[[], None]) -> Callable[[], None]:
    """The function as it runs in another thread, at the place where this one is now."""
    return partial(contextvars.copy_context().run, function)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log; `time` is in UTC, `event` marks the begin and the end of a campaign's run."""

    time: datetime
    level: str
    place: Place
    host: str
    pid: int
    logger: str
    message: str
    traceback: str | None = None
    event: Event | None = None

    @classmethod
    def of_record(cls, record: logging.LogRecord) -> Self:
        """What `logging` hands to a handler, at the place of the running thread."""
        trace = logging.Formatter().formatException(record.exc_info) if record.exc_info else None
        return cls(
            time=datetime.fromtimestamp(record.created, UTC),
            level=record.levelname,
            place=_place.get(),
            host=socket.gethostname(),
            pid=os.getpid(),
            logger=record.name,
            message=redact(record.getMessage()),
            traceback=trace and redact(trace),
            event=getattr(record, "event", None),
        )

    def to_json(self) -> str:
        """The line as it is written; every field of the place is in it."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        time = self.time.isoformat(timespec="microseconds").replace("+00:00", "Z")
        rest = {k: v for k, v in values.items() if k not in ("time", "place") and v is not None}
        return json.dumps({"time": time, **asdict(self.place), **rest}, ensure_ascii=False, default=str)

    @classmethod
    def from_json(cls, text: bytes) -> Self | None:
        """A line of a file; None where it is none of ours, or was torn by a full disk."""
        try:
            values = json.loads(text)
            where = Place(**{field.name: values.pop(field.name) for field in fields(Place)})
            return cls(time=datetime.fromisoformat(values.pop("time")), place=where, **values)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    @property
    def number(self) -> int:
        """The level as a number, as `logging` has it."""
        return logging.getLevelNamesMapping().get(self.level, logging.INFO)


class LogFolder(logging.Handler):
    """Writes lines into files of this process, as many as it takes; made with the first line.

    A log that cannot be written stops nobody's work: then the line is dropped.

    Parameters
    ----------
    folder
        Where the files lie; made if the one above it is there.
    file_bytes, folder_bytes, folder_files
        Size at which the next file is opened, and what all files of all processes may take.
    """

    def __init__(
        self,
        folder: Path,
        *,
        file_bytes: int = FILE_BYTES,
        folder_bytes: int = FOLDER_BYTES,
        folder_files: int = FOLDER_FILES,
    ) -> None:
        super().__init__()
        self.folder = folder
        self._limits = file_bytes, folder_bytes, folder_files
        self._file: int | None = None
        self._number = 0
        self._torn = False
        self._stem = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{re.sub('[^A-Za-z0-9.]', '_', socket.gethostname())}"

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; of other packages their warnings and errors only."""
        if record.levelno < logging.WARNING and record.name.partition(".")[0] != ROOT:
            return
        try:
            text = Line.of_record(record).to_json()
        except Exception:  # noqa: BLE001 - a message that does not fit its arguments
            self.handleError(record)
            return
        with contextlib.suppress(OSError):
            self._write(text.encode(errors="backslashreplace") + b"\n")

    def close(self) -> None:
        """Close the file; another line would open the next one."""
        with self.lock or contextlib.nullcontext():
            self._close_file()
        super().close()

    def _write(self, line: bytes) -> None:
        for _ in range(3):
            if self._file is None:
                self._file = self._open_next()
            start = b"\n" if self._torn else b""
            # One call, to the end of the file: lines of a forked child do not mix with ours.
            written = os.write(self._file, start + line)
            self._torn = written < len(start + line)
            state = os.fstat(self._file)
            if state.st_nlink and state.st_size < self._limits[0]:
                return
            self._close_file()
            if state.st_nlink:
                return
            # Somebody removed the file, to make room: the line goes into the next one.

    def _open_next(self) -> int:
        self.folder.mkdir(exist_ok=True)
        self._make_room()
        while True:
            self._number += 1
            path = self.folder / f"{self._stem}-{os.getpid()}-{self._number:05}{SUFFIX}"
            with contextlib.suppress(FileExistsError):
                return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o644)

    def _make_room(self) -> None:
        file_bytes, folder_bytes, folder_files = self._limits
        found = []
        for path in self.folder.glob(f"*{SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                state = path.stat()
                found.append((state.st_mtime, state.st_size, path))
        found.sort()
        size, count = sum(size for _, size, _ in found) + file_bytes, len(found) + 1
        for _, own, path in found:
            if size <= folder_bytes and count <= folder_files:
                return
            path.unlink(missing_ok=True)
            size, count = size - own, count - 1

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file, self._torn = None, False


def write_to(folder: Path) -> None:
    """Write the lines of godelta's modules into a folder; other packages' are left to the process's owner."""
    logger = logging.getLogger(ROOT)
    logger.setLevel(logging.DEBUG)
    _attach(logger, folder)


def take_over(folder: Path) -> None:
    """As `write_to`, for a process of our own: other packages' warnings go there too, and not to stderr."""
    logging.getLogger(ROOT).setLevel(logging.DEBUG)
    _attach(logging.getLogger(), folder)
    logging.captureWarnings(True)


def _attach(logger: logging.Logger, folder: Path) -> None:
    """Give the logger the folder's handler, in place of any other of its kind anywhere."""
    for known in (logging.getLogger(), logging.getLogger(ROOT)):
        for handler in [handler for handler in known.handlers if isinstance(handler, LogFolder)]:
            known.removeHandler(handler)
            handler.close()
    logger.addHandler(LogFolder(folder))


class Reader:
    """Reads a folder's lines, merged by time; every call goes on where the one before ended.

    Parameters
    ----------
    folder
        The folder that `LogFolder` writes to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._offsets: dict[Path, int] = {}

    def read(self, wanted: Callable[[Line], bool] = lambda _: True) -> list[Line]:
        """The lines that are new and wanted.

        Lines of one process stay in their order, whatever its clock did.
        """
        files = sorted(self.folder.glob(f"*{SUFFIX}"))
        processes = groupby(files, key=lambda path: path.name.rpartition("-")[0])
        streams = [
            [line for path in paths for line in self._lines(path) if wanted(line)] for _, paths in processes
        ]
        return list(heapq.merge(*streams, key=lambda line: line.time))

    def _lines(self, path: Path) -> Iterator[Line]:
        offset = self._offsets.get(path, 0)
        try:
            if path.stat().st_size <= offset:
                return
            with path.open("rb") as stream:
                stream.seek(offset)
                whole, end, _ = stream.read().rpartition(b"\n")
        except OSError:  # removed a moment ago, to make room
            return
        self._offsets[path] = offset + len(whole) + len(end)
        for text in whole.split(b"\n"):
            if (line := Line.from_json(text)) is not None:
                yield line


def event(name: Event) -> dict[str, Any]:
    """The `extra` of a log call that marks the begin or the end of a campaign's run."""
    return {"event": name}


# A process that says nothing about logs, such as a user's script, gets none.
logging.getLogger(ROOT).addHandler(logging.NullHandler())
