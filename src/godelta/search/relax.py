"""Relaxation of many structures at once in a potential."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from godelta.arrays import BoolArray, FloatArray
from godelta.foundation.base import Potential
from godelta.search.hessian import model_hessian, quasi_newton_step
from godelta.search.settings import RelaxSettings
from godelta.systems.geometry import MinimumImage, radii_of
from godelta.systems.problem import SearchProblem

MAX_FORCE = 1e4  # eV/Å; larger ones mean that the potential has left its senses
MAX_FALL = 100.0  # eV per moving atom below the start, or below others; deeper is a hole in the potential
ABSURDLY_LOW = "energy is absurdly low"
COLLAPSED = 0.5  # a distance below this times the sum of covalent radii: atoms went through each other


@dataclass(frozen=True, slots=True)
class Relaxed:
    """One relaxed structure.

    energy, foundation_energy, uncertainty [eV] belong to exactly these positions; the energy holds
    no wall. `evaluations` counts the potential evaluations of this structure. `dropped` is the
    reason why the structure is of no use, else None.
    """

    atoms: Atoms
    energy: float
    foundation_energy: float
    uncertainty: float
    steps: int
    evaluations: int
    converged: bool
    dropped: str | None


@dataclass(slots=True)
class _Walker:
    """A structure on its way down: its optimiser's state and its last results."""

    atoms: Atoms
    hessian: FloatArray
    start_energy: float = np.nan
    result: tuple[float, float, float] = (np.nan, np.nan, np.nan)
    old: tuple[FloatArray, FloatArray] | None = None
    steps: int = 0
    evaluations: int = 0
    converged: bool = False
    dropped: str | None = field(default=None)

    def step(self, forces: FloatArray, moving: BoolArray, max_step: float) -> None:
        """One quasi-Newton step of the moving atoms with forces (m, 3) [eV/Å]."""
        x, f = self.atoms.positions[moving].ravel(), forces.ravel()
        self.atoms.positions[moving] += quasi_newton_step(self.hessian, x, f, self.old, max_step)
        self.old = (x, f)
        self.steps += 1


def relax(
    structures: Sequence[Atoms],
    potential: Potential,
    settings: RelaxSettings,
    problem: SearchProblem,
    *,
    kappa: float = 0.0,
) -> list[Relaxed]:
    """Relax structures of a problem together, one batched evaluation per step on those not yet done.

    Each structure has its own BFGS (as ASE's: eigenvalues of the Hessian made positive, steps shortened
    to `max_step`; but begun from a model Hessian) and its own end: the largest force on a moving atom,
    that of the confinement's smooth walls included, below `fmax`; or `steps` steps. The surface
    followed is E - kappa sigma. The last evaluation of a structure is that of the returned geometry.
    Structures that explode come back with a reason in `dropped`.
    """
    moving = problem.moving
    image = MinimumImage.of(problem.template.cell.array, problem.template.pbc)
    walkers = [_Walker(atoms.copy(), model_hessian(atoms, moving, image)) for atoms in structures]
    active = list(walkers)
    while active:
        batch = potential.evaluate([w.atoms for w in active], kappa=kappa, uncertainty=True)
        for k, walker in enumerate(active):
            walker.result = (
                float(batch.energies[k]), float(batch.foundation_energies[k]), float(batch.uncertainties[k])
            )  # fmt: skip
            walker.evaluations += 1
            _advance(walker, batch.forces[k], settings, problem)
        active = [w for w in active if w.dropped is None and not w.converged and w.evaluations == w.steps]
    return [_finished(w, image, problem) for w in walkers]


def _advance(walker: _Walker, forces: FloatArray, settings: RelaxSettings, problem: SearchProblem) -> None:
    """Judge the last evaluation of a structure and, if it is not done, move it."""
    moving = problem.moving
    energy = walker.result[0]
    if walker.evaluations == 1:
        walker.start_energy = energy
    walker.dropped = _absurd(energy - walker.start_energy, forces[moving])
    if walker.dropped is not None or not moving.any():
        return
    total = forces.copy()
    total[problem.placed] += problem.confinement.wall_energy(walker.atoms.positions[problem.placed])[1]
    total = total[moving]
    walker.converged = bool((total**2).sum(axis=1).max() < settings.fmax**2)
    if not walker.converged and walker.steps < settings.steps:
        walker.step(total, moving, settings.max_step)


def _absurd(rise: float, forces: FloatArray) -> str | None:
    if not (np.isfinite(rise) and np.isfinite(forces).all()):
        return "energy or forces are not finite"
    if len(forces) and np.abs(forces).max() > MAX_FORCE:
        return "forces are huge"
    if rise < -MAX_FALL * max(len(forces), 1):
        return ABSURDLY_LOW
    return None


def _finished(walker: _Walker, image: MinimumImage, problem: SearchProblem) -> Relaxed:
    dropped = walker.dropped
    if dropped is None and _collapsed(walker.atoms, image, problem):
        dropped = "atoms went through each other"
    if dropped is None and not problem.confinement.contains(walker.atoms.positions[problem.placed]).all():
        dropped = "atoms left the confinement"
    return Relaxed(walker.atoms, *walker.result, walker.steps, walker.evaluations, walker.converged, dropped)


def _collapsed(atoms: Atoms, image: MinimumImage, problem: SearchProblem) -> bool:
    moving = np.flatnonzero(problem.moving)
    radii = radii_of(atoms.numbers)
    ratio = image.distances(atoms.positions[moving], atoms.positions) / (radii[moving, None] + radii)
    ratio[np.arange(len(moving)), moving] = np.inf
    return bool((ratio < COLLAPSED).any())
