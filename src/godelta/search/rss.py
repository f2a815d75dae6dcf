"""Random structure search: random structures, relaxed in the potential."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np

from godelta.foundation.base import Potential
from godelta.search.mover import Generator
from godelta.search.proposals import Proposal, candidate, count_moves, relax_proposals, summarise
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


@dataclass(frozen=True)
class RSSState:
    """State between two batches: counters and the random generator."""

    token: str
    iteration: int
    done_in_round: int
    rng: dict[str, Any]

    def to_bytes(self) -> bytes:
        """Everything needed to continue bit for bit."""
        return pack_state("rss", asdict(self), {})

    @classmethod
    def from_bytes(cls, blob: bytes) -> Self:
        """Read what `to_bytes` wrote."""
        values, _ = unpack_state("rss", blob)
        return cls(**values)


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
        generator = Generator(self.problem, self.settings.generators or GeneratorWeights())
        count = min(self.settings.batch, self.settings.structures_per_round - state.done_in_round)
        made = [generator.make(rng) for _ in range(count)]
        proposals = [Proposal(positions, name, ()) for name, positions in made]
        iteration = state.iteration + 1
        relaxed = relax_proposals(proposals, potential, self._relaxation(iteration), self.problem)
        candidates = [
            candidate(p, r, token=state.token, iteration=iteration, walker=k, accepted=True)
            for k, (p, r) in enumerate(zip(proposals, relaxed, strict=True))
            if r.dropped is None
        ]
        new = RSSState(state.token, iteration, state.done_in_round + count, generator_state(rng))
        taken = [r.dropped is None for r in relaxed]
        statistics = replace(
            summarise(iteration, relaxed), moves=count_moves(proposals, relaxed, taken, generator.impossible)
        )
        return StepResult(new, candidates, statistics)

    def _relaxation(self, iteration: int) -> RelaxSettings:
        """No step before `relax_from`."""
        s = self.settings
        return s.relax if iteration >= s.relax_from else s.relax.model_copy(update={"steps": 0})

    def finished(self, state: RSSState) -> bool:
        """Whether the round's structures are done."""
        return state.done_in_round >= self.settings.structures_per_round

    def next_round(
        self,
        state: RSSState,
        potential: Potential,  # noqa: ARG002 (protocol)
        rng: np.random.Generator,
    ) -> RSSState:
        """Begin the next round."""
        return replace(state, done_in_round=0, rng=generator_state(rng))

    def walkers(self, state: RSSState) -> list[Candidate]:  # noqa: ARG002 (protocol)
        """None: random structures have no memory."""
        return []

    def load(self, blob: bytes) -> RSSState:
        """The state whose `to_bytes` gave these bytes."""
        return RSSState.from_bytes(blob)
