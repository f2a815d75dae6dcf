"""Engines whose program is one of its own: what they share, from a structure to the program's end."""

import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from godelta.arrays import BoolArray
from godelta.errors import InputError
from godelta.reference.engine import EngineError, Task

if TYPE_CHECKING:
    from ase import Atoms

SLAB = (True, True, False)


def run_program(task: Task, command: str, output: Path, arguments: Sequence[str] = ()) -> int:
    """Run an engine's program in the working directory, below the task's launcher; its exit code.

    Its standard output goes to `output`, its standard error to that of this process. A signal that ends it
    ends this process in the same way, so that whoever watches sees a crash, or that it was killed.

    Raises
    ------
    EngineError
        It cannot be started.
    """
    line = [*task.launcher, *shlex.split(command), *arguments]
    try:
        with output.open("wb") as stream:
            code = subprocess.call(line, stdin=subprocess.DEVNULL, stdout=stream)
    except OSError as error:
        raise EngineError("engine_error", f"{line[0]} cannot be started: {error.strerror}") from error
    number = -code if code < 0 else code - 128
    if number in {int(known) for known in signal.Signals}:
        name = signal.Signals(number).name
        sys.stderr.write(f"{line[0]} was ended by {name}\n")
        sys.stderr.flush()
        sys.exit(128 + number)
    return code


def atoms_of(task: Task, moments: Mapping[str, float]) -> "Atoms":
    """The structure with initial magnetic moments by element.

    Raises
    ------
    EngineError
        It has no cell, which plane waves need.
    """
    from ase import Atoms

    atoms = Atoms(numbers=task.numbers, positions=task.positions, cell=task.cell, pbc=task.pbc)
    if atoms.cell.rank < 3:
        raise EngineError("engine_error", "plane waves need a cell, and the structure has none")
    if moments:
        atoms.set_initial_magnetic_moments([moments.get(symbol, 0.0) for symbol in atoms.symbols])
    return atoms


def kpoint_grid(atoms: "Atoms", settings: Mapping[str, Any]) -> tuple[int, int, int]:
    """The settings' grid, or that of their density: one point along directions that are not periodic."""
    from ase.calculators.calculator import kptdensity2monkhorstpack

    if settings["kpoints"] is not None:
        given = settings["kpoints"]
        return (int(given[0]), int(given[1]), int(given[2]))
    found = kptdensity2monkhorstpack(atoms, settings["kpoint_density"], even=False)
    return (int(found[0]), int(found[1]), int(found[2]))


def is_slab(pbc: BoolArray) -> bool:
    """Whether a structure is periodic in x and y alone."""
    return tuple(map(bool, pbc)) == SLAB


def vacuum_middle(atoms: "Atoms") -> float:
    """The middle of the widest gap between atoms along the third cell vector, as a part of it, 0 to 1."""
    heights = np.sort(atoms.get_scaled_positions(wrap=False)[:, 2] % 1.0)
    gaps = np.diff(np.append(heights, heights[0] + 1.0))
    widest = int(gaps.argmax())
    return float((heights[widest] + gaps[widest] / 2.0) % 1.0)


def find_program(command: str, mend: str) -> str:
    """The path of an engine's program.

    Raises
    ------
    InputError
        It is not found; `mend` says where it comes from.
    """
    word = shlex.split(command)[0]
    path = shutil.which(word)
    if path is None:
        raise InputError(f"the program {word} is not found", where="reference.command", mend=mend)
    return path


def folder_of(given: str | None, variable: str) -> Path | None:
    """The folder that settings name, or else the environment; None where neither does."""
    name = given or os.environ.get(variable)
    return None if not name else Path(name).expanduser()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read again only when it has changed."""
    status = path.stat()
    return _sha256(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=256)
def _sha256(path: Path, changed: int, size: int) -> str:  # noqa: ARG001  the latter two tell a changed file
    return hashlib.sha256(path.read_bytes()).hexdigest()
