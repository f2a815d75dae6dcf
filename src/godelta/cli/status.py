"""`godelta status`."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.markup import escape

from godelta.cli.console import console, print_json, table
from godelta.cli.workspace import open_existing
from godelta.store import campaigns, evaluations
from godelta.store.database import Store
from godelta.store.documents import CampaignDocument
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
    if name is not None:
        _show_failures(store, found[0])


def _show_failures(store: Store, campaign: CampaignDocument) -> None:
    """Why evaluations failed, and which structures are no longer tried since they kill their workers."""
    failed = evaluations.failed_hashes(store, campaign.campaign_id, campaign.reference_hash)
    if not failed:
        return
    counted = Counter(failed.values()).most_common()
    console.print(f"failed evaluations: {', '.join(f'{reason} {count}' for reason, count in counted)}")
    quarantined = sorted(digest[:12] for digest, reason in failed.items() if reason == "lost")
    if quarantined:
        console.print(f"in quarantine, since every attempt was killed: {', '.join(quarantined)}")


def as_row(progress: Progress) -> dict[str, Any]:
    """The documented fields of `status --format json`."""
    return asdict(progress)
