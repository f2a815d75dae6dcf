"""`godelta pause`, `resume` and `cancel`."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from godelta import logs
from godelta.cli.console import console
from godelta.cli.workspace import open_or_make
from godelta.errors import InputError
from godelta.store import campaigns
from godelta.store.database import Store
from godelta.store.documents import CampaignState
from godelta.workflows.launchpad import configure_engines, open_launchpad

if TYPE_CHECKING:
    from fireworks import LaunchPad

    from godelta.workflows.pausing import Changed

LEFT_UNDONE = 3  # exit code: nothing was changed, for want of an answer


def pause_campaigns(names: Sequence[str], folder: Path | None, *, every: bool) -> int:
    """Pause campaigns by name, or all that run; the exit code."""
    store, launchpad = _open(folder)
    from godelta.workflows.pausing import pause

    chosen = _chosen(store, names, ("running",), every=every)
    return _each(chosen, lambda name: pause(store, launchpad, name))


def resume_campaigns(names: Sequence[str], folder: Path | None, *, every: bool, reopen: bool) -> int:
    """Have campaigns go on by name, or all that are paused; the exit code."""
    store, launchpad = _open(folder)
    from godelta.workflows.batch import BatchWatch
    from godelta.workflows.pausing import resume

    if every and reopen:
        raise InputError("--reopen takes up campaigns that were cancelled", mend="name them, without --all")
    batch = BatchWatch(store)
    chosen = _chosen(store, names, ("paused",), every=every)
    return _each(chosen, lambda name: resume(store, launchpad, name, reopen=reopen, batch_lives=batch))


def cancel_campaigns(names: Sequence[str], folder: Path | None, *, every: bool, yes: bool) -> int:
    """Give campaigns up by name, or all that are not finished; the exit code."""
    store, launchpad = _open(folder)
    from godelta.workflows.batch import BatchWatch
    from godelta.workflows.pausing import CANCELLABLE, cancel

    batch = BatchWatch(store)
    chosen = _chosen(store, names, CANCELLABLE, every=every)
    if chosen and not yes and not _agreed(chosen):
        console.print("Nothing was changed.")
        return LEFT_UNDONE
    return _each(chosen, lambda name: cancel(store, launchpad, name, batch))


def _open(folder: Path | None) -> tuple[Store, "LaunchPad"]:
    workspace = open_or_make(folder)
    configure_engines(workspace, start=True)
    return workspace.connect(), open_launchpad(workspace)


def _chosen(store: Store, names: Sequence[str], states: Sequence[CampaignState], *, every: bool) -> list[str]:
    """The names of the campaigns that were asked for.

    Raises
    ------
    InputError
        None was, or there is none of a name: nothing has been changed then.
    """
    if bool(names) == every:
        raise InputError("which campaigns?", mend="give their names, or --all")
    if not every:
        return list(dict.fromkeys(campaigns.get_campaign(store, name).name for name in names))
    return [c.name for c in campaigns.list_campaigns(store) if c.state in states]


def _agreed(names: Sequence[str]) -> bool:
    if not sys.stdin.isatty():
        console.print("There is nobody to ask: give --yes.")
        return False
    from typer import confirm

    return confirm(f"Cancel {', '.join(names)}?")


def _each(names: Sequence[str], change: "Callable[[str], Changed]") -> int:
    if not names:
        console.print("There is no such campaign.")
    for name in names:
        with logs.place(campaign=name):
            console.print(escape(change(name).sentence), soft_wrap=True)
    return 0
