"""Random structure search: random structures, relaxed in the potential."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from godelta.arrays import FloatArray
from godelta.foundation.base import Potential
from godelta.search.holes import held_floor
from godelta.search.mover import Generator
from godelta.search.proposals import (
    Proposal,
    candidate,
    count_moves,
    relax_proposals,
    structure_at,
    summarise,
)
from godelta.search.relax import ABSURDLY_LOW, Relaxed
from godelta.search.settings import RelaxSettings, RSSSettings
from godelta.search.state import (
    Candidate,
    StepResult,
    chain_token,
    generator_state,
    pack_state,
    restored_generator,
    unpack_state,
)
from godelta.search.weights import GeneratorWeights
from godelta.systems.problem import SearchProblem

POOL = 10  # low minima that `reuse` draws from
APART = 0.01  # eV; minima of the pool that are closer are taken for one


@dataclass(frozen=True)
class RSSState:
    """State between two batches.

    Parameters
    ----------
    token
        First part of the candidates' ids.
    iteration, done_in_round
        Batches since the chain began, structures since the round began.
    rng
        State of the random generator.
    pool, energies
        (p, N, 3) positions in Å of the lowest minima so far and (p,) their model energies in eV, lowest
        first; empty where the generator `reuse` has no weight.
    """

    token: str
    iteration: int
    done_in_round: int
    rng: dict[str, Any]
    pool: FloatArray = field(default_factory=lambda: np.zeros((0, 0, 3)))
    energies: FloatArray = field(default_factory=lambda: np.zeros(0))

    def to_bytes(self) -> bytes:
        """Everything needed to continue bit for bit."""
        values = {name: getattr(self, name) for name in ("token", "iteration", "done_in_round", "rng")}
        arrays = {"pool": self.pool, "energies": self.energies} if len(self.pool) else {}
        return pack_state("rss", values, arrays)

    @classmethod
    def from_bytes(cls, blob: bytes) -> Self:
        """Read what `to_bytes` wrote."""
        values, arrays = unpack_state("rss", blob)
        return cls(**{**values, **arrays})


@dataclass(frozen=True)
class RandomStructureSearch:
    """Batches of random structures; every relaxed one is a candidate."""

    settings: RSSSettings
    problem: SearchProblem

    def start(self, potential: Potential, rng: np.random.Generator) -> RSSState:  # noqa: ARG002 (protocol)
        """Begin a chain."""
        token = chain_token(rng)
        return RSSState(token, 0, 0, generator_state(rng))

    def step(self, state: RSSState, potential: Potential) -> StepResult[RSSState]:
        """One batch of random structures, relaxed together."""
        rng = restored_generator(state.rng)
        generator = Generator(self.problem, self._weights, list(state.pool))
        count = min(self.settings.batch, self.settings.structures_per_round - state.done_in_round)
        proposals: list[Proposal] = []
        for _ in range(count):
            # Later on the confinement is known to have room.
            made = generator.offer(rng, needed=state.iteration == 0 and not proposals)
            if made is not None:
                proposals.append(Proposal(made[1], made[0], ()))
        iteration = state.iteration + 1
        known = state.energies.tolist()
        relaxed = relax_proposals(
            proposals, potential, self._relaxation(iteration), self.problem, beside=known
        )
        state, holes = self._without_holes(state, relaxed)
        candidates = [
            candidate(p, r, token=state.token, iteration=iteration, walker=k, accepted=True)
            for k, (p, r) in enumerate(zip(proposals, relaxed, strict=True))
            if r.dropped is None
        ]
        new = replace(
            self._with_pool(state, candidates),
            iteration=iteration,
            done_in_round=state.done_in_round + count,
            rng=generator_state(rng),
        )
        taken = [r.dropped is None for r in relaxed]
        statistics = replace(
            summarise(iteration, relaxed, events=generator.events + holes),
            moves=count_moves(proposals, relaxed, taken, generator.impossible),
        )
        return StepResult(new, candidates, statistics)

    @property
    def _weights(self) -> GeneratorWeights:
        return self.settings.generators or GeneratorWeights()

    def _without_holes(self, state: RSSState, relaxed: Sequence[Relaxed]) -> tuple[RSSState, Counter[str]]:
        """The state less minima that lie in a hole of the potential, and how many these were."""
        floor = held_floor(state.energies.tolist(), relaxed, self.problem)
        sound = state.energies >= floor
        if sound.all():
            return state, Counter()
        kept = replace(state, pool=state.pool[sound], energies=state.energies[sound])
        return kept, Counter({ABSURDLY_LOW: int((~sound).sum())})

    def _with_pool(self, state: RSSState, candidates: Sequence[Candidate]) -> RSSState:
        """The state with the candidates among its low minima, where these are wanted."""
        if not (self._weights.reuse and candidates):
            return state
        new = [(c.energy, c.atoms.positions) for c in candidates]
        known = sorted([*zip(state.energies.tolist(), state.pool, strict=True), *new], key=lambda row: row[0])
        kept: list[tuple[float, FloatArray]] = []
        for energy, positions in known:
            if len(kept) < POOL and (not kept or energy > kept[-1][0] + APART):
                kept.append((energy, positions))
        return replace(
            state,
            pool=np.array([positions for _, positions in kept]),
            energies=np.array([energy for energy, _ in kept]),
        )

    def _relaxation(self, iteration: int) -> RelaxSettings:
        """No step before `relax_from`."""
        s = self.settings
        return s.relax if iteration >= s.relax_from else s.relax.model_copy(update={"steps": 0})

    def finished(self, state: RSSState) -> bool:
        """Whether the round's structures are done."""
        return state.done_in_round >= self.settings.structures_per_round

    def next_round(self, state: RSSState, potential: Potential, rng: np.random.Generator) -> RSSState:
        """Begin the next round: the pool's energies are predicted anew, as the model has changed."""
        if len(state.pool):
            batch = potential.evaluate([structure_at(self.problem, positions) for positions in state.pool])
            order = np.argsort(batch.energies, kind="stable")
            order = order[np.isfinite(batch.energies[order])]
            state = replace(state, pool=state.pool[order], energies=batch.energies[order])
        return replace(state, done_in_round=0, rng=generator_state(rng))

    def walkers(self, state: RSSState) -> list[Candidate]:  # noqa: ARG002 (protocol)
        """None: random structures have no memory."""
        return []

    def load(self, blob: bytes) -> RSSState:
        """The state whose `to_bytes` gave these bytes."""
        return RSSState.from_bytes(blob)
