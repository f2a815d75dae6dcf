"""The region in which a search may place and move atoms."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from godelta.arrays import BoolArray, FloatArray

WALL_STIFFNESS = 20.0  # eV/Å²
WALL_MARGIN = 0.4  # Å; the wall acts from here inside, so that relaxed atoms stay inside


@dataclass(frozen=True)
class Confinement:
    """A parallelepiped, or in 2-D a parallelogram, with walls on some of its faces.

    Parameters
    ----------
    cell
        (3, 3) or, for a flat confinement, (2, 3) spanning vectors in Å, as rows.
    corner
        (3,) corner in Å.
    walls
        One flag per spanning vector: whether atoms are held back in that direction. Directions
        in which the confinement spans a whole periodic cell have none.
    """

    cell: FloatArray
    corner: FloatArray
    walls: tuple[bool, ...]

    @property
    def dimensions(self) -> int:
        """2 for a flat confinement, else 3."""
        return len(self.cell)

    @cached_property
    def _inverse(self) -> FloatArray:
        # The pseudo-inverse serves both cases: a flat cell has no inverse.
        return np.asarray(np.linalg.pinv(self.cell), dtype=np.float64)

    def fractional(self, positions: FloatArray) -> FloatArray:
        """(n, dimensions) coordinates in units of the spanning vectors of (n, 3) positions in Å."""
        return np.asarray((positions - self.corner) @ self._inverse, dtype=np.float64)

    def contains(self, positions: FloatArray) -> BoolArray:
        """(n,) flags: inside with respect to every wall."""
        f = self.fractional(positions)[:, list(self.walls)]
        return np.asarray(((f > 0) & (f < 1)).all(axis=1), dtype=np.bool_)

    def sample(self, rng: np.random.Generator, count: int) -> FloatArray:
        """(count, 3) positions, uniform in the region."""
        return self.corner + rng.random((count, self.dimensions)) @ self.cell

    def wall_energy(self, positions: FloatArray) -> tuple[float, FloatArray]:
        """Energy [eV] and forces (n, 3) [eV/Å] of smooth harmonic walls: 0 inside, conservative."""
        f = self.fractional(positions)
        forces = np.zeros_like(positions)
        energy = 0.0
        for k, walled in enumerate(self.walls):
            if not walled:
                continue
            normal = self._inverse[:, k]
            height = 1.0 / np.linalg.norm(normal)
            margin = min(WALL_MARGIN, 0.05 * height)
            below = np.maximum(margin - f[:, k] * height, 0.0)
            above = np.maximum((f[:, k] - 1.0) * height + margin, 0.0)
            energy += 0.5 * WALL_STIFFNESS * float(below @ below + above @ above)
            forces += WALL_STIFFNESS * (below - above)[:, None] * (normal * height)
        return energy, forces
