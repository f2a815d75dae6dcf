"""What commands that take a while show, and how they end when they are stopped."""

import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from godelta.cli.console import console
from godelta.errors import GodeltaError


@contextmanager
def interruptible(outcome: str) -> Iterator[list[bool]]:
    """Ctrl-C and SIGTERM end the work with a line; the list is no longer empty then."""
    interrupted: list[bool] = []
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield interrupted
    except BaseException as error:
        if not _is_interrupt(error):
            raise
        interrupted.append(True)
        _drop_quietly(error)
        console.print(f"Stopped; {outcome}.")
        # Such as a full disk; any other kind tells of the interruption itself.
        if isinstance(error, GodeltaError | OSError):
            console.print(f"While things were put away: {error}", markup=False)


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether it is Ctrl-C, or what went wrong while things were put away after it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _drop_quietly(error: BaseException) -> None:
    """Let go of what was at work; a file that was being begun may complain when it is."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        cause: BaseException | None = error
        while cause is not None:
            traceback.clear_frames(cause.__traceback__)
            cause = cause.__context__
    finally:
        sys.unraisablehook = hook


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that shows how much is done, of how much."""
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=None)
        yield _reporter(progress, task)


def _reporter(progress: Progress, task: TaskID) -> Callable[[int, int], None]:
    shown = [0.0]

    def report(done: int, total: int) -> None:
        if time.monotonic() - shown[0] > 0.1:
            shown[0] = time.monotonic()
            progress.update(task, completed=done, total=total)

    return report
