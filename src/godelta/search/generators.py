"""Random structures, and the rule that every placed atom obeys."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from godelta.arrays import BoolArray, FloatArray
from godelta.errors import GodeltaError
from godelta.systems.geometry import MinimumImage, radii_of
from godelta.systems.problem import SearchProblem

CONTACT_MIN = 0.75  # no distance below this times the sum of covalent radii
CONTACT_MAX = 1.25  # at least one distance below this times the sum of covalent radii
TRIES = 100
PARTS = (10, 40)  # where trials are cut into parts that are looked at one after the other
RESTARTS = 200
NO_ROOM = "no random structure fits into the confinement"


@dataclass(frozen=True)
class PlacementRule:
    """Where an atom may be: inside the confinement, touching something, through nothing.

    The rule of Rønne et al. (AGOX): with R the sum of covalent radii, no distance below 0.75 R
    and at least one below 1.25 R, minimum images throughout.
    """

    problem: SearchProblem

    @cached_property
    def radii(self) -> FloatArray:
        """(N,) covalent radii in Å of the template's and the placed atoms."""
        return radii_of(np.concatenate([self.problem.template.numbers, self.problem.numbers]))

    @cached_property
    def image(self) -> MinimumImage:
        """Minimum images in the template's cell."""
        return MinimumImage.of(self.problem.template.cell.array, self.problem.template.pbc)

    @cached_property
    def basis(self) -> FloatArray:
        """(dimensions, 3) orthonormal vectors that span the confinement."""
        q, _ = np.linalg.qr(self.problem.confinement.cell.T)
        return np.asarray(q.T)

    def allows(self, trials: FloatArray, atom: int, others: FloatArray, which: BoolArray) -> BoolArray:
        """(t,) flags: which trial positions (t, 3) of one atom obey the rule.

        Parameters
        ----------
        trials
            (t, 3) positions in Å.
        atom
            Index of the atom within the structure.
        others
            (N, 3) positions of all atoms in Å; only those flagged are looked at.
        which
            (N,) flags of the other atoms that are present.
        """
        allowed = self.problem.confinement.contains(trials)
        if not which.any():
            return allowed
        inside = np.flatnonzero(allowed)
        ratio = self.image.quick_distances(trials[inside], others[which])
        ratio /= self.radii[which] + self.radii[atom]
        nearest = ratio.min(axis=1)
        allowed[inside] = (nearest > CONTACT_MIN) & (nearest < CONTACT_MAX)
        return allowed

    def first_allowed(
        self, trials: FloatArray, atom: int, others: FloatArray, which: BoolArray
    ) -> FloatArray | None:
        """The first of the trial positions (t, 3) that `allows` admits, if any."""
        # Most often one of the first few will do: only then are the others looked at.
        for part in np.split(trials, PARTS):
            allowed = np.flatnonzero(self.allows(part, atom, others, which))
            if len(allowed):
                return np.asarray(part[allowed[0]])
        return None

    def directions(self, rng: np.random.Generator, count: int) -> FloatArray:
        """(count, 3) unit vectors, uniform on the sphere, or on the circle of a flat confinement."""
        normal = rng.normal(size=(count, len(self.basis)))
        return np.asarray(normal / np.linalg.norm(normal, axis=1, keepdims=True) @ self.basis)

    def folded(self, positions: FloatArray) -> FloatArray:
        """Positions (n, 3) moved by whole periods into the part of the cell that the confinement spans."""
        region = self.problem.confinement
        f = np.floor(region.fractional(positions))
        f[:, list(region.walls)] = 0.0
        return np.asarray(positions - f @ region.cell)


def random_positions(rule: PlacementRule, rng: np.random.Generator) -> FloatArray:
    """Positions (N, 3) in Å of a random structure: the template as given, the placed atoms by the rule.

    Atoms come in shuffled order, the first anywhere in the confinement, each next at a distance
    r from a random placed atom with r^d uniform in [(0.75 R)^d, (1.25 R)^d], d the dimensions.

    Raises
    ------
    GodeltaError
        If no structure obeys the rule after 200 restarts of 100 tries per atom.
    """
    positions = some_random_positions(rule, rng)
    if positions is None:
        raise no_room(RESTARTS)
    return positions


def some_random_positions(rule: PlacementRule, rng: np.random.Generator) -> FloatArray | None:
    """As `random_positions`; None where no structure obeys the rule."""
    for _ in range(RESTARTS):
        positions = _try_random(rule, rng)
        if positions is not None:
            return positions
    return None


def no_room(restarts: int) -> GodeltaError:
    """The error that none of so many random structures could be placed."""
    return GodeltaError(
        f"{NO_ROOM} after {restarts} restarts",
        where="system.confinement",
        mend="make the confinement larger, and above a surface let it begin within reach of the top layer",
    )


def _try_random(rule: PlacementRule, rng: np.random.Generator) -> FloatArray | None:
    problem = rule.problem
    first = problem.n_template
    positions = np.concatenate([problem.template.positions, np.zeros((len(problem.numbers), 3))])
    present = np.asarray(~problem.placed)
    d = problem.confinement.dimensions
    done: list[int] = []
    for atom in first + rng.permutation(len(problem.numbers)):
        if done:
            anchors = np.asarray(done)[rng.integers(len(done), size=TRIES)]
            reach = rule.radii[anchors] + rule.radii[atom]
            u = rng.uniform(CONTACT_MIN**d, CONTACT_MAX**d, size=TRIES)
            step = (reach * u ** (1 / d))[:, None] * rule.directions(rng, TRIES)
            trials = rule.folded(positions[anchors] + step)
        else:
            trials = problem.confinement.sample(rng, TRIES)
        place = rule.first_allowed(trials, int(atom), positions, present)
        if place is None:
            return None
        positions[atom] = place
        present[atom] = True
        done.append(int(atom))
    return positions
