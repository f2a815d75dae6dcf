"""Moves that make a new structure from an old one."""

import numpy as np

from godelta.arrays import FloatArray, IntArray
from godelta.search.generators import TRIES, PlacementRule


def rattle(
    rule: PlacementRule,
    positions: FloatArray,
    amplitude: float,
    rng: np.random.Generator,
    atoms: IntArray | None = None,
) -> FloatArray:
    """Displace placed atoms at random; positions (N, 3) in Å come back as a new array.

    Atoms move one after the other, each uniformly within a ball (a disc, when flat) of radius
    `amplitude` [Å] around where it was: r = amplitude u^(1/d). An atom with no allowed position
    among 100 tries stays. `atoms` are the indices of those to move; None: every placed atom.
    """
    problem = rule.problem
    d = problem.confinement.dimensions
    new = positions.copy()
    others = np.ones(len(positions), dtype=np.bool_)
    for atom in np.flatnonzero(problem.placed) if atoms is None else atoms:
        length = amplitude * rng.random(TRIES) ** (1 / d)
        trials = rule.folded(new[atom] + length[:, None] * rule.directions(rng, TRIES))
        others[atom] = False
        place = rule.first_allowed(trials, int(atom), new, others)
        others[atom] = True
        if place is not None:
            new[atom] = place
    return new


def some_placed(rule: PlacementRule, mean: float, rng: np.random.Generator) -> IntArray:
    """Indices of `mean` placed atoms on average, each drawn by itself; one at least."""
    placed = np.flatnonzero(rule.problem.placed)
    chosen = placed[rng.random(len(placed)) < mean / len(placed)]
    return chosen if len(chosen) else placed[[rng.integers(len(placed))]]


def permute(rule: PlacementRule, positions: FloatArray, rng: np.random.Generator) -> FloatArray | None:
    """Exchange two placed atoms of different species; positions (N, 3) in Å come back as a new array.

    Of all such pairs in random order, the first is taken after whose exchange both atoms obey the rule, so
    that sizes too different are left to other moves; None if there is no such pair among 100.
    """
    problem = rule.problem
    numbers = np.concatenate([problem.template.numbers, problem.numbers])
    placed = np.flatnonzero(problem.placed)
    first, second = np.nonzero(np.triu(numbers[placed, None] != numbers[placed]))
    for pair in rng.permutation(len(first))[:TRIES]:
        atoms = placed[[first[pair], second[pair]]]
        new = positions.copy()
        new[atoms] = positions[atoms[::-1]]
        if all(_allowed(rule, new, int(atom)) for atom in atoms):
            return new
    return None


def centre_of_geometry(
    rule: PlacementRule, positions: FloatArray, rng: np.random.Generator
) -> FloatArray | None:
    """Place the outermost atoms anew, no further from the centre than they were; a new array (N, 3) in Å.

    One to a quarter of the placed atoms, those farthest from the placed atoms' centre of geometry, are
    taken from the farthest on; each goes to a place allowed by the rule, uniform in the ball (disc, when
    flat) around the centre that reaches to where it was. None where no atom finds one among 100 tries.
    """
    placed = np.flatnonzero(rule.problem.placed)
    d = rule.problem.confinement.dimensions
    # Around a placed atom, since periodic images leave no other centre.
    start = positions[placed[rng.integers(len(placed))]]
    around = rule.image.vectors(positions[placed] - start)
    centre = start + around.mean(axis=0)
    reach = np.linalg.norm(rule.image.vectors(positions[placed] - centre), axis=1)
    count = int(rng.integers(1, max(2, len(placed) // 4 + 1)))
    new = positions.copy()
    others = np.ones(len(positions), dtype=np.bool_)
    moved = False
    for k in np.argsort(-reach, kind="stable")[:count]:
        atom = int(placed[k])
        length = reach[k] * rng.random(TRIES) ** (1 / d)
        trials = rule.folded(centre + length[:, None] * rule.directions(rng, TRIES))
        others[atom] = False
        place = rule.first_allowed(trials, atom, new, others)
        others[atom] = True
        if place is not None:
            new[atom] = place
            moved = True
    return new if moved else None


def _allowed(rule: PlacementRule, positions: FloatArray, atom: int) -> bool:
    others = np.ones(len(positions), dtype=np.bool_)
    others[atom] = False
    return bool(rule.allows(positions[atom][None], atom, positions, others)[0])
