"""The workspace of a command, and its log: what this process has to say goes there from now on."""

from pathlib import Path

from godelta import logs
from godelta.store.workspace import Workspace


def open_existing(folder: Path | None) -> Workspace:
    """The workspace of a command that only looks.

    Raises
    ------
    InputError
        There is none.
    """
    workspace = Workspace.existing(folder)
    logs.take_over(workspace.logs)
    return workspace


def open_or_make(folder: Path | None) -> Workspace:
    """The workspace of a command that works.

    Raises
    ------
    GodeltaError
        It cannot be written.
    """
    workspace = Workspace.find(folder)
    workspace.prepare()
    logs.take_over(workspace.logs)
    return workspace
