"""Holes of a potential in which structures lie from the start: no fall into them is ever seen."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from godelta.search.relax import ABSURDLY_LOW, MAX_FALL, Relaxed
from godelta.systems.problem import SearchProblem


def drop_holes(relaxed: Sequence[Relaxed], beside: Sequence[float], problem: SearchProblem) -> list[Relaxed]:
    """The structures, with a reason in `dropped` where they lie absurdly far below what else is known.

    That is `MAX_FALL` per moving atom below the median energy. A structure alone cannot be judged.

    Parameters
    ----------
    beside
        Energies in eV of other structures in the same potential, such as walkers stand on.
    """
    energies = [*_energies(relaxed), *beside]
    if not energies:
        return list(relaxed)
    floor = float(np.median(energies)) - _fall(problem)
    return [
        replace(r, dropped=ABSURDLY_LOW) if r.dropped is None and r.energy < floor else r for r in relaxed
    ]


def held_floor(held: Sequence[float], relaxed: Iterable[Relaxed], problem: SearchProblem) -> float:
    """Energy in eV below which a structure that was kept lies in a hole; -inf where none was.

    Unlike a new one it is given up only where more than half of all energies and half of those kept speak
    against it: a model that goes astray upwards must not empty the walkers.

    Parameters
    ----------
    held
        Energies in eV of all structures that were kept, in the same potential as the new ones.
    relaxed
        New structures; those dropped have no say.
    """
    if not held:
        return -np.inf
    every = sorted([*held, *_energies(relaxed)])
    return min(every[(len(every) - 1) // 2], sorted(held)[len(held) // 2]) - _fall(problem)


def _energies(relaxed: Iterable[Relaxed]) -> list[float]:
    return [r.energy for r in relaxed if r.dropped is None]


def _fall(problem: SearchProblem) -> float:
    return MAX_FALL * max(int(problem.moving.sum()), 1)
