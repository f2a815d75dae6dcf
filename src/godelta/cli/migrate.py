"""`godelta migrate`."""

from datetime import UTC, datetime
from pathlib import Path

from godelta.cli.console import console
from godelta.cli.longwork import bar, interruptible
from godelta.cli.workspace import open_existing
from godelta.errors import GodeltaError
from godelta.store import migrations, workers
from godelta.store.backup import backup
from godelta.store.database import Store, connect
from godelta.store.documents import SCHEMA_VERSION


def migrate_database(folder: Path | None, *, target: Path | None, force: bool) -> int:
    """Bring the workspace's database to this godelta's schema; the exit code."""
    workspace = open_existing(folder)
    own_server = workspace.settings().database.is_private
    with interruptible("the same command goes on") as interrupted:
        uri, name = workspace.database_uri(start=True)
        store = connect(uri, name, older=True)
        version = migrations.version_of(store)
        if version < SCHEMA_VERSION and not force:
            _nobody_works(store)

        def write_backup() -> Path:
            path = target or _backup_path(workspace.folder, name, version)
            path.parent.mkdir(parents=True, exist_ok=True)
            with bar("Backing up") as report:
                backup(store, path, report=report, own_server=own_server)
            console.print(f"Backup: {path}", markup=False, soft_wrap=True)
            return path

        with bar("Migrating") as report:
            path = migrations.migrate(store, write_backup, report)
        store.close()
        if path is None:
            console.print(f"The database has schema version {SCHEMA_VERSION} already: nothing to do.")
        else:
            console.print(f"The database has schema version {SCHEMA_VERSION} now; it had {version}.")
    return 130 if interrupted else 0


def _backup_path(folder: Path, name: str, version: int) -> Path:
    return folder / "backups" / f"{name}-schema-{version}-{datetime.now(UTC):%Y%m%d-%H%M%S}.zip"


def _nobody_works(store: Store) -> None:
    """Refuse while workers live: an older one would go on writing as its own schema says."""
    names = [raw["name"] for raw in store.workers.find({}, {"name": 1})]
    living = [name for name in names if not workers.is_gone(store, f"{name}#0")]
    if living:
        raise GodeltaError(
            f"{len(living)} workers are at work on this database, the first one is {living[0]}",
            where=store.db.name,
            mend="stop every `godelta run` and `godelta worker`, then try again; --force if they are gone",
        )
