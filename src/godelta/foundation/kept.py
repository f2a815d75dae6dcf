"""Evaluations by foundation potentials outside of a campaign, kept in a folder: nothing is computed twice.

One file for each potential (settings and identity), which holds every structure evaluated with it.
"""

import json
import os
import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms
from filelock import FileLock
from pydantic import TypeAdapter

from godelta.arrays import FloatArray, pack_arrays, unpack_arrays
from godelta.errors import GodeltaError
from godelta.foundation.base import FoundationIdentity
from godelta.foundation.registry import load_foundation
from godelta.foundation.settings import FoundationSettings
from godelta.settings import digest

BATCH = 32  # structures at once; a GPU wants many, and whoever waits wants to see that something happens
SAVE_S = 10.0  # work that an interruption may cost
_ADAPTER: TypeAdapter[FoundationSettings] = TypeAdapter(FoundationSettings)

Report = Callable[[int, int], None]


@dataclass
class Kept:
    """What is known of a potential: energies in eV and forces (n, 3) in eV/Å by the structures' names."""

    settings: FoundationSettings
    identity: FoundationIdentity
    energies: dict[str, float] = field(default_factory=dict)
    forces: dict[str, FloatArray] = field(default_factory=dict)

    def has(self, names: Collection[str]) -> bool:
        """Whether all of these structures are known."""
        return self.energies.keys() >= set(names)

    def add_to(self, folder: Path) -> "Kept":
        """Keep these evaluations beside those that are kept already; all that is known now.

        Raises
        ------
        GodeltaError
            The folder cannot be written, or its file not be read.
        """
        path = folder / self.file
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{path}.lock"):
                known = _read(path) if path.is_file() else Kept(self.settings, self.identity)
                energies, forces = known.energies | self.energies, known.forces | self.forces
                whole = Kept(self.settings, self.identity, energies, forces)
                _write(path, whole)
        except OSError as error:
            raise GodeltaError(
                f"evaluations by {self.identity.name} cannot be kept: {error.strerror or error}",
                where=str(path),
                mend="see that the disk has room, and that you may write there",
            ) from error
        return whole

    @property
    def file(self) -> str:
        """Name of the file that it is kept in."""
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", self.identity.name)[:60]
        whole = digest([self.settings.model_dump(mode="json"), self.identity.model_dump(mode="json")])
        return f"{plain}-{whole[:16]}.npz"


def read_kept(folder: Path) -> list[Kept]:
    """All potentials that something is known of, the one written last first.

    Raises
    ------
    GodeltaError
        A file cannot be read.
    """
    files = [(path.stat().st_mtime_ns, path) for path in folder.glob("*.npz")]
    return [_read(path) for _, path in sorted(files, reverse=True)]


def evaluate_kept(
    settings: FoundationSettings,
    folder: Path,
    structures: Mapping[str, Atoms],
    report: Report = lambda done, total: None,  # noqa: ARG005 - as called
) -> Kept:
    """Evaluate what is not kept yet, saving now and then, and at the end whatever ends it.

    Parameters
    ----------
    folder
        Where evaluations are kept; any number of processes may use it at once.
    structures
        By names that tell them from all others.
    report
        Hears how many of how many structures are done.

    Raises
    ------
    InputError
        The potential cannot be had in this environment.
    GodeltaError
        It fails for a structure, or the folder cannot be used.
    """
    foundation = load_foundation(settings)
    new, saved = Kept(settings, foundation.identity), time.monotonic()
    path = folder / new.file
    kept = _read(path) if path.is_file() else new
    # Structures of like size and kind go together: alike batches are what compiled kernels are good at.
    missing = sorted(structures.keys() - kept.energies.keys(), key=lambda name: (len(structures[name]), name))
    try:
        for start in range(0, len(missing), BATCH):
            names = missing[start : start + BATCH]
            batch = foundation.evaluate([structures[name] for name in names])
            new.forces.update(zip(names, batch.forces, strict=True))
            new.energies.update(zip(names, batch.energies.tolist(), strict=True))
            report(len(structures) - len(missing) + len(new.energies), len(structures))
            if time.monotonic() - saved > SAVE_S:
                new.add_to(folder)
                saved = time.monotonic()
    finally:
        if new.energies:
            kept = new.add_to(folder)
    return kept


def _write(path: Path, kept: Kept) -> None:
    names = sorted(kept.energies)
    head = {
        "settings": kept.settings.model_dump(mode="json"),
        "identity": kept.identity.model_dump(mode="json"),
    }
    blob = pack_arrays(
        {
            "head": np.frombuffer(json.dumps(head).encode(), dtype=np.uint8),
            "names": np.array(names, dtype=np.str_),
            "energies": np.array([kept.energies[name] for name in names], dtype=np.float64),
            "sizes": np.array([len(kept.forces[name]) for name in names], dtype=np.int64),
            "forces": np.concatenate([np.asarray(kept.forces[name], dtype=np.float64) for name in names]),
        }
    )
    temporary = path.with_name(path.name + ".tmp")  # of whoever holds the lock
    with temporary.open("wb") as stream:
        stream.write(blob)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def _read(path: Path) -> Kept:
    try:
        arrays = unpack_arrays(path.read_bytes())
        head = json.loads(arrays["head"].tobytes())
        names = [str(name) for name in arrays["names"]]
        pieces = np.split(arrays["forces"], np.cumsum(arrays["sizes"])[:-1])
        return Kept(
            _ADAPTER.validate_python(head["settings"]),
            FoundationIdentity.model_validate(head["identity"]),
            dict(zip(names, arrays["energies"].tolist(), strict=True)),
            dict(zip(names, pieces, strict=True)),
        )
    except Exception as error:  # whatever a damaged archive may raise
        raise GodeltaError(
            f"kept evaluations cannot be read: {type(error).__name__}: {error}",
            where=str(path),
            mend="remove the file: they are computed again",
        ) from error
