"""Moves that make a new structure from an old one."""

import numpy as np

from godelta.arrays import FloatArray
from godelta.search.generators import TRIES, PlacementRule


def rattle(
    rule: PlacementRule, positions: FloatArray, amplitude: float, rng: np.random.Generator
) -> FloatArray:
    """Displace every placed atom at random; positions (N, 3) in Å come back as a new array.

    Atoms move one after the other, each uniformly within a ball (a disc, when flat) of radius
    `amplitude` [Å] around where it was: r = amplitude u^(1/d). An atom with no allowed position
    among 100 tries stays.
    """
    problem = rule.problem
    d = problem.confinement.dimensions
    new = positions.copy()
    others = np.ones(len(positions), dtype=np.bool_)
    for atom in np.flatnonzero(problem.placed):
        length = amplitude * rng.random(TRIES) ** (1 / d)
        trials = rule.folded(new[atom] + length[:, None] * rule.directions(rng, TRIES))
        others[atom] = False
        place = rule.first_allowed(trials, int(atom), new, others)
        others[atom] = True
        if place is not None:
            new[atom] = place
    return new


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


def _allowed(rule: PlacementRule, positions: FloatArray, atom: int) -> bool:
    others = np.ones(len(positions), dtype=np.bool_)
    others[atom] = False
    return bool(rule.allows(positions[atom][None], atom, positions, others)[0])
