"""`godelta status`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.markup import escape

from godelta.cli.console import console, print_json, table
from godelta.cli.workspace import open_existing
from godelta.store import campaigns
from godelta.store.progress import Progress, snapshot


def show_status(name: str | None, folder: Path | None, output: str) -> None:
    """Print how far one campaign, or every one, is."""
    store = open_existing(folder).connect(start=True)
    found = campaigns.list_campaigns(store) if name is None else [campaigns.get_campaign(store, name)]
    progresses = [snapshot(store, document.campaign_id) for document in found]
    if output == "json":
        rows = [as_row(progress) for progress in progresses]
        print_json(rows if name is None else rows[0])
        return
    if not progresses:
        console.print("No campaign yet: `godelta run FILE` starts one.")
        return
    shown = table("campaign", "system", "state", "round", "evaluations", "failed", "best, eV", "spent, s")
    for progress in progresses:
        rounds = " ".join("-" if c.round is None else str(c.round + 1) for c in progress.chains)
        shown.add_row(
            progress.name,
            progress.formula,
            progress.state,
            f"{rounds} of {progress.rounds}",
            f"{progress.ok + progress.failed} of {progress.budget}",
            str(progress.failed),
            "-" if progress.best_energy is None else f"{progress.best_energy:.4f}",
            f"{progress.elapsed_s:.0f}",
        )
    console.print(shown)
    for progress in progresses:
        if progress.state == "failed":
            console.print(
                f"[red]{progress.name} failed:[/] {escape(progress.reason or 'no reason is known')}"
            )


def as_row(progress: Progress) -> dict[str, Any]:
    """The documented fields of `status --format json`."""
    return asdict(progress)
