"""`godelta db`: the private database server, backups, and the way back."""

import time
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from godelta import logs
from godelta.cli.console import console
from godelta.cli.longwork import bar, interruptible
from godelta.cli.workspace import open_existing, open_or_make
from godelta.errors import GodeltaError, InputError
from godelta.store.backup import Manifest, backup, restore
from godelta.store.credentials import address_of
from godelta.store.database import connect
from godelta.store.workspace import DatabaseSettings, Workspace
from godelta.workflows.launchpad import forget_jobs

LEAVE_SECONDS = 5.0  # a client that has just ended takes a moment to be gone


def start(folder: Path | None) -> None:
    """Start the private server, or find it running."""
    workspace = open_or_make(folder)
    if workspace.settings().database.is_private:
        workspace.server().start()
    show(folder)


def stop(folder: Path | None) -> None:
    """Stop the server."""
    workspace = Workspace.find(folder)
    logs.take_over(workspace.logs)
    workspace.server().stop()
    console.print(f"The database of {workspace.folder} is stopped.")


def show(folder: Path | None) -> int:
    """Print whether the server runs; the exit code is 0 if it does."""
    workspace = Workspace.find(folder)
    if not workspace.settings().database.is_private:
        uri, name = workspace.database_uri(start=False)
        connect(uri, name, timeout_ms=10_000).close()
        console.print(
            f"The database of {workspace.folder} is on a server of your own, {address_of(uri)}; it answers."
        )
        return 0
    server = workspace.server()
    state = server.status()
    if state.running:
        console.print(f"The database of {workspace.folder} runs: pid {state.pid}, 127.0.0.1:{state.port}.")
        if server.idle_seconds is not None:
            console.print(f"It stops itself after {server.idle_seconds / 60:g} minutes without a client.")
        return 0
    console.print(f"The database of {workspace.folder} does not run; `godelta db start` starts it.")
    crash = server.crash()
    if crash is not None:
        console.print(f"It was not stopped, it ended by itself. {crash}", markup=False)
    return 1


def write_backup(target: Path | None, folder: Path | None) -> int:
    """Write a backup; the exit code."""
    workspace = open_existing(folder)
    settings = workspace.settings().database
    path = target or Path(f"{settings.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}.zip")
    with interruptible("nothing was written") as interrupted:
        store = workspace.connect(start=True)
        with bar("Backing up") as report:
            manifest = backup(store, path, report=report, own_server=settings.is_private)
        store.close()
        _tell(f"Wrote {path}", manifest)
    return 130 if interrupted else 0


def read_backup(source: Path, folder: Path | None, *, force: bool, name: str | None) -> int:
    """Bring a database back to a backup; the exit code."""
    workspace = open_or_make(folder)
    own = workspace.settings().database
    wanted = _name(name) if name else own.name
    with interruptible("the same command, with --force, does it again") as interrupted:
        uri, _ = workspace.database_uri(start=True)
        if force and own.is_private:
            _nobody_else(workspace)
        store = connect(uri, wanted, half_restored=True, older=True)
        with bar("Restoring") as report:
            manifest = restore(store, source, force=force, report=report)
        forget_jobs(store.db)
        store.close()
        _tell(f"Restored {source} into the database {wanted!r}", manifest)
        if wanted != own.name:
            console.print(f"To use it: `database: {{name: {wanted}}}` in godelta.yaml.", markup=False)
    return 130 if interrupted else 0


def _nobody_else(workspace: Workspace) -> None:
    deadline = time.monotonic() + LEAVE_SECONDS
    while workspace.server().clients():
        if time.monotonic() > deadline:
            raise GodeltaError(
                "other processes are at work on this database",
                where=str(workspace.folder),
                mend="stop every `godelta run` and `godelta worker`, then try again",
            )
        time.sleep(0.1)


def _name(name: str) -> str:
    try:
        return DatabaseSettings(name=name).name
    except ValidationError:
        raise InputError(
            f"{name!r} cannot be the name of a database", where="--name", mend="letters, digits, _ and - only"
        ) from None


def _tell(what: str, manifest: Manifest) -> None:
    parts = {name: part.count for name, part in manifest.collections.items()}
    console.print(
        f"{what}: {parts['campaigns']} campaigns, {parts['structures']} structures, "
        f"{parts['evaluations']} evaluations, {parts['models']} models "
        f"({manifest.created_at:%Y-%m-%d %H:%M} UTC, godelta {manifest.godelta}).",
        markup=False,
        soft_wrap=True,
    )
