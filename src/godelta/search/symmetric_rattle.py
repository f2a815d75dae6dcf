"""Rattles that keep a symmetry which a structure has."""

from itertools import combinations

import numpy as np

from godelta.arrays import FloatArray, IntArray
from godelta.search.generators import TRIES, PlacementRule
from godelta.search.orbits import OrbitPlacer
from godelta.systems.geometry import MinimumImage
from godelta.systems.symmetry import Operations

CLOSE = 0.15  # Å; atoms that an operation carries so close to their like have its symmetry
OFF_CENTRE = 0.5  # Å; from here on a vector says where an axis points
MOST_AXES = 300
LARGEST_TURN = 6


def symmetric_rattle(
    rule: PlacementRule, positions: FloatArray, amplitude: float, rng: np.random.Generator
) -> FloatArray | None:
    """Displace placed atoms at random, equivalent ones together; positions (N, 3) in Å as a new array.

    One of the operations that carry the placed atoms onto each other, within 0.15 Å, is drawn. The
    structure is made exactly symmetric under its powers, and orbit after orbit is displaced as a rattle
    displaces an atom: within a ball of radius `amplitude` [Å], less what would leave a special position.
    An orbit with no allowed place among 100 tries stays. None where the structure has no symmetry, or
    nothing moves.
    """
    placed = np.flatnonzero(rule.problem.placed)
    found = _own_symmetry(rule, positions[placed], rng)
    if found is None:
        return None
    group, images_of = found
    new = positions.copy()
    new[placed] = rule.folded(_symmetrised(group, positions[placed], images_of))
    placer = OrbitPlacer(rule, group)
    d = rule.problem.confinement.dimensions
    left = np.ones(len(placed), dtype=np.bool_)
    others = np.ones(len(positions), dtype=np.bool_)
    moved = False
    for k in range(len(placed)):
        if not left[k]:
            continue
        # An orbit of s atoms under the powers of g: g^s leaves each of them where it is.
        size = len(np.unique(images_of[:, k]))
        orbit = images_of[:size, k]
        left[orbit] = False
        atom = int(placed[k])
        length = amplitude * rng.random(TRIES) ** (1 / d)
        trials = new[atom] + length[:, None] * rule.directions(rng, TRIES)
        trials = placer.projected(trials, np.full(TRIES, size % len(group)))
        others[placed[orbit]] = False
        places = placer.first_allowed(trials, atom, new, others, (size, size))
        others[placed[orbit]] = True
        if places is not None:
            new[placed[orbit]] = places
            moved = True
    return new if moved else None


def _own_symmetry(
    rule: PlacementRule, atoms: FloatArray, rng: np.random.Generator
) -> tuple[Operations, IntArray] | None:
    """The powers of an operation that maps the placed atoms (n, 3) onto themselves, and (m, n) onto which."""
    problem = rule.problem
    if problem.n_template or problem.template.pbc.any():
        operations = problem.template_operations
        if operations is None:
            return None
        rotations, shifts = operations.rotations[1:], operations.shifts[1:]
    else:
        centre = atoms.mean(axis=0)
        rotations = _likely_rotations(atoms - centre, problem.numbers, rng)
        shifts = centre - rotations @ centre
    chosen, onto = _kept(rotations, shifts, atoms, problem.numbers, rule.image)
    for k in rng.permutation(len(chosen)):
        found = _powers(rotations[chosen[k]], shifts[chosen[k]], onto[k], rule.image)
        if found is not None:
            return found
    return None


def _kept(
    rotations: FloatArray, shifts: FloatArray, atoms: FloatArray, numbers: IntArray, image: MinimumImage
) -> tuple[IntArray, IntArray]:
    """Indices of the operations that keep atoms (n, 3), and (k, n) the atoms that each carries them onto."""
    alive = np.arange(len(rotations))
    species, counts = np.unique(numbers, return_counts=True)
    onto = np.zeros((len(rotations), len(numbers)), dtype=np.int64)
    for z in species[np.argsort(counts, kind="stable")]:
        members = np.flatnonzero(numbers == z)
        for atom in members:  # most operations fail at the first one
            there = rotations[alive] @ atoms[atom] + shifts[alive]
            distances = image.distances(there, atoms[members])
            onto[alive, atom] = members[distances.argmin(axis=1)] if len(alive) else 0
            alive = alive[distances.min(axis=1) < CLOSE]
    one_to_one = (np.sort(onto[alive], axis=1) == np.arange(len(numbers))).all(axis=1)
    return alive[one_to_one], onto[alive][one_to_one]


