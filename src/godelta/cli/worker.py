"""`godelta worker`."""

import logging
from collections.abc import Sequence
from pathlib import Path

from godelta import logs
from godelta.cli.logs import Terminal
from godelta.cli.workspace import open_or_make
from godelta.errors import GodeltaError
from godelta.store import campaigns
from godelta.workflows import slurm
from godelta.workflows.launchpad import configure_engines

log = logging.getLogger(__name__)


def run_worker(
    folder: Path | None,
    category: Sequence[str],
    campaign: str | None,
    idle: float | None,
    parent: int | None,
) -> None:
    """Take jobs until told to stop."""
    workspace = open_or_make(folder)
    if parent is None:  # started by hand: somebody looks
        logging.getLogger(logs.ROOT).addHandler(Terminal(logging.INFO))
    configure_engines(workspace, start=True)  # a private server that nobody used has stopped itself
    # FireWorks and jobflow read their configuration on import.
    from godelta.workflows.worker import WorkerOptions, work

    name = campaign_id = None
    if campaign is not None:
        document = campaigns.get_campaign(workspace.connect(), campaign)
        name, campaign_id = document.name, document.campaign_id
    with logs.place(campaign=name, campaign_id=campaign_id, job="worker"):
        log.info("begins; takes %s", ", ".join(category) or "every job")
        try:
            done = work(workspace, WorkerOptions(tuple(category), campaign_id, idle, parent, slurm.own_end()))
        except GodeltaError as error:
            log.error("ended by an error: %s", error)
            raise
        except Exception as error:
            log.exception("ended by an error: %s", error)
            raise
        log.info("ends; jobs done: %d", done)
