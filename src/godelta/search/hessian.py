"""Quasi-Newton steps, and the first guess of their Hessian."""

import numpy as np
from ase import Atoms

from godelta.arrays import BoolArray, FloatArray
from godelta.systems.geometry import MinimumImage, radii_of

SPRING = 10.0  # eV/Å², at a distance equal to the sum of covalent radii
DECAY = 4.0  # per unit of distance over that sum
BASE = 2.0  # eV/Å², for soft and free directions


def model_hessian(atoms: Atoms, moving: BoolArray, image: MinimumImage) -> FloatArray:
    """Hessian (3 m, 3 m) in eV/Å² of springs between all atoms, for the m moving ones.

    Springs act along the connecting vector, k = 10 exp[-4 (r/R - 1)] eV/Å² with R the sum of covalent
    radii, plus 2 eV/Å² on the diagonal: the idea of Lindh et al. (Chem. Phys. Lett. 241, 423 (1995))
    without angles. Compared with a multiple of the identity (70 eV/Å², ASE's), random structures
    need half as many evaluations to relax.
    """
    index = np.flatnonzero(moving)
    m = len(index)
    d = image.vectors(atoms.positions[index, None] - atoms.positions[None])
    r = np.linalg.norm(d, axis=-1)
    r[np.arange(m), index] = np.inf
    radii = radii_of(atoms.numbers)
    springs = SPRING * np.exp(-DECAY * np.minimum(r / (radii[index, None] + radii) - 1.0, 100.0))
    r[np.arange(m), index] = 1.0
    u = d / np.maximum(r, 1e-9)[..., None]
    blocks = springs[..., None, None] * u[..., :, None] * u[..., None, :]
    hessian = -blocks[:, index].transpose(0, 2, 1, 3)
    hessian[np.arange(m), :, np.arange(m), :] += blocks.sum(axis=1)
    flat = hessian.reshape(3 * m, 3 * m)
    # Two atoms half a cell apart may each see the other through another image.
    return np.asarray(0.5 * (flat + flat.T) + BASE * np.eye(3 * m))


def quasi_newton_step(
    hessian: FloatArray,
    x: FloatArray,
    forces: FloatArray,
    old: tuple[FloatArray, FloatArray] | None,
    max_step: float,
) -> FloatArray:
    """Displacements (m, 3) in Å of one step of BFGS: eigenvalues of the Hessian are made positive.

    Parameters
    ----------
    hessian
        (3 m, 3 m) in eV/Å²; updated in place.
    x, forces
        (3 m,) coordinates in Å and forces in eV/Å of the moving atoms.
    old
        The same of the step before; None at the first one.
    max_step
        No atom moves further, Å: longer steps are shortened as a whole.
    """
    if old is not None:
        _update(hessian, x - old[0], forces - old[1])
    omega, vectors = np.linalg.eigh(hessian)
    dx = (vectors @ ((forces @ vectors) / np.abs(omega))).reshape(-1, 3)
    longest = float(np.linalg.norm(dx, axis=1).max())
    return np.asarray(dx * min(1.0, max_step / longest) if longest > 0 else dx)


def _update(hessian: FloatArray, dx: FloatArray, df: FloatArray) -> None:
    """BFGS update in place (Nocedal and Wright, eq. 6.19) with df the change of the forces."""
    hdx = hessian @ dx
    a, b = dx @ df, dx @ hdx
    if np.abs(dx).max() < 1e-7 or min(abs(a), abs(b)) < 1e-12:
        return
    hessian -= np.outer(df, df) / a + np.outer(hdx, hdx) / b
