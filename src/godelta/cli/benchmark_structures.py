"""Which runs of a benchmark have found the structure of lowest energy, relaxed or not quite."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms

from godelta.analysis.success import first_success
from godelta.store import structures
from godelta.store.database import Store

# Above the lowest energy: a structure that is equivalent within a distance tolerance of 0.15 Å is not higher.
WINDOW = 0.5  # eV


def note_equivalents(store: Store, rows: Sequence[dict[str, Any]], lowest: float, tolerance: float) -> None:
    """Add to each row, as `equivalent`, the index of its first structure that is the target; None: of none.

    The target is the structure of lowest energy that any run has found, if that is as low as it should be.
    """
    found = [
        (energy, structure_id)
        for row in rows
        for energy, structure_id in zip(row["energies"], row["structure_ids"], strict=True)
        if energy is not None
    ]
    best = min(found, default=None)
    for row in rows:
        row["equivalent"] = None
    if best is None or best[0] > lowest + tolerance:
        return
    target = structures.get_structure(store, best[1]).atoms()
    for row in rows:
        row["equivalent"] = _first(store, row, lowest, target)


def _first(store: Store, row: dict[str, Any], lowest: float, target: Atoms) -> int | None:
    energies = [math.nan if energy is None else energy for energy in row["energies"]]
    near = [i for i, energy in enumerate(energies) if energy <= lowest + WINDOW]
    wanted = {row["structure_ids"][i] for i in near}
    known = {one.structure_id: one.atoms() for one in structures.get_structures(store, wanted)}
    near = [i for i in near if row["structure_ids"][i] in known]  # a damaged database may have lost some
    atoms = [known[row["structure_ids"][i]] for i in near]
    hit = first_success(np.array([energies[i] for i in near]), -np.inf, structures=atoms, target=target)
    return None if hit is None else near[hit]
