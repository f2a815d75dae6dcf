"""`godelta db`: the private database server."""

from pathlib import Path

from godelta import logs
from godelta.cli.console import console
from godelta.cli.workspace import open_or_make
from godelta.store.mongod import PrivateMongod
from godelta.store.workspace import Workspace


def start(folder: Path | None) -> None:
    """Start the server, or find it running."""
    workspace = open_or_make(folder)
    PrivateMongod(workspace.folder).start()
    show(folder)


def stop(folder: Path | None) -> None:
    """Stop the server."""
    workspace = Workspace.find(folder)
    logs.take_over(workspace.logs)
    PrivateMongod(workspace.folder).stop()
    console.print(f"The database of {workspace.folder} is stopped.")


def show(folder: Path | None) -> int:
    """Print whether the server runs; the exit code is 0 if it does."""
    workspace = Workspace.find(folder)
    state = PrivateMongod(workspace.folder).status()
    if state.running:
        console.print(f"The database of {workspace.folder} runs: pid {state.pid}, 127.0.0.1:{state.port}.")
        return 0
    console.print(f"The database of {workspace.folder} does not run; `godelta db start` starts it.")
    return 1
