"""Kinds of moves and generators, drawn by their weights."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from godelta.arrays import FloatArray, IntArray
from godelta.search.generators import NO_ROOM, RESTARTS, PlacementRule, no_room, some_random_positions
from godelta.search.moves import centre_of_geometry, permute, rattle
from godelta.search.orbits import symmetric_positions
from godelta.search.symmetric_rattle import symmetric_rattle
from godelta.search.weights import GeneratorWeights, MoveWeights
from godelta.systems.problem import SearchProblem

REUSE_AMPLITUDE = 0.3  # Å; enough to leave a flat place, not enough to leave a minimum for good
UNCHANGED = "unchanged"
CHANCES = 20  # where a confinement is tight, most random structures fit and some do not


@dataclass(frozen=True)
class Mover:
    """Makes new structures from old ones.

    Parameters
    ----------
    problem
        The search problem.
    weights
        How often each kind is tried.
    impossible
        Counts moves that could not be made and were replaced by another kind, by kind.
    """

    problem: SearchProblem
    weights: MoveWeights
    impossible: Counter[str] = field(default_factory=Counter)

    @cached_property
    def rule(self) -> PlacementRule:
        """Where atoms may be."""
        return PlacementRule(self.problem)

    def propose(
        self,
        positions: FloatArray,
        amplitude: float,
        rng: np.random.Generator,
        atoms: IntArray | None = None,
    ) -> tuple[str, FloatArray]:
        """The kind of a move and the positions (N, 3) in Å that it gives, as a new array.

        A move that cannot be made gives way to another one, each kind tried once at most, those of
        weight 0 never. Where none can be made the positions come back as they are, called `unchanged`.

        Parameters
        ----------
        positions
            (N, 3) positions of all atoms in Å.
        amplitude
            Longest displacement of a rattled atom in Å.
        atoms
            Indices of the atoms that a rattle moves; None: every placed atom.
        """
        shares = {name: share for name, share in self.weights.shares().items() if share > 0}
        while shares:
            name = _drawn(shares, rng)
            moved = self._made(name, positions, amplitude, rng, atoms)
            if moved is not None:
                return name, moved
            self.impossible[name] += 1
            del shares[name]
        return UNCHANGED, positions.copy()

    def _made(
        self,
        name: str,
        positions: FloatArray,
        amplitude: float,
        rng: np.random.Generator,
        atoms: IntArray | None,
    ) -> FloatArray | None:
        if name == "permutation":
            return permute(self.rule, positions, rng)
        if name == "centre_of_geometry":
            return centre_of_geometry(self.rule, positions, rng)
        if name == "symmetric_rattle":
            return symmetric_rattle(self.rule, positions, amplitude, rng)
        moved = rattle(self.rule, positions, amplitude, rng, atoms)
        return None if np.array_equal(moved, positions) else moved


@dataclass(frozen=True)
class Generator:
    """Makes structures to begin from.

    Parameters
    ----------
    problem
        The search problem.
    weights
        How often each kind is tried.
    pool
        Positions (N, 3) in Å of low minima that `reuse` starts from.
    impossible
        Counts structures that could not be made and were replaced by another kind, by kind.
    events
        Counts structures that could not be made at all, by reason.
    """

    problem: SearchProblem
    weights: GeneratorWeights
    pool: Sequence[FloatArray] = ()
    impossible: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)

    @cached_property
    def rule(self) -> PlacementRule:
        """Where atoms may be."""
        return PlacementRule(self.problem)

    def make(self, rng: np.random.Generator) -> tuple[str, FloatArray]:
        """The kind of a structure and its positions (N, 3) in Å.

        A kind that cannot be made gives way to a random structure.

        Raises
        ------
        GodeltaError
            Where no random structure fits into the confinement, 20 times in a row.
        """
        for _ in range(CHANCES):
            made = self._tried(rng)
            if made is not None:
                return made
        raise no_room(CHANCES * RESTARTS)

    def offer(self, rng: np.random.Generator, *, needed: bool = False) -> tuple[str, FloatArray] | None:
        """As `make`, but tried once; None where no random structure fits, which `events` counts.

        Parameters
        ----------
        needed
            Whether there is nothing else to go on with: then as `make`.

        Raises
        ------
        GodeltaError
            As `make`, where one is needed.
        """
        return self.make(rng) if needed else self._tried(rng)

    def _tried(self, rng: np.random.Generator) -> tuple[str, FloatArray] | None:
        name = _drawn({name: share for name, share in self.weights.shares().items() if share > 0}, rng)
        made = None
        if name == "reuse":
            made = self._reused(rng)
        elif name == "symmetric":
            made = symmetric_positions(self.rule, rng)
        if made is not None:
            return name, made
        if name != "random":
            self.impossible[name] += 1
        positions = some_random_positions(self.rule, rng)
        if positions is None:
            self.events[NO_ROOM] += 1
            return None
        return "random", positions

    def _reused(self, rng: np.random.Generator) -> FloatArray | None:
        if not len(self.pool):
            return None
        return rattle(self.rule, self.pool[int(rng.integers(len(self.pool)))], REUSE_AMPLITUDE, rng)


def _drawn(shares: dict[str, float], rng: np.random.Generator) -> str:
    """A name, drawn by weight; nothing is drawn where there is no choice."""
    names = sorted(shares, key=_ORDER.index)
    if len(names) == 1:
        return names[0]
    draw = rng.random() * sum(shares.values())
    for name in names[:-1]:
        draw -= shares[name]
        if draw < 0:
            return name
    return names[-1]


# Permutations first: REX drew for them before there were other kinds, and goes on with the same numbers.
_ORDER = ("permutation", "rattle", "centre_of_geometry", "symmetric_rattle", "random", "symmetric", "reuse")