def _powers(
    rotation: FloatArray, shift: FloatArray, onto: IntArray, image: MinimumImage
) -> tuple[Operations, IntArray] | None:
    """All powers of an operation, and what each carries atoms onto; None where they do not end."""
    rotations, shifts, maps = [np.eye(3)], [np.zeros(3)], [np.arange(len(onto))]
    for _ in range(4 * LARGEST_TURN):
        new, to, where = rotation @ rotations[-1], rotation @ shifts[-1] + shift, onto[maps[-1]]
        turned_back = np.abs(new - np.eye(3)).max() < 1e-3
        if turned_back and float(np.linalg.norm(image.vectors(to))) < CLOSE:
            if not (where == maps[0]).all() or len(maps) == 1:
                return None
            return Operations(np.array(rotations), np.array(shifts), image), np.array(maps)
        rotations.append(new)
        shifts.append(to)
        maps.append(where)
    return None


def _symmetrised(group: Operations, atoms: FloatArray, onto: IntArray) -> FloatArray:
    """Positions (n, 3) in Å, moved as little as makes the group's operations exact."""
    off = np.zeros_like(atoms)
    for rotation, shift, where in zip(group.rotations, group.shifts, onto, strict=True):
        back = (atoms[where] - shift) @ rotation  # the inverse of x -> R x + t
        off += group.image.vectors(back - atoms)
    return np.asarray(atoms + off / len(group))


def _likely_rotations(atoms: FloatArray, numbers: IntArray, rng: np.random.Generator) -> FloatArray:
    """(m, 3, 3) operations about the origin that atoms (n, 3) around it may have.

    Axes go through atoms, through the middle of pairs or along the normals of triples that are alike, and
    mirrors stand across such pairs: every axis and mirror of a cluster is one of them, but for axes of
    large orbits among more than 300.
    """
    r = np.linalg.norm(atoms, axis=1)
    alike = (numbers[:, None] == numbers) & (np.abs(r[:, None] - r) < CLOSE)
    i, j = np.nonzero(np.triu(alike, k=1))
    # Of a large orbit the first eight do: any three of a ring, or of a polyhedron's face, would.
    triples = {t for row in alike for t in combinations(np.flatnonzero(row)[:8].tolist(), 3)}
    a, b, c = np.array(sorted(triples), dtype=np.int64).reshape(-1, 3).T
    normals = np.cross(atoms[b] - atoms[a], atoms[c] - atoms[a])
    axes = _units(np.concatenate([atoms, atoms[i] + atoms[j], np.cross(atoms[i], atoms[j]), normals]), rng)
    mirrors = _units(np.concatenate([atoms[i] - atoms[j], axes]), rng)
    flips = np.eye(3) - 2 * mirrors[:, :, None] * mirrors[:, None, :]
    across = np.eye(3) - 2 * axes[:, :, None] * axes[:, None, :]
    turns = [_turned(axes, 2 * np.pi / n) for n in range(2, LARGEST_TURN + 1)]
    improper = [_turned(axes, 2 * np.pi / n) @ across for n in (4, 6, 8, 10, 12)]
    return np.concatenate([-np.eye(3)[None], flips, *turns, *improper])


def _units(vectors: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Directions (m, 3) of those vectors that are long enough to have one, at most 300, each once."""
    length = np.linalg.norm(vectors, axis=1)
    units = vectors[length > OFF_CENTRE] / length[length > OFF_CENTRE, None]
    # Both ends of an axis are one.
    units *= np.where((units @ [1.0, 1e-3, 1e-6]) < 0, -1.0, 1.0)[:, None]
    _, first = np.unique(units.round(2), axis=0, return_index=True)
    return np.asarray(units[rng.permutation(np.sort(first))[:MOST_AXES]])


def _turned(axes: FloatArray, angle: float) -> FloatArray:
    """(m, 3, 3) rotations about axes (m, 3), by Rodrigues' formula."""
    x, y, z = axes.T
    zero = np.zeros(len(axes))
    cross = np.array([[zero, -z, y], [z, zero, -x], [-y, x, zero]]).transpose(2, 0, 1)
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)
