"""Groups of isometries: point groups, and what a template's own symmetry leaves of it on its surface."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms
from scipy.spatial.transform import Rotation

from godelta.arrays import BoolArray, FloatArray, IntArray
from godelta.systems.geometry import MinimumImage

SYMPREC = 0.05  # Å; a relaxed template is only about as symmetric as it looks
SAME = 0.1  # Å; operations of one group that are closer than this are one

# Every group is a group of rotations (Schoenflies symbol), and its product with one improper operation.
_CYCLIC = {f"C{n}": (f"C{n}", "") for n in range(2, 7)}
POINT_GROUPS: dict[str, tuple[str, str]] = {
    "Cs": ("C1", "across z"),
    "Ci": ("C1", "inversion"),
    "S4": ("C2", "quarter"),
    **_CYCLIC,
    **{f"C{n}v": (f"C{n}", "along z") for n in range(2, 7)},
    **{f"C{n}h": (f"C{n}", "across z") for n in range(2, 7)},
    **{f"D{n}": (f"D{n}", "") for n in range(2, 7)},
    **{f"D{n}h": (f"D{n}", "across z") for n in range(2, 7)},
    **{f"D{n}d": (f"D{n}", f"turned {n}") for n in range(2, 7)},
    "T": ("T", ""),
    "Td": ("T", "quarter"),
    "Th": ("T", "inversion"),
    "O": ("O", ""),
    "Oh": ("O", "inversion"),
    "I": ("I", ""),
    "Ih": ("I", "inversion"),
}
# Those that keep the plane z = 0; mirrors across it would do nothing there.
PLANE_GROUPS = {"Cs": ("C1", "along z"), **_CYCLIC, **{f"C{n}v": (f"C{n}", "along z") for n in range(2, 7)}}


@dataclass(frozen=True)
class Operations:
    """A finite group of isometries x -> R x + t, closed modulo the lattice; the identity comes first.

    Parameters
    ----------
    rotations
        (m, 3, 3) orthogonal matrices R.
    shifts
        (m, 3) t in Å.
    image
        Minimum images of the lattice.
    """

    rotations: FloatArray
    shifts: FloatArray
    image: MinimumImage

    def __len__(self) -> int:
        return len(self.rotations)

    def images(self, positions: FloatArray) -> FloatArray:
        """(n, m, 3) images in Å of (n, 3) positions."""
        return np.asarray(np.einsum("kij,nj->nki", self.rotations, positions) + self.shifts)

    def product(self, k: int, j: int) -> int:
        """Index of the operation that does `j` and then `k`; -1 where the group is not closed."""
        rotation = self.rotations[k] @ self.rotations[j]
        shift = self.rotations[k] @ self.shifts[j] + self.shifts[k]
        alike = np.flatnonzero(np.abs(self.rotations - rotation).max(axis=(1, 2)) < 1e-3)
        off = np.linalg.norm(self.image.vectors(self.shifts[alike] - shift), axis=1)
        return int(alike[off.argmin()]) if len(alike) and off.min() < SAME else -1

    def generated(self, generators: IntArray, most: int) -> IntArray | None:
        """Indices of the group that some operations generate, sorted; None if it has more than `most`."""
        found = {0}
        front = [0]
        while front:
            new = {self.product(int(g), k) for k in front for g in generators} - found
            found |= new
            if len(found) > most or -1 in found:
                return None
            front = sorted(new)
        return np.array(sorted(found), dtype=np.int64)

    def chosen(self, indices: IntArray) -> "Operations":
        """Some of the operations."""
        return Operations(self.rotations[indices], self.shifts[indices], self.image)

    @cached_property
    def cyclic(self) -> BoolArray:
        """(m + 1, m) flags: the powers of each operation, and last the whole group."""
        member = np.zeros((len(self) + 1, len(self)), dtype=np.bool_)
        member[-1] = True
        for k in range(len(self)):
            power = k
            for _ in range(len(self)):
                member[k, power] = True
                if power <= 0:
                    break
                power = self.product(k, power)
        return member


def point_group(name: str, axes: FloatArray, centre: FloatArray, *, flat: bool = False) -> Operations:
    """A point group by its Schoenflies symbol.

    Parameters
    ----------
    name
        A key of `POINT_GROUPS`, or of `PLANE_GROUPS` where flat.
    axes
        (3, 3) orthonormal vectors as rows; the last is the main axis, or the normal of the plane.
    centre
        (3,) the point that stays, Å.
    """
    proper, improper = (PLANE_GROUPS if flat else POINT_GROUPS)[name]
    rotations = np.eye(3)[None] if proper == "C1" else Rotation.create_group(proper, axis="Z").as_matrix()
    if improper:
        rotations = np.concatenate([rotations, rotations @ _improper(improper)])
    order = np.argsort(np.abs(rotations - np.eye(3)).max(axis=(1, 2)), kind="stable")
    turned = axes.T @ rotations[order] @ axes
    return Operations(turned, centre - turned @ centre, MinimumImage.of(np.eye(3), np.zeros(3)))


def _improper(kind: str) -> FloatArray:
    if kind == "inversion":
        return -np.eye(3)
    if kind == "along z":
        return np.diag([-1.0, 1.0, 1.0])
    angle = {"across z": 0.0, "quarter": np.pi / 2}.get(kind)
    if angle is None:
        angle = np.pi / int(kind.split()[1])
    turn = Rotation.from_rotvec([0.0, 0.0, angle]).as_matrix()
    return np.asarray(turn @ np.diag([1.0, 1.0, -1.0]))


def template_operations(template: Atoms, fixed: BoolArray) -> Operations | None:
    """What symmetry the fixed atoms of a template (all, where none is fixed) leave to atoms placed on it.

    Of a slab, periodic along two vectors, the operations of its space group that keep every height: those of
    a wallpaper group, translations within the cell included. Of a solid all of them. None for a template
    that has no atoms or is not periodic along two vectors or three.
    """
    import spglib

    pbc = np.asarray(template.pbc, dtype=bool)
    if len(template) == 0 or pbc.sum() < 2:
        return None
    atoms = template[fixed] if fixed.any() else template
    lattice = np.array(template.cell.array)
    normal = None
    if not pbc.all():
        k = int(np.flatnonzero(~pbc)[0])
        normal = np.cross(*lattice[pbc])
        normal /= np.linalg.norm(normal)
        # Across the slab, and so far that no image takes part in its symmetry.
        lattice[k] = normal * (np.ptp(atoms.positions @ normal) + 50.0)
    inverse = np.linalg.inv(lattice)
    described = (lattice.tolist(), (atoms.positions @ inverse).tolist(), atoms.numbers.tolist())
    try:
        found = spglib.get_symmetry(described, symprec=SYMPREC)
    except spglib.SpglibError:
        found = None
    if found is None:  # atoms on top of each other, for example
        return None
    rotations = np.array([lattice.T @ w @ inverse.T for w in found["rotations"]])
    steps = np.asarray(found["translations"], dtype=float)
    shifts = (steps - np.round(steps)) @ lattice
    keep = np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2)) < 1e-2
    if normal is not None:
        keep &= (np.abs(rotations @ normal - normal).max(axis=1) < 1e-3) & (np.abs(shifts @ normal) < SAME)
        shifts = shifts - np.outer(shifts @ normal, normal)
    rotations, shifts = rotations[keep], shifts[keep]
    image = MinimumImage.of(template.cell.array, template.pbc)
    away = np.abs(rotations - np.eye(3)).max(axis=(1, 2)) + np.linalg.norm(image.vectors(shifts), axis=1)
    order = np.argsort(away, kind="stable")
    return Operations(rotations[order], shifts[order], image)
