"""FireWorks' LaunchPad and jobflow's job store, configured from a workspace."""

import contextlib
import json
import logging
import os
import socket
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pymongo import ASCENDING, DESCENDING
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from godelta.errors import GodeltaError
from godelta.store.workspace import Workspace

if TYPE_CHECKING:
    from fireworks import LaunchPad

ROUND_METADATA = "godelta"  # Workflow.metadata.godelta = "campaign_id/chain/k/epoch"
CAMPAIGN_FIELD = "godelta_campaign"  # in a Firework's spec, so that a worker can keep to one campaign
UNIQUE = "one_workflow_per_round_and_epoch"
OUTPUTS = "job_outputs"


def configure_engines(workspace: Workspace, *, start: bool = False) -> None:
    """Write FireWorks' and jobflow's configuration of a workspace, and point this process at it.

    Must run before fireworks or jobflow is imported: both read their configuration on import. The
    files hold the database's password, so only their owner can read them.
    """
    uri, name = workspace.database_uri(start=start)
    folder = workspace.state / "fw_config"
    _make_private(folder)
    launchpad = {
        "host": uri,
        "name": name,
        "uri_mode": True,
        "mongoclient_kwargs": {"serverSelectionTimeoutMS": 90_000, "w": "majority", "journal": True},
        "strm_lvl": "CRITICAL",
    }
    job_store = {
        "JOB_STORE": {
            "docs_store": {
                "type": "MongoStore",
                "host": uri,
                "database": name,
                "collection_name": OUTPUTS,
            }
        }
    }
    engine = {
        "PRINT_FW_JSON": False,
        "PING_TIME_SECS": 60,
        "RUN_EXPIRATION_SECS": 600,
        # Locks are held for milliseconds; one that lasts belongs to a worker that was killed.
        "WFLOCK_EXPIRATION_SECS": 15,
        "WFLOCK_EXPIRATION_KILL": True,
        # Errors are in the log of the workspace: on the terminal they would tear the live table.
        "STREAM_LOGLEVEL": "CRITICAL",
        "ROCKET_STREAM_LOGLEVEL": "CRITICAL",
        "SORT_FWS": "FIFO",
        "LAUNCHPAD_LOC": str(folder / "my_launchpad.yaml"),
        "FWORKER_LOC": str(folder / "my_fworker.yaml"),
    }
    worker = {"name": "by hand", "category": "", "query": "{}"}
    # JSON is YAML, and needs no package of its own.
    _write_private(folder / "my_launchpad.yaml", json.dumps(launchpad, indent=1))
    _write_private(folder / "jobflow.yaml", json.dumps(job_store, indent=1))
    _write_private(folder / "FW_config.yaml", json.dumps(engine, indent=1))
    _write_private(folder / "my_fworker.yaml", json.dumps(worker, indent=1))
    os.environ["FW_CONFIG_FILE"] = str(folder / "FW_config.yaml")
    os.environ["JOBFLOW_CONFIG_FILE"] = str(folder / "jobflow.yaml")
    os.environ.setdefault("TQDM_DISABLE", "1")
    # It sets the level of "jobflow" itself for every job, to say that one begins and ends.
    logging.getLogger("jobflow.core").setLevel(logging.WARNING)


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _write_private(path: Path, text: str) -> None:
    # Workers of many hosts share the folder, and a process number is unique on one host only.
    temporary = path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)  # of a process that was killed
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> GodeltaError:
    return GodeltaError(
        f"the workspace cannot be written: {error.strerror}",
        where=str(path),
        mend="make room on this disk, and see that you may write there; or take another --workspace",
    )


def open_launchpad(workspace: Workspace) -> "LaunchPad":
    """The workspace's LaunchPad, set up where it is new; never reset."""
    from godelta.workflows.checked import check_outputs

    uri, name = workspace.database_uri(start=False)
    check_outputs(uri, name, OUTPUTS)
    launchpad = _connect(uri, name)
    set_up(launchpad)
    _index_jobs(launchpad)  # where an older godelta has set it up
    return launchpad


def set_up(launchpad: "LaunchPad") -> None:
    """Make the LaunchPad's counters and indexes where it is new, or was lost; nothing else is touched."""
    if launchpad.fw_id_assigner.find_one({}) is None or UNIQUE not in launchpad.workflows.index_information():
        _set_up(launchpad)


def forget_jobs(database: Database[dict[str, Any]]) -> None:
    """Take all of godelta's jobs off the queue; the planner makes those anew that are needed."""
    ours = {f"metadata.{ROUND_METADATA}": {"$exists": True}}
    nodes = [node for raw in database["workflows"].find(ours, {"nodes": 1}) for node in raw["nodes"]]
    database["fireworks"].delete_many({"fw_id": {"$in": nodes}})
    database["workflows"].delete_many(ours)


@lru_cache(maxsize=4)
def _connect(uri: str, name: str) -> "LaunchPad":
    from godelta.workflows.checked import CheckedLaunchPad

    return CheckedLaunchPad(
        host=uri,
        name=name,
        uri_mode=True,
        strm_lvl="CRITICAL",
        mongoclient_kwargs={"serverSelectionTimeoutMS": 90_000, "w": "majority", "journal": True},
    )


def _highest(collection: Collection[dict[str, Any]], field: str) -> int:
    last = collection.find_one({}, {field: 1}, sort=[(field, DESCENDING)])
    return int(last[field]) if last else 0


def _set_up(launchpad: "LaunchPad") -> None:
    if launchpad.fw_id_assigner.find_one({}) is None:
        ids = {
            "next_fw_id": _highest(launchpad.fireworks, "fw_id") + 1,
            "next_launch_id": _highest(launchpad.launches, "launch_id") + 1,
        }
        with contextlib.suppress(DuplicateKeyError):  # another process was first
            launchpad.fw_id_assigner.insert_one({"_id": -1, **ids})
        launchpad.tuneup()
    launchpad.workflows.create_index(
        [(f"metadata.{ROUND_METADATA}", ASCENDING)],
        name=UNIQUE,
        unique=True,
        partialFilterExpression={f"metadata.{ROUND_METADATA}": {"$exists": True}},
    )
    _index_jobs(launchpad)
    # jobflow looks outputs up by uuid and index, and makes no such index itself (jobflow#627).
    launchpad.db[OUTPUTS].create_index([("uuid", ASCENDING), ("index", DESCENDING)])


def _index_jobs(launchpad: "LaunchPad") -> None:
    """Have jobs found by campaign, and by category as workers look for them, however long the queue is."""
    launchpad.fireworks.create_index([(f"spec.{CAMPAIGN_FIELD}", ASCENDING), ("state", ASCENDING)])
    by_category = [("state", ASCENDING), ("spec._category", ASCENDING)]
    launchpad.fireworks.create_index(
        [*by_category, ("spec._priority", DESCENDING), ("created_on", ASCENDING)]  # the order of FIFO
    )
