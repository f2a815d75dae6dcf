"""Reference forces in training, as energies of slightly displaced copies.

The residual of a copy displaced by u is that of the structure minus (F_reference - F_foundation) . u, to
first order: the idea of Cooper et al., npj Comput. Mater. 6, 54 (2020), for the residual instead of the
energy. With a step of 0.01 Å two such energies are a derivative; the GP itself need not know about it.
"""

from collections.abc import Sequence
from hashlib import sha256

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms

from godelta.arrays import BoolArray, FloatArray, IntArray

STEP = 0.01  # Å, the longest displacement of an atom
MARK = "~"  # between a structure's id and what tells its copies apart


def displaced_copies(
    atoms: Atoms, name: str, residual_forces: FloatArray, moving: BoolArray | None, count: int
) -> tuple[list[str], list[Atoms], FloatArray]:
    """Ids, structures, and changes of the residual energy (count,) in eV of a structure's copies.

    The first copy is displaced along the residual forces, where the foundation is most wrong; the others
    at random, always the same for the same id. A copy's id holds a hash of its positions, since those depend
    on both levels of theory.

    Parameters
    ----------
    residual_forces
        (n, 3) reference minus foundation forces in eV/Å.
    moving
        (n,) flags of the atoms that may move; None: all.
    """
    rng = np.random.default_rng(np.frombuffer(sha256(name.encode()).digest()[:16], dtype=np.uint32))
    free = np.ones(len(atoms), dtype=np.bool_) if moving is None else moving
    forces = np.where(free[:, None], residual_forces, 0.0)
    ids, copies, changes = [], [], np.empty(count)
    for k in range(count):
        direction = np.where(free[:, None], rng.normal(size=forces.shape), 0.0)
        if k == 0 and np.abs(forces).max() > 1e-6:
            direction = forces
        longest = float(np.linalg.norm(direction, axis=1).max())
        shift = direction * (STEP / longest) if longest > 0 else direction
        copy = atoms.copy()
        copy.positions += shift
        ids.append(f"{name}{MARK}{sha256(copy.positions.tobytes()).hexdigest()[:16]}")
        copies.append(copy)
        changes[k] = -float(np.sum(forces * shift))
    return ids, copies, changes


def owners(ids: Sequence[str]) -> IntArray:
    """(N,) index of the structure that each id is a copy of; its own where it is none."""
    place = {name: k for k, name in enumerate(ids)}
    return np.array([place.get(name.rpartition(MARK)[0], k) for k, name in enumerate(ids)], dtype=np.int64)


def moving_atoms(atoms: Atoms) -> BoolArray | None:
    """(n,) flags of the atoms that no FixAtoms constraint holds; None if there is no constraint."""
    if not atoms.constraints:
        return None
    moving = np.ones(len(atoms), dtype=np.bool_)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            moving[constraint.index] = False
    return moving
