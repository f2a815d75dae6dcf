"""Whether a round's workflow in the LaunchPad can still go on by itself."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

from godelta.store import workers
from godelta.store.database import Store
from godelta.store.workers import BatchLives

if TYPE_CHECKING:
    from fireworks import LaunchPad

STUCK_AFTER = timedelta(seconds=20)  # a job that ends makes its children ready within a second
STOP_MARK = "StopRequestedError"
# The database was away for longer than a worker waits: nobody's mistake, and over by now.
OUTAGE_MARKS = tuple(
    f"pymongo.errors.{name}"
    for name in ("AutoReconnect", "NetworkTimeout", "NotPrimaryError", "ServerSelectionTimeoutError")
)


class Health(Enum):
    """What is to be done about a workflow."""

    WELL = "well"  # leave it alone
    STOPPED = "stopped"  # a job was asked to stop, or the campaign was paused or changed: plan it anew
    LOST = "lost"  # a worker is gone, or the queue is stuck: plan it anew
    FAILED = "failed"  # a job raised an error: plan it anew, a few times


@dataclass(frozen=True)
class Verdict:
    """A workflow's health, and the error's message if there was one."""

    health: Health
    reason: str = ""


def judge(
    store: Store,
    launchpad: "LaunchPad",
    workflow: dict[str, Any],
    batch_lives: BatchLives | None = None,
    categories: Collection[str] | None = None,
    stuck_after: timedelta | None = None,
) -> Verdict:
    """Judge a workflow of a round that is not closed.

    Parameters
    ----------
    batch_lives
        Asked of the batch job of a silent worker on another host.
    categories
        What the campaign's jobs may be now; jobs of others that nobody has taken wait for machines that
        nobody will ask for.
    stuck_after
        How long nothing may have happened where nothing can go on [default: `STUCK_AFTER`].
    """
    nodes = workflow["nodes"]
    wanted = {"state": 1, "launches": 1, "fw_id": 1, "updated_on": 1, "spec._category": 1}
    fireworks = list(launchpad.fireworks.find({"fw_id": {"$in": nodes}}, wanted))
    states = {firework["state"] for firework in fireworks}
    before = store.now() - (STUCK_AFTER if stuck_after is None else stuck_after)
    quiet = _time(workflow["updated_on"]) < before
    taken = [firework for firework in fireworks if firework["state"] in ("RUNNING", "RESERVED")]
    given_up = before if quiet else None
    if any(_worker_gone(store, launchpad, firework, given_up, batch_lives) for firework in taken):
        return Verdict(Health.LOST, "its worker is gone")
    if taken and "ARCHIVED" not in states:
        return Verdict(Health.WELL)
    if "FIZZLED" in states:
        return _verdict_of_error(launchpad, fireworks)
    if (changed := _changed(fireworks, states, categories)) is not None:
        return changed
    if quiet and (len(fireworks) < len(nodes) or "READY" not in states):
        return Verdict(Health.LOST, "its jobs wait for nothing")
    return Verdict(Health.WELL)


def _changed(
    fireworks: list[dict[str, Any]], states: set[str], categories: Collection[str] | None
) -> Verdict | None:
    """What somebody did to the campaign while its jobs waited."""
    if "ARCHIVED" in states:
        return Verdict(Health.STOPPED, "its jobs were taken off the queue")
    if categories is None:
        return None
    ready = {firework["spec"].get("_category") for firework in fireworks if firework["state"] == "READY"}
    if ready <= set(categories):
        return None
    return Verdict(Health.STOPPED, "its jobs wait for machines that the campaign no longer asks for")


def _worker_gone(
    store: Store,
    launchpad: "LaunchPad",
    firework: dict[str, Any],
    before: datetime | None,
    batch_lives: BatchLives | None,
) -> bool:
    """Whether the worker that took a job is gone; `before`: what is older has been given up (None: nothing).

    A worker that is killed while it takes a job or reports its end leaves the job taken, without a launch
    that goes on.
    """
    launches = list(
        launchpad.launches.find(
            {"launch_id": {"$in": firework["launches"]}}, {"fworker.name": 1, "state": 1, "time_end": 1}
        )
    )
    going_on = [launch for launch in launches if launch["state"] in ("RUNNING", "RESERVED")]
    if going_on:
        last = going_on[-1]
        return last["state"] == "RUNNING" and workers.is_gone(store, last["fworker"]["name"], batch_lives)
    times = [firework.get("updated_on"), *(launch.get("time_end") for launch in launches)]
    return before is not None and all(_time(time) < before for time in times if time)


def _time(value: datetime | str) -> datetime:
    """A time as FireWorks writes it: UTC, as a date or as text."""
    time = datetime.fromisoformat(value) if isinstance(value, str) else value
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _verdict_of_error(launchpad: "LaunchPad", fireworks: list[dict[str, Any]]) -> Verdict:
    ids = [i for firework in fireworks if firework["state"] == "FIZZLED" for i in firework["launches"]]
    traces = [
        _trace(launch)
        for launch in launchpad.launches.find({"launch_id": {"$in": ids}, "state": "FIZZLED"}, {"action": 1})
    ]
    errors = [trace for trace in traces if STOP_MARK not in trace]
    if not errors:
        return Verdict(Health.STOPPED)
    if all(_message(trace).startswith(OUTAGE_MARKS) for trace in errors):
        return Verdict(Health.LOST, "the database was away for too long")
    return Verdict(Health.FAILED, _message(errors[-1]) or "a job ended without a word")


def _message(trace: str) -> str:
    """The error at the end of a traceback: its last line that is not indented, and what follows it."""
    lines = [line for line in trace.splitlines() if line.strip()]
    starts = [number for number, line in enumerate(lines) if not line[0].isspace()]
    return "\n".join(lines[starts[-1] :]) if starts else ""


def _trace(launch: dict[str, Any]) -> str:
    stored = (launch.get("action") or {}).get("stored_data") or {}
    return str(stored.get("_exception", {}).get("_stacktrace", ""))
