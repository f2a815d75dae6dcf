"""`godelta worker`."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from godelta.store import campaigns
from godelta.store.workspace import Workspace
from godelta.workflows.worker import WorkerOptions, work


def run_worker(
    folder: Path | None,
    category: Sequence[str],
    campaign: str | None,
    idle: float | None,
    parent: int | None,
) -> None:
    """Take jobs until told to stop."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for noisy in ("launchpad", "rocket.launcher", "jobflow"):
        logging.getLogger(noisy).propagate = False  # FireWorks resets their levels again and again
    workspace = Workspace.find(folder)
    workspace.prepare()
    campaign_id = None
    if campaign is not None:
        campaign_id = campaigns.get_campaign(workspace.connect(start=True), campaign).campaign_id
    done = work(workspace, WorkerOptions(tuple(category), campaign_id, idle, parent))
    logging.getLogger("godelta").info("done: %d jobs", done)
