"""Proposed structures on their way to becoming candidates."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from ase import Atoms

from godelta.arrays import FloatArray
from godelta.foundation.base import Potential
from godelta.search.holes import drop_holes
from godelta.search.relax import Relaxed, relax
from godelta.search.settings import RelaxSettings
from godelta.search.state import MOVE_COUNTS, Candidate, Statistics
from godelta.systems.problem import SearchProblem


@dataclass(frozen=True, slots=True)
class Proposal:
    """Positions (N, 3) in Å, the move that made them and the candidates it started from."""

    positions: FloatArray
    move: str
    parents: tuple[str, ...]


def relax_proposals(
    proposals: Sequence[Proposal],
    potential: Potential,
    settings: RelaxSettings,
    problem: SearchProblem,
    *,
    kappa: float = 0.0,
    beside: Sequence[float] | None = (),
) -> list[Relaxed]:
    """Relax all proposals in one batch, on E - kappa sigma.

    Parameters
    ----------
    beside
        Energies in eV of other structures in the same potential: what lies absurdly far below them and the
        others of the batch is dropped. None: the potential's energies do not matter.
    """
    structures = [structure_at(problem, proposal.positions) for proposal in proposals]
    relaxed = relax(structures, potential, settings, problem, kappa=kappa)
    return relaxed if beside is None else drop_holes(relaxed, beside, problem)


def structure_at(problem: SearchProblem, positions: FloatArray) -> Atoms:
    """A structure of the problem at positions (N, 3) in Å of all its atoms."""
    atoms = problem.structure(positions[problem.n_template :])
    atoms.positions[:] = positions  # template atoms that are not fixed have moved too
    return atoms


def candidate(
    proposal: Proposal, relaxed: Relaxed, *, token: str, iteration: int, walker: int, accepted: bool
) -> Candidate:
    """The candidate that a proposal has become."""
    return Candidate(
        id=f"{token}-{iteration}-{walker}",
        atoms=relaxed.atoms,
        energy=relaxed.energy,
        foundation_energy=relaxed.foundation_energy,
        uncertainty=relaxed.uncertainty,
        iteration=iteration,
        walker=walker,
        move=proposal.move,
        parents=proposal.parents,
        accepted=accepted,
        converged=relaxed.converged,
    )


def summarise(
    iteration: int,
    relaxed: Sequence[Relaxed],
    acceptance: tuple[float | None, ...] = (),
    swaps: tuple[bool | None, ...] = (),
    events: Mapping[str, int] = MappingProxyType({}),
) -> Statistics:
    """Statistics of one step; `events` are counted beside the reasons why structures were dropped."""
    return Statistics(
        iteration=iteration,
        best_energy=min((r.energy for r in relaxed if r.dropped is None), default=None),
        dropped=dict(Counter(r.dropped for r in relaxed if r.dropped is not None) + Counter(events)),
        evaluations=sum(r.evaluations for r in relaxed),
        calls=max((r.evaluations for r in relaxed), default=0),
        acceptance=acceptance,
        swaps=swaps,
    )


def count_moves(
    proposals: Sequence[Proposal],
    relaxed: Sequence[Relaxed],
    accepted: Sequence[bool],
    impossible: Mapping[str, int],
) -> dict[str, dict[str, int]]:
    """How often each kind of move was proposed, survived its relaxation, was accepted, or was impossible."""
    counts: dict[str, dict[str, int]] = {}
    for proposal, result, taken in zip(proposals, relaxed, accepted, strict=True):
        count = counts.setdefault(proposal.move, dict.fromkeys(MOVE_COUNTS, 0))
        count["proposed"] += 1
        count["relaxed"] += result.dropped is None
        count["accepted"] += bool(taken)  # may be of NumPy, which MongoDB does not take
    for move, times in impossible.items():
        counts.setdefault(move, dict.fromkeys(MOVE_COUNTS, 0))["impossible"] += times
    return counts
