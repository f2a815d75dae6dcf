"""Symmetric structures: atoms that a symmetry makes equivalent are placed together."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial.transform import Rotation

from godelta.arrays import BoolArray, FloatArray, IntArray
from godelta.search.generators import CONTACT_MAX, CONTACT_MIN, TRIES, PlacementRule
from godelta.systems.problem import SearchProblem
from godelta.systems.symmetry import PLANE_GROUPS, POINT_GROUPS, Operations, point_group

COINCIDE = 1e-2  # Å; images that are closer than this are one atom on a special position
GROUPS_TRIED = 30
LARGEST = 24  # operations of a subgroup on a surface
GENERAL, WHOLE = 0.45, 0.1  # shares of trials on general positions, and on those that nothing moves


@dataclass(frozen=True)
class OrbitPlacer:
    """Places orbits of a group under the rule that single atoms obey.

    Parameters
    ----------
    rule
        Where an atom may be.
    group
        The symmetry; the template has it too.
    """

    rule: PlacementRule
    group: Operations

    @cached_property
    def averages(self) -> FloatArray:
        """(m + 1, m) weights of the images in the mean that lies on each operation's special position."""
        member = self.group.cyclic
        return np.asarray(member / member.sum(axis=1, keepdims=True))

    def projected(self, trials: FloatArray, kinds: IntArray) -> FloatArray:
        """Positions (t, 3) in Å moved to the special positions of operations (t,)."""
        off = self.group.image.vectors(self.group.images(trials) - trials[:, None])
        return np.asarray(trials + np.einsum("tk,tki->ti", self.averages[kinds], off))

    def kinds(self, rng: np.random.Generator, count: int) -> IntArray:
        """(count,) operations whose special positions are tried: none, all at once, or one of them."""
        m = len(self.group)
        draw = rng.random(count)
        kinds = rng.integers(0, m, size=count)
        kinds[draw < GENERAL] = 0
        kinds[draw > 1.0 - WHOLE] = m
        return np.asarray(kinds, dtype=np.int64)

    def first_allowed(
        self,
        trials: FloatArray,
        atom: int,
        others: FloatArray,
        which: BoolArray,
        sizes: tuple[int, int],
    ) -> FloatArray | None:
        """(s, 3) positions of the first orbit that the rule admits, if any.

        Parameters
        ----------
        trials
            (t, 3) positions in Å of one atom of the orbit.
        atom
            Index of an atom of the orbit's species.
        others, which
            As in `PlacementRule.allows`; none of the orbit's own atoms are among those flagged.
        sizes
            Fewest and most atoms of the orbit.
        """
        region, group = self.rule.problem.confinement, self.group
        images = group.images(trials)
        own = np.linalg.norm(group.image.vectors(images - images[:, :1]), axis=2)
        same = own < COINCIDE
        size = len(group) // same.sum(axis=1)
        inside = region.contains(images.reshape(-1, 3)).reshape(own.shape).all(axis=1)
        mate = np.where(same, np.inf, own).min(axis=1, initial=np.inf) / (2 * self.rule.radii[atom])
        nearest = mate
        if which.any():
            radii = self.rule.radii[which] + self.rule.radii[atom]
            nearest = (group.image.quick_distances(trials, others[which]) / radii).min(axis=1)
        # The first atom of all touches nothing; an orbit has to hang together with what is there.
        touches = (nearest < CONTACT_MAX) | (~which.any() & (size == 1))
        fits = (size >= sizes[0]) & (size <= sizes[1])
        fits &= inside & touches & (mate > CONTACT_MIN) & (nearest > CONTACT_MIN)
        for k in np.flatnonzero(fits):
            orbit = self._orbit(images[k], int(size[k]))
            if orbit is not None and self._clear(orbit, atom, others, which):
                return orbit
        return None

    def _orbit(self, images: FloatArray, size: int) -> FloatArray | None:
        """The distinct ones of (m, 3) images, in the cell; None unless there are `size`."""
        near = self.group.image.distances(images, images) < COINCIDE
        first = np.flatnonzero(near.argmax(axis=1) == np.arange(len(images)))
        return self.rule.folded(images[first]) if len(first) == size else None

    def _clear(self, orbit: FloatArray, atom: int, others: FloatArray, which: BoolArray) -> bool:
        """Whether every atom of the orbit keeps its distance; a template is not exactly symmetric."""
        if not which.any():
            return True
        radii = self.rule.radii[which] + self.rule.radii[atom]
        ratio = (self.group.image.distances(orbit, others[which]) / radii).min(axis=1)
        return bool((ratio > CONTACT_MIN).all() and (ratio < CONTACT_MAX).all())


def symmetric_positions(rule: PlacementRule, rng: np.random.Generator) -> FloatArray | None:
    """Positions (N, 3) in Å of a random structure with a random symmetry; None where there is none to have.

    Free clusters have a point group around the middle of the confinement, with its axes in any direction;
    structures on a template have a part of the template's own symmetry. Orbits are placed one after the
    other, where need be on axes, mirrors or the centre. Where none of 30 groups takes all atoms, those that
    no orbit of the group that took most could hold are placed one by one, and are not symmetric.
    """
    best: tuple[FloatArray, BoolArray] | None = None
    for _ in range(GROUPS_TRIED):
        group = random_group(rule.problem, rng)
        if group is None:
            return None
        positions, present = fill(OrbitPlacer(rule, group), rng)
        if present.all():
            return positions
        if best is None or present.sum() > best[1].sum():
            best = positions, present
    return None if best is None else _complete(rule, *best, rng)


