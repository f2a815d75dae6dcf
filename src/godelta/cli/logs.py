"""`godelta logs`: what the processes of a workspace have said, merged, in local time."""

import logging
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.text import Text

from godelta.cli.console import console
from godelta.errors import InputError
from godelta.logs import Line, Reader
from godelta.store.documents import chain_title
from godelta.store.workspace import Workspace

Level = Literal["debug", "info", "warning", "error"]

POLL_S = 0.3
LOWEST = {"debug": 10, "info": 20, "warning": 30, "error": 40}
STYLES = {"DEBUG": "dim", "WARNING": "yellow", "ERROR": "bold red", "CRITICAL": "bold red"}


def print_logs(name: str | None, folder: Path | None, *, follow: bool, level: Level, lines: int) -> int:
    """Print the last lines of a campaign, or of the whole workspace; the exit code.

    The database is not asked: it may be down, and the reason be in here.

    Raises
    ------
    InputError
        There is no workspace, or no line of this campaign in it.
    """
    reader = Reader(Workspace.existing(folder).logs)
    names: set[str] = set()

    def wanted(line: Line) -> bool:
        where = line.place
        if where.campaign is not None:
            names.add(where.campaign)
        return name is None or name in (where.campaign, where.campaign_id)

    found = reader.read(wanted)
    if name is not None and not found:
        raise InputError(
            f"the logs hold no line of a campaign {name!r}",
            where=str(reader.folder),
            mend=f"they hold lines of: {', '.join(sorted(names))}"
            if names
            else "no campaign was run here yet",
        )
    shown = (line for line in found if line.number >= LOWEST[level])
    _print(deque(shown, maxlen=lines), of_all=name is None)
    ended = _ended(found, before=False)
    try:
        while follow and not (ended and name):
            time.sleep(POLL_S)
            found = reader.read(wanted)
            _print((line for line in found if line.number >= LOWEST[level]), of_all=name is None)
            ended = _ended(found, before=ended)
    except KeyboardInterrupt:
        return 130
    return 0


def _ended(lines: Iterable[Line], *, before: bool) -> bool:
    """Whether the campaign's run is over, after these lines."""
    for line in lines:
        if line.event is not None:
            before = line.event == "ends"
    return before


def _print(lines: Iterable[Line], *, of_all: bool) -> None:
    for line in lines:
        console.print(as_text(line, of_all=of_all), soft_wrap=True)


class Terminal(logging.Handler):
    """Shows lines on stderr, as `godelta logs` does."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._console = Console(stderr=True, highlight=False)

    def emit(self, record: logging.LogRecord) -> None:
        """Show a line."""
        self._console.print(as_text(Line.of_record(record), of_all=True), soft_wrap=True)


def as_text(line: Line, *, of_all: bool) -> Text:
    """A line for people: local time, level, where, what; `of_all` campaigns: with its name."""
    style = STYLES.get(line.level, "")
    where = line.place
    parts = [
        *([where.campaign or "-"] if of_all else []),
        *([] if where.chain is None else [chain_title(where.chain)]),
        *([] if where.round is None else [f"round {where.round}"]),
        *([where.job] if where.job else []),
    ]
    text = Text.assemble(
        (f"{line.time.astimezone():%Y-%m-%d %H:%M:%S} ", "dim"),
        (f"{line.level:<8}", style),
        (f"{' '.join(parts)}: " if parts else "", "cyan"),
        (line.message.replace("\n", "\n    "), style),
    )
    if line.traceback:
        text.append("\n    " + line.traceback.replace("\n", "\n    "), "dim")
    return text
