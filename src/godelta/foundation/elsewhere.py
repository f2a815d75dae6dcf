"""Foundations of other environments: another Python evaluates, and both use the same kept files."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from godelta.arrays import pack_arrays, unpack_arrays
from godelta.errors import GodeltaError, InputError
from godelta.foundation.kept import Report
from godelta.foundation.settings import FoundationSettings
from godelta.redaction import is_secret

JOB, STRUCTURES, RESULT, LOG = "job.json", "structures.npz", "result.json", "log"
PROGRESS = "godelta-progress"
GRACE_S = 20.0  # to save what is done
TAIL = 600  # characters of a log that a message shows


def evaluate_elsewhere(
    python: str, settings: FoundationSettings, folder: Path, structures: Mapping[str, Atoms], report: Report
) -> None:
    """Have another Python evaluate structures with a potential, and keep the results in the folder.

    Parameters
    ----------
    python
        Program of an environment with the same version of godelta.
    settings, folder, structures, report
        As for `evaluate_kept`.

    Raises
    ------
    InputError
        There is no such program, it has no godelta, or another version, or not the potential.
    GodeltaError
        The evaluation fails there.
    """
    from godelta import __version__

    with tempfile.TemporaryDirectory(prefix="godelta-") as name:
        place = Path(name)
        job = {
            "version": __version__,
            "settings": settings.model_dump(mode="json"),
            "folder": str(folder.absolute()),
        }
        (place / JOB).write_text(json.dumps(job))
        (place / STRUCTURES).write_bytes(_pack(structures))
        with (place / LOG).open("wb") as log, _started(python, place, log) as process:
            assert process.stdout is not None
            for line in process.stdout:
                word, *numbers = line.split()[:3] or [""]
                if word == PROGRESS:
                    report(int(numbers[0]), int(numbers[1]))
        _judge(python, settings, place, process.returncode)


@contextmanager
def _started(python: str, place: Path, log: Any) -> "Iterator[subprocess.Popen[str]]":
    # A potential has no business with the database.
    environment = {name: value for name, value in os.environ.items() if not is_secret(value)}
    command = [python, "-P", "-m", "godelta.foundation.child", str(place)]
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
    except OSError as error:
        raise InputError(
            f"cannot be started: {error.strerror}",
            where=f"--python {python}",
            mend="name the Python of an environment with godelta, e.g. ~/envs/sevennet/bin/python",
        ) from None
    try:
        yield process
        process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _judge(python: str, settings: FoundationSettings, place: Path, code: int) -> None:
    """Raise what went wrong there."""
    result: dict[str, Any] = {}
    if (place / RESULT).is_file():
        result = json.loads((place / RESULT).read_text())
    if result.get("done"):
        return
    if "what" in result:
        kind = InputError if result["input"] else GodeltaError
        where = f"{python}: {result['where']}" if result["where"] else python
        raise kind(result["what"], where=where, mend=result["mend"])
    told = (place / LOG).read_text(errors="replace").strip()
    if "No module named" in told and "godelta" in told:
        raise InputError(
            "this environment has no godelta, or one too old to evaluate for another",
            where=f"--python {python}",
            mend="install the version there that you use here",
        )
    raise GodeltaError(
        f"{settings.name} ended with exit code {code} there: {told[-TAIL:] or 'without a word'}",
        where=python,
        mend="see whether the foundation works in that environment: `godelta foundations`",
    )


def _pack(structures: Mapping[str, Atoms]) -> bytes:
    """Structures without constraints, which potentials do not look at."""
    given = list(structures.values())
    return pack_arrays(
        {
            "names": np.array(list(structures), dtype=np.str_),
            "sizes": np.array([len(atoms) for atoms in given], dtype=np.int64),
            "numbers": np.concatenate([atoms.numbers for atoms in given]),
            "positions": np.concatenate([atoms.positions for atoms in given]),
            "cells": np.array([atoms.cell.array for atoms in given]),
            "pbc": np.array([atoms.pbc for atoms in given]),
        }
    )


def unpack_structures(blob: bytes) -> dict[str, Atoms]:
    """Read the structures that were given to another Python."""
    arrays = unpack_arrays(blob)
    ends = np.cumsum(arrays["sizes"])[:-1]
    parts = zip(
        arrays["names"],
        np.split(arrays["numbers"], ends),
        np.split(arrays["positions"], ends),
        arrays["cells"],
        arrays["pbc"],
        strict=True,
    )
    return {str(name): Atoms(z, positions, cell=cell, pbc=pbc) for name, z, positions, cell, pbc in parts}


def tell(done: int, total: int) -> None:
    """Tell the process that waits how far this one is."""
    sys.__stdout__.write(f"{PROGRESS} {done} {total}\n")  # type: ignore[union-attr]
    sys.__stdout__.flush()  # type: ignore[union-attr]
