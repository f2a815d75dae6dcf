"""A search method of one's own: monotonic basin hopping, several climbers side by side.

Leary, J. Global Optim. 18, 367 (2000): a move is accepted if it leads lower. Here a climber that has found
nothing lower for a while begins anew.
"""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from godelta.arrays import FloatArray
from godelta.foundation.base import Potential
from godelta.search.mover import Generator, Mover
from godelta.search.proposals import (
    Proposal,
    candidate,
    count_moves,
    relax_proposals,
    structure_at,
    summarise,
)
from godelta.search.settings import OwnSearchSettings
from godelta.search.state import (
    Candidate,
    StepResult,
    chain_token,
    generator_state,
    pack_state,
    restored_generator,
    unpack_state,
)
from godelta.search.weights import GeneratorWeights, MoveWeights
from godelta.systems.problem import SearchProblem


@dataclass(frozen=True)
class State:
    """Between two steps: where the climbers are, how long they have been there, the random generator.

    positions (w, N, 3) in Å; energies (w,) of the model in eV, infinite for one that begins; waited (w,).
    """

    token: str
    iteration: int
    done_in_round: int
    rng: dict[str, Any]
    positions: FloatArray
    energies: FloatArray
    waited: FloatArray

    def to_bytes(self) -> bytes:
        """Everything needed to continue bit for bit."""
        names = ("token", "iteration", "done_in_round", "rng")
        arrays = {"positions": self.positions, "energies": self.energies, "waited": self.waited}
        return pack_state("monotonic hopping", {name: getattr(self, name) for name in names}, arrays)

    @classmethod
    def from_bytes(cls, blob: bytes) -> Self:
        """Read what `to_bytes` wrote."""
        values, arrays = unpack_state("monotonic hopping", blob)
        return cls(**{**values, **arrays})


class MonotonicHopping:
    """Climbers that only go down.

    Parameters
    ----------
    climbers
        How many; all of them relax in one batch.
    iterations
        Of a round, before its best structures are evaluated.
    amplitude
        Radius of the ball that an atom is rattled within, Å.
    patience
        Moves in vain after which a climber begins anew.
    """

    def __init__(
        self,
        settings: OwnSearchSettings,
        problem: SearchProblem,
        climbers: int = 4,
        iterations: int = 5,
        amplitude: float = 1.5,
        patience: int = 20,
    ) -> None:
        self.settings, self.problem = settings, problem
        self.climbers, self.iterations = climbers, iterations
        self.amplitude, self.patience = amplitude, patience

    def start(self, potential: Potential, rng: np.random.Generator) -> State:  # noqa: ARG002 - the protocol has it
        """Begin a chain: climbers that are nowhere yet."""
        token = chain_token(rng)
        count = self.problem.n_template + len(self.problem.numbers)
        places = np.zeros((self.climbers, count, 3))
        nowhere = np.full(self.climbers, np.inf)
        return State(token, 0, 0, generator_state(rng), places, nowhere, np.zeros(self.climbers))

    def step(self, state: State, potential: Potential) -> StepResult[State]:
        """One move of every climber."""
        rng = restored_generator(state.rng)
        mover = Mover(self.problem, MoveWeights())
        generator = Generator(self.problem, GeneratorWeights(), [])
        proposals = []
        for place, energy in zip(state.positions, state.energies, strict=True):
            if np.isfinite(energy):
                move, positions = mover.propose(place, self.amplitude, rng)
            else:
                move, positions = generator.make(rng)
            proposals.append(Proposal(positions, move, ()))
        relaxed = relax_proposals(proposals, potential, self.settings.relax, self.problem)
        iteration = state.iteration + 1
        places, energies, waited = state.positions.copy(), state.energies.copy(), state.waited + 1.0
        candidates, taken = [], []
        for k, (proposal, result) in enumerate(zip(proposals, relaxed, strict=True)):
            lower = result.dropped is None and result.energy < energies[k]
            taken.append(lower)
            if lower:
                places[k], energies[k], waited[k] = result.atoms.positions, result.energy, 0.0
            if result.dropped is None:
                candidates.append(
                    candidate(
                        proposal, result, token=state.token, iteration=iteration, walker=k, accepted=lower
                    )
                )
        energies[waited >= self.patience] = np.inf
        waited[waited >= self.patience] = 0.0
        new = State(
            state.token,
            iteration,
            state.done_in_round + 1,
            generator_state(rng),
            places,
            energies,
            waited,
        )
        moves = count_moves(proposals, relaxed, taken, mover.impossible + generator.impossible)
        return StepResult(new, candidates, replace(summarise(iteration, relaxed), moves=moves))

    def finished(self, state: State) -> bool:
        """Whether the round's iterations are done."""
        return state.done_in_round >= self.iterations

    def next_round(self, state: State, potential: Potential, rng: np.random.Generator) -> State:
        """Begin the next round: the climbers' energies are those of the new model."""
        energies = state.energies.copy()
        somewhere = np.flatnonzero(np.isfinite(energies))
        if len(somewhere):
            structures = [structure_at(self.problem, state.positions[k]) for k in somewhere]
            energies[somewhere] = potential.evaluate(structures).energies
        return replace(state, done_in_round=0, rng=generator_state(rng), energies=energies)

    def walkers(self, state: State) -> list[Candidate]:  # noqa: ARG002 - the protocol has it
        """None: the climbers' places are among the candidates already."""
        return []

    def load(self, blob: bytes) -> State:
        """The state whose `to_bytes` gave these bytes."""
        return State.from_bytes(blob)
