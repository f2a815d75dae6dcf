"""Walkers: the structures that a search stands on, as candidates and in storage."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from godelta.search.holes import held_floor
from godelta.search.proposals import structure_at
from godelta.search.relax import ABSURDLY_LOW, Relaxed
from godelta.search.rex_state import Walker
from godelta.search.state import Candidate
from godelta.systems.problem import SearchProblem

Walkers = tuple[Walker | None, ...]


def walker_of(candidate: Candidate) -> Walker:
    """A walker that stands on a candidate."""
    return Walker(
        positions=candidate.atoms.positions.copy(),
        energy=candidate.energy,
        foundation_energy=candidate.foundation_energy,
        uncertainty=candidate.uncertainty,
        id=candidate.id,
        iteration=candidate.iteration,
        rung=candidate.walker,
        move=candidate.move,
        parents=candidate.parents,
        converged=candidate.converged,
    )


def candidate_of(walker: Walker, problem: SearchProblem) -> Candidate:
    """The candidate that a walker stands on."""
    return Candidate(
        id=walker.id,
        atoms=structure_at(problem, walker.positions),
        energy=walker.energy,
        foundation_energy=walker.foundation_energy,
        uncertainty=walker.uncertainty,
        iteration=walker.iteration,
        walker=walker.rung,
        move=walker.move,
        parents=walker.parents,
        accepted=True,
        converged=walker.converged,
    )


def energies_of(*walkers: Walker | None) -> list[float]:
    """Energies in eV of the structures that walkers stand on, each structure once."""
    return list({w.id: w.energy for w in walkers if w is not None}.values())


def out_of_holes(
    groups: Sequence[Walkers], relaxed: Iterable[Relaxed], problem: SearchProblem
) -> tuple[list[Walkers], Counter[str]]:
    """Groups of walkers, emptied where one stands in a hole of the potential, and how many structures did.

    Holes show beside other structures: at the beginning of a round, when the model has changed, and after a
    batch that had nothing to be compared with. The first group is what is compared.
    """
    floor = held_floor(energies_of(*groups[0]), relaxed, problem)
    fallen = {w.id for group in groups for w in group if w is not None and w.energy < floor}
    left = [tuple(None if w is None or w.id in fallen else w for w in group) for group in groups]
    return left, Counter({ABSURDLY_LOW: len(fallen)} if fallen else {})


def packed(name: str, walkers: Sequence[Walker | None]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """JSON values and arrays of some walkers, to be stored under `name`."""
    held = [w for w in walkers if w is not None]
    origins = [
        None if w is None else [w.id, w.iteration, w.rung, w.move, list(w.parents), w.converged]
        for w in walkers
    ]
    shape = (len(held), -1, 3) if held else (0, 0, 3)
    energies = [[w.energy, w.foundation_energy, w.uncertainty] for w in held]
    return {name: origins}, {
        f"{name}_positions": np.reshape([w.positions for w in held], shape),
        f"{name}_energies": np.reshape(energies, (-1, 3)),
    }


def unpacked(name: str, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Walkers:
    """The walkers that `packed` stored under `name`."""
    rows = iter(zip(arrays[f"{name}_positions"], arrays[f"{name}_energies"].tolist(), strict=True))
    walkers: list[Walker | None] = []
    for origin in values[name]:
        if origin is None:
            walkers.append(None)
            continue
        positions, (energy, foundation_energy, uncertainty) = next(rows)
        identifier, iteration, rung, move, parents, converged = origin
        walkers.append(
            Walker(
                positions, energy, foundation_energy, uncertainty,
                identifier, iteration, rung, move, tuple(parents), converged,
            )
        )  # fmt: skip
    return tuple(walkers)
