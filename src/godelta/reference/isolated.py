"""One evaluation in a process of its own: what goes in, what comes out.

custodian's Job and ErrorHandler were looked at: it looks at a running job every 10 s at best, has
neither wall nor memory limit, and ends the process alone, not its session; so this is our own.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ase import Atoms
from pydantic import BaseModel, ConfigDict, ValidationError

from godelta.arrays import FloatArray
from godelta.errors import GodeltaError
from godelta.redaction import redact
from godelta.reference.checks import Finding, Reason, check_after, check_before
from godelta.reference.child import JOB, OWN_PROGRAM, RESULT, task_digest
from godelta.reference.engine import Task
from godelta.reference.guard import LOG
from godelta.reference.process import Cost, Interrupted, run_guarded
from godelta.reference.settings import Limits, ReferenceSettings
from godelta.systems import SearchProblem

LOG_TAIL = 2000  # characters
LOGS = ("gpaw*.txt", "espresso*.pwo", "vasp*.out")  # of engines that do not print
PROBE_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of an evaluation, good or bad.

    energy in eV and forces (n, 3) in eV/Å are None unless status is "ok"; reason is None then.
    `adopted` marks a result that a former, killed attempt left in the scratch directory.
    """

    status: Literal["ok", "failed"]
    energy: float | None = None
    forces: FloatArray | None = None
    reason: Reason | None = None
    message: str = ""
    log_tail: str = ""
    tried: tuple[str, ...] = ()
    cost: Cost = field(default_factory=Cost)
    adopted: bool = False


class _Result(BaseModel):
    """What result.json has to look like."""

    model_config = ConfigDict(extra="forbid", strict=True)

    status: Literal["ok", "failed"]
    task_sha256: str
    wall_s: float
    tried: list[str]
    energy: float | None = None
    forces: list[Any] | None = None
    reason: Literal["not_converged", "engine_error", "memory_limit"] | None = None
    message: str = ""


def evaluate_isolated(
    atoms: Atoms,
    settings: ReferenceSettings,
    scratch: Path,
    *,
    former: Sequence[Path] = (),
    should_stop: Callable[[], bool] | None = None,
    deadline: float | None = None,
    problem: SearchProblem | None = None,
) -> Outcome:
    """Energy and forces of a structure at the reference level, in a process of its own.

    Parameters
    ----------
    atoms
        The structure, with cell and periodicity as the engine shall see them.
    settings
        The reference level and the limits.
    scratch
        Directory of this attempt, made if need be; all files of the engine are left in it.
    former
        Directories of former attempts. A valid result that a killed attempt left there, or in `scratch`, is
        adopted.
    should_stop
        Asked every 0.2 s.
    deadline
        POSIX time (as time.time()) at which the evaluation has to give way: reason "interrupted".
    problem
        Where given, the walls of its confinement are checked too.

    Returns
    -------
    Outcome
        Whatever happens to the engine is a failed outcome with a reason, never an exception.

    Raises
    ------
    GodeltaError
        `scratch` cannot be written.
    Interrupted
        `should_stop` returned True. This, KeyboardInterrupt and any other exception leave no process behind.
    """
    finding = check_before(atoms, settings.limits, problem)
    if finding is not None:
        return Outcome("failed", reason=finding.reason, message=finding.message)
    scratch = scratch.resolve()
    task = _task(atoms, settings).to_json()
    with _writing(scratch):
        scratch.mkdir(parents=True, exist_ok=True)
    for folder in (scratch, *former):
        kept = _read_result(folder, task)
        if isinstance(kept, _Result) and kept.status == "ok":
            return _outcome(kept, atoms, settings.limits, Cost(wall_s=kept.wall_s), "", adopted=True)
    with _writing(scratch):
        for name in (RESULT, LOG):
            (scratch / name).unlink(missing_ok=True)
        job = {"task": task, "python_path": _python_path()}
        limits = settings.limits
        if settings.engine in OWN_PROGRAM:
            job["launcher"] = list(limits.command_prefix)
            limits = limits.model_copy(update={"command_prefix": ()})
        (scratch / JOB).write_text(json.dumps(job))
    if should_stop is not None and should_stop():
        raise Interrupted
    end = run_guarded(scratch, limits, should_stop, deadline)
    log_tail = _log_tail(scratch)
    if end.finding is not None or not (scratch / RESULT).exists():
        _see_that_it_takes_files(scratch)
    if end.finding is not None:
        return Outcome(
            "failed",
            reason=end.finding.reason,
            message=end.finding.message,
            log_tail=log_tail,
            cost=end.cost,
        )
    result = _read_result(scratch, task)
    if isinstance(result, str):
        return Outcome("failed", reason="invalid_result", message=result, log_tail=log_tail, cost=end.cost)
    return _outcome(result, atoms, settings.limits, end.cost, log_tail)