def random_group(problem: SearchProblem, rng: np.random.Generator) -> Operations | None:
    """A symmetry that structures of the problem may have; None where there is no other than the identity."""
    region = problem.confinement
    if problem.n_template == 0 and not problem.template.pbc.any():
        flat = region.dimensions == 2
        names = list(PLANE_GROUPS if flat else POINT_GROUPS)
        middle = region.corner + 0.5 * region.cell.sum(axis=0)
        return point_group(names[rng.integers(len(names))], _axes(region.cell, flat, rng), middle, flat=flat)
    operations = problem.template_operations
    if operations is None or len(operations) < 2:
        return None
    for _ in range(GROUPS_TRIED):
        count = int(rng.integers(1, 3))
        part = operations.generated(rng.integers(1, len(operations), size=count), LARGEST)
        if part is not None:
            return operations.chosen(part)
    return None


def _axes(cell: FloatArray, flat: bool, rng: np.random.Generator) -> FloatArray:
    """(3, 3) orthonormal rows in random directions; the last is the normal of a flat confinement."""
    if not flat:
        return np.asarray(Rotation.from_quat(rng.normal(size=4)).as_matrix())
    first = cell[0] / np.linalg.norm(cell[0])
    normal = np.cross(*cell)
    normal /= np.linalg.norm(normal)
    angle = rng.uniform(0.0, 2 * np.pi)
    x = np.cos(angle) * first + np.sin(angle) * np.cross(normal, first)
    return np.array([x, np.cross(normal, x), normal])


def fill(placer: OrbitPlacer, rng: np.random.Generator) -> tuple[FloatArray, BoolArray]:
    """Orbits until all atoms are placed, or none fits any more: positions, and which are placed."""
    rule = placer.rule
    problem = rule.problem
    positions = np.concatenate([problem.template.positions, np.zeros((len(problem.numbers), 3))])
    present = np.asarray(~problem.placed)
    missing = {int(z): np.flatnonzero(problem.numbers == z) + problem.n_template for z in problem.numbers}
    left = set(missing)
    while left:
        weights = np.array([len(missing[z]) for z in sorted(left)], dtype=float)
        z = sorted(left)[int(rng.choice(len(weights), p=weights / weights.sum()))]
        atoms = missing[z]
        trials = placer.projected(
            _trials(placer, int(atoms[0]), positions, present, rng), placer.kinds(rng, TRIES)
        )
        orbit = placer.first_allowed(trials, int(atoms[0]), positions, present, (1, len(atoms)))
        if orbit is None:
            left.discard(z)
            continue
        positions[atoms[: len(orbit)]] = orbit
        present[atoms[: len(orbit)]] = True
        missing[z] = atoms[len(orbit) :]
        # What found no place before may touch the new atoms.
        left = {z for z, atoms in missing.items() if len(atoms)}
    return positions, present


def _trials(
    placer: OrbitPlacer, atom: int, positions: FloatArray, present: BoolArray, rng: np.random.Generator
) -> FloatArray:
    """(100, 3) positions to try for an atom of the next orbit, Å."""
    rule = placer.rule
    region = rule.problem.confinement
    done = np.flatnonzero(present & rule.problem.placed)
    d = region.dimensions
    if len(done):
        anchors = done[rng.integers(len(done), size=TRIES)]
        reach = rule.radii[anchors] + rule.radii[atom]
        u = rng.uniform(CONTACT_MIN**d, CONTACT_MAX**d, size=TRIES)
        return rule.folded(positions[anchors] + (reach * u ** (1 / d))[:, None] * rule.directions(rng, TRIES))
    if rule.problem.n_template:
        return region.sample(rng, TRIES)
    # A ring of m atoms in contact has a radius of m contacts / 2 pi.
    reach = 2 * rule.radii[atom] * max(CONTACT_MAX, 0.2 * len(placer.group))
    middle = region.corner + 0.5 * region.cell.sum(axis=0)
    return np.asarray(middle + (reach * rng.random(TRIES) ** (1 / d))[:, None] * rule.directions(rng, TRIES))


def _complete(
    rule: PlacementRule, positions: FloatArray, present: BoolArray, rng: np.random.Generator
) -> FloatArray | None:
    """Place the atoms that are missing one by one; None where one finds no place."""
    d = rule.problem.confinement.dimensions
    present = present.copy()
    for atom in np.flatnonzero(~present):
        done = np.flatnonzero(present & rule.problem.placed)
        if not len(done):
            return None
        anchors = done[rng.integers(len(done), size=TRIES)]
        u = rng.uniform(CONTACT_MIN**d, CONTACT_MAX**d, size=TRIES)
        step = ((rule.radii[anchors] + rule.radii[atom]) * u ** (1 / d))[:, None] * rule.directions(
            rng, TRIES
        )
        place = rule.first_allowed(rule.folded(positions[anchors] + step), int(atom), positions, present)
        if place is None:
            return None
        positions[atom] = place
        present[atom] = True
    return positions
