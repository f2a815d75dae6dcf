"""How commands that take a while end when they are stopped."""

import errno
import io
import signal
from collections.abc import Iterator

import pytest
from rich.console import Console

from godelta.cli import longwork
from godelta.cli.longwork import interruptible


@pytest.fixture(autouse=True)
def same_signals() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def out(monkeypatch) -> io.StringIO:
    """What is printed; other tests may have left the console with a file of theirs."""
    printed = io.StringIO()
    monkeypatch.setattr(longwork, "console", Console(file=printed, width=200))
    return printed


def stopped(error: Exception | None) -> list[bool]:
    """Be interrupted, with an error while things are put away."""
    with interruptible("what was done is kept") as interrupted:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            if error is not None:
                raise error
    return interrupted


def test_a_signal_ends_the_work_with_a_line(out):
    assert stopped(None) == [True]
    assert out.getvalue() == "Stopped; what was done is kept.\n"


def test_what_could_not_be_put_away_is_told(out):
    assert stopped(OSError(errno.ENOSPC, "No space left on device")) == [True]
    assert "Stopped; what was done is kept." in out.getvalue()
    assert "While things were put away: [Errno 28] No space left on device" in out.getvalue()


def test_what_the_interruption_itself_breaks_is_not_told(out):
    assert stopped(ValueError("Can't close the ZIP file while a handle is open")) == [True]
    assert "ZIP" not in out.getvalue()


def test_other_errors_are_not_swallowed():
    with pytest.raises(OSError, match="no space"), interruptible("what was done is kept"):
        raise OSError("no space")
