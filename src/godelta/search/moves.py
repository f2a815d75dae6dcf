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
