"""Walkers: the structures that a search stands on, as candidates and in storage."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from godelta.search.proposals import structure_at
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
