"""The process of one evaluation: reads job.json, runs the engine, writes result.json.

`python -m godelta.reference.child SCRATCH`; started by godelta.reference.guard.
"""

import faulthandler
import hashlib
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from godelta.reference.engine import EngineError, EngineResult, Task, message_of

JOB = "job.json"
RESULT = "result.json"

ENGINE_MODULES = {
    "xtb": "xtb",
    "emt": "emt",
    "ase": "ase_calculator",
    "gpaw": "gpaw",
    "espresso": "espresso",
    "vasp": "vasp",
}

# The command prefix launches their program, and not this process.
OWN_PROGRAM = frozenset({"espresso", "vasp"})

# Set by `main` for the engine: a command prefix has launched this process, possibly in many ranks.
LAUNCHED = "GODELTA_LAUNCHED"

# Where launchers tell a process its rank; only the first rank writes.
RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID")


def main(scratch: Path, *, launched: bool = False) -> None:
    """Evaluate the job in `scratch`; `launched` by a command prefix, possibly in many ranks."""
    faulthandler.enable()
    started = time.monotonic()
    text = (scratch / JOB).read_bytes()
    job = json.loads(text)
    if launched:
        os.environ[LAUNCHED] = "1"
    known = set(sys.path)
    sys.path.extend(entry for entry in job["python_path"] if entry not in known)
    outcome = _evaluate(Task.from_json(job["task"], job.get("launcher", ())))
    if not launched or _rank() == 0:
        outcome["task_sha256"] = task_digest(job["task"])
        outcome["wall_s"] = time.monotonic() - started
        write_json(scratch / RESULT, outcome)


def task_digest(task: dict[str, Any]) -> str:
    """What ties a result to its task: SHA-256 of the task's canonical JSON."""
    return hashlib.sha256(json.dumps(task, sort_keys=True).encode()).hexdigest()


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write a file that is either there in full or not at all, also after a crash of the machine."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w") as stream:
        json.dump(data, stream)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def _evaluate(task: Task) -> dict[str, Any]:
    module = ENGINE_MODULES[task.settings["engine"]]
    try:
        engine = importlib.import_module(f"godelta.reference.{module}")
        result: EngineResult = engine.evaluate(task)
        return {
            "status": "ok",
            "energy": float(result.energy),
            "forces": result.forces.tolist(),
            "tried": list(result.tried),
        }
    except EngineError as error:
        return _failure(error.reason, error.message, error.tried)
    except MemoryError as error:
        return _failure("memory_limit", message_of(error))
    except Exception as error:  # noqa: BLE001  any failure of an engine becomes a document
        return _failure("engine_error", message_of(error))


def _failure(reason: str, message: str, tried: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"status": "failed", "reason": reason, "message": message, "tried": list(tried)}


def _rank() -> int:
    for name in RANK_VARIABLES:
        if name in os.environ:
            return int(os.environ[name])
    return 0


if __name__ == "__main__":
    main(Path(sys.argv[1]), launched=True)
