"""`godelta worker`."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from godelta.store.workspace import Workspace
from godelta.workflows.worker import WorkerOptions, work


def run_worker(
    folder: Path | None,
    category: Sequence[str],
    until: str | None,
    idle: float | None,
    die_with_parent: bool,
) -> None:
    """Take jobs until told to stop."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    workspace = Workspace.find(folder)
    workspace.prepare()
    options = WorkerOptions(tuple(category), until, idle, die_with_parent)
    done = work(workspace, options)
    logging.getLogger("godelta").info("done: %d jobs", done)
