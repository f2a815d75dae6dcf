"""`godelta export` and `godelta import`."""

from datetime import UTC, datetime
from pathlib import Path

from rich.markup import escape

from godelta.cli.console import console
from godelta.cli.longwork import bar, interruptible
from godelta.cli.workspace import open_existing, open_or_make
from godelta.store.backup import Manifest
from godelta.store.campaigns import get_campaign
from godelta.store.transfer import Imported, export_campaign, import_campaign


def write_export(name: str, target: Path | None, folder: Path | None, *, features: bool) -> int:
    """Write a campaign to a file; the exit code."""
    workspace = open_existing(folder)
    own_server = workspace.settings().database.is_private
    with interruptible("nothing was written") as interrupted:
        store = workspace.connect(start=True)
        campaign = get_campaign(store, name)
        path = target or Path(f"{campaign.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}.zip")
        with bar("Exporting") as report:
            manifest = export_campaign(
                store, name, path, features=features, report=report, own_server=own_server
            )
        store.close()
        console.print(f"Wrote {path}: {_counts(manifest)}.", markup=False, soft_wrap=True)
        if campaign.state == "running":
            console.print("The campaign is running: the file holds what there was at this moment.")
    return 130 if interrupted else 0


def read_export(source: Path, folder: Path | None, *, name: str | None) -> int:
    """Take a campaign in from a file; the exit code."""
    workspace = open_or_make(folder)
    with interruptible("the same command finishes it") as interrupted:
        store = workspace.connect(start=True)
        with bar("Importing") as report:
            imported = import_campaign(store, source, name=name, report=report)
        store.close()
        _tell(imported)
    return 130 if interrupted else 0


def _tell(imported: Imported) -> None:
    campaign = imported.campaign
    if imported.here:
        console.print(
            f"{escape(campaign.name)} is in this database already ({campaign.state}); nothing was changed."
        )
        return
    console.print(
        f"Imported {campaign.name} ({campaign.state}): {_counts(imported.manifest)}.",
        markup=False,
        soft_wrap=True,
    )
    if imported.kept:
        console.print(f"{imported.kept} of the evaluations were here already, and stay as they were.")


def _counts(manifest: Manifest) -> str:
    parts = {name: part.count for name, part in manifest.collections.items()}
    names = ("rounds", "structures", "evaluations", "models")
    return ", ".join(f"{parts[name]} {name}" for name in names)