@contextmanager
def _writing(scratch: Path) -> Iterator[None]:
    """Say where, and what to do, if the disk takes nothing: no fault of the structure."""
    try:
        yield
    except OSError as error:
        raise GodeltaError(
            f"the folder of a running evaluation cannot be written: {error.strerror or error}",
            where=str(scratch),
            mend="make room on this disk, and see that you may write there; then the same command goes on",
        ) from error


def _see_that_it_takes_files(scratch: Path) -> None:
    """An engine that fails on a full disk says nothing about the structure."""
    probe = scratch / "probe"
    with _writing(scratch):
        probe.write_bytes(bytes(PROBE_BYTES))
        probe.unlink()


def _task(atoms: Atoms, settings: ReferenceSettings) -> Task:
    return Task(
        numbers=np.asarray(atoms.numbers, dtype=np.int64),
        positions=np.asarray(atoms.positions, dtype=np.float64),
        cell=np.asarray(atoms.cell.array, dtype=np.float64),
        pbc=np.asarray(atoms.pbc, dtype=np.bool_),
        settings=settings.model_dump(mode="json", exclude={"limits"}),
    )


def _python_path() -> list[str]:
    """Our import path, so that a user's calculator is found by the child too."""
    return [str(Path(entry).resolve()) for entry in sys.path]


def _read_result(scratch: Path, task: dict[str, Any]) -> "_Result | str":
    """The result of this very task, or why there is none."""
    path = scratch / RESULT
    if not path.exists():
        return "the evaluation ended without a result"
    try:
        result = _Result.model_validate_json(path.read_bytes())
    except ValidationError as error:
        return f"{RESULT} is not valid: {error.errors()[0]['msg']}"
    if result.task_sha256 != task_digest(task):
        return f"{RESULT} belongs to another structure or reference"
    return result


def _outcome(
    result: _Result, atoms: Atoms, limits: Limits, cost: Cost, log_tail: str, *, adopted: bool = False
) -> Outcome:
    tried = tuple(result.tried)
    if result.status == "failed":
        message = redact(result.message)
        return Outcome("failed", None, None, result.reason, message, log_tail, tried, cost, adopted)
    try:
        energy = float("nan") if result.energy is None else result.energy
        forces = np.array(result.forces, dtype=np.float64)
    except (TypeError, ValueError) as error:
        finding: Finding | None = Finding("invalid_result", f"forces are no array: {error}")
    else:
        finding = check_after(energy, forces, atoms, limits)
    if finding is not None:
        return Outcome("failed", None, None, finding.reason, finding.message, log_tail, tried, cost, adopted)
    return Outcome("ok", energy, forces, None, "", log_tail, tried, cost, adopted)


def _log_tail(scratch: Path) -> str:
    """The end of the engine's own latest log, then that of what its processes printed."""
    own = (path for pattern in LOGS for path in scratch.glob(pattern))
    latest = sorted(own, key=lambda path: path.stat().st_mtime)[-1:]
    texts = [text for path in (*latest, scratch / LOG) if path.exists() and (text := _end_of(path))]
    return "\n".join(text[-LOG_TAIL // len(texts) :] for text in texts)


def _end_of(path: Path) -> str:
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - LOG_TAIL))
        return redact(stream.read().decode(errors="replace").strip())
