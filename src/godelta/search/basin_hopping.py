"""Basin hopping on the model, with Metropolis on reference energies."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from godelta.arrays import FloatArray
from godelta.foundation.base import Potential
from godelta.search.bh_state import BHState
from godelta.search.mover import Generator, Mover
from godelta.search.moves import some_placed
from godelta.search.proposals import Proposal, count_moves, relax_proposals, structure_at, summarise
from godelta.search.proposals import candidate as as_candidate
from godelta.search.relax import Relaxed
from godelta.search.replica_exchange import metropolis_probability
from godelta.search.rex_state import HISTORY, Walker
from godelta.search.settings import BHSettings
from godelta.search.state import (
    Candidate,
    Evaluated,
    StepResult,
    chain_token,
    generator_state,
    restored_generator,
)
from godelta.search.walkers import candidate_of, energies_of, out_of_holes, walker_of
from godelta.search.weights import GeneratorWeights
from godelta.systems.problem import SearchProblem

NOT_EVALUATED = "trial without a reference energy"
REJECTED = "trial rejected at its reference energy"
LOST = "the model has no energy for a walker's structure"


@dataclass(frozen=True)
class BasinHopping:
    """Walkers that rattle some atoms, relax in one batch, and hop by Metropolis.

    What a walker's round leads to, its trial, is the new structure of lowest model energy. It goes to
    the reference, and Metropolis on reference energies decides at the beginning of the next round whether
    the walker goes on from there or from where it was. With `iterations_per_round: 1` that is basin
    hopping with one evaluation for each hop; with more, Metropolis within the round goes by model energies
    and begins anew from the walker's structure in every round. A trial that was not evaluated (its
    evaluation failed, others were wanted more) is rejected; one that is equivalent to an evaluated
    structure has that one's energy. A walker that stands on nothing takes random structures, and waits
    where none fits.
    """

    settings: BHSettings
    problem: SearchProblem

    def start(self, potential: Potential, rng: np.random.Generator) -> BHState:  # noqa: ARG002 (protocol)
        """Walkers that stand on nothing yet; the first iteration gives them relaxed random structures."""
        count = self.settings.walkers
        nothing = (None,) * count
        return BHState(
            token=chain_token(rng),
            iteration=0,
            done_in_round=0,
            held=nothing,
            references=np.full(count, np.nan),
            here=nothing,
            trials=nothing,
            history=np.full((count, HISTORY), -1, dtype=np.int64),
            events={},
            rng=generator_state(rng),
        )

    def inform(self, state: BHState, evaluated: Sequence[Evaluated], potential: Potential) -> BHState:
        """Metropolis on the trials' reference energies; the walkers' energies are predicted anew."""
        judged = self.judged(state, evaluated)
        held = [(k, w) for k, w in enumerate(judged.held) if w is not None]
        if not held:
            return judged
        batch = potential.evaluate(
            [structure_at(self.problem, w.positions) for _, w in held], uncertainty=True
        )
        here: list[Walker | None] = [None] * len(judged.held)
        events = dict(judged.events)
        for row, (k, walker) in enumerate(held):
            here[k] = walker
            if not np.isfinite(batch.energies[row]):
                events[LOST] = events.get(LOST, 0) + 1
                continue
            here[k] = replace(
                walker,
                energy=float(batch.energies[row]),
                foundation_energy=float(batch.foundation_energies[row]),
                uncertainty=float(batch.uncertainties[row]),
            )
        return replace(judged, held=tuple(here), here=tuple(here), events=events)

    def judged(self, state: BHState, evaluated: Sequence[Evaluated]) -> BHState:
        """The walkers after Metropolis on the reference energies of their trials."""
        rng = restored_generator(state.rng)
        known = {name: item.energy for item in evaluated for name in item.names}
        held, references, history = list(state.held), state.references.copy(), state.history.copy()
        events: Counter[str] = Counter()
        for k, (trial, draw) in enumerate(zip(state.trials, rng.random(len(state.trials)), strict=True)):
            if trial is None:
                continue
            if trial.id not in known:
                events[NOT_EVALUATED] += 1
                continue
            new, old = known[trial.id], references[k]
            accepted = held[k] is None or bool(draw < metropolis_probability(new, old, self.settings.kT))
            history[k, :-1] = history[k, 1:]
            history[k, -1] = accepted
            if accepted:
                held[k], references[k] = trial, new
            else:
                events[REJECTED] += 1
        return replace(
            state,
            held=tuple(held),
            references=references,
            here=tuple(held),
            trials=(None,) * len(held),
            history=history,
            events=dict(events),
            rng=generator_state(rng),
        )

    def step(self, state: BHState, potential: Potential) -> StepResult[BHState]:
        """One iteration of all walkers at a fixed model."""
        rng = restored_generator(state.rng)
        iteration = state.iteration + 1
        proposals, impossible, events = self._propose(state, rng)
        results = relax_proposals(
            list(proposals.values()),
            potential,
            self.settings.relax,
            self.problem,
            beside=energies_of(*state.here),
        )
        # What was evaluated stays in `held`: its reference energy is sound, whatever the model says of it.
        (here, trials), holes = out_of_holes([state.here, state.trials], results, self.problem)
        state = replace(state, here=here, trials=trials)
        relaxed = dict(zip(proposals, results, strict=True))
        accepted = self._judge(state, relaxed, rng.random(len(state.here)))
        new = [
            as_candidate(
                proposals[k], relaxed[k], token=state.token, iteration=iteration, walker=k, accepted=taken
            )
            if k in relaxed and relaxed[k].dropped is None
            else None
            for k, taken in enumerate(accepted)
        ]
        after = replace(
            state,
            iteration=iteration,
            done_in_round=state.done_in_round + 1,
            here=tuple(
                walker_of(c) if c is not None and c.accepted else old
                for c, old in zip(new, state.here, strict=True)
            ),
            trials=tuple(_lower(old, c) for c, old in zip(new, state.trials, strict=True)),
            events={},
            rng=generator_state(rng),
        )
        told = Counter(state.events) + events + holes
        statistics = replace(
            summarise(iteration, results, _acceptance(state), events=told),
            moves=count_moves(
                list(proposals.values()), results, [accepted[k] for k in proposals], impossible
            ),
        )
        return StepResult(after, [c for c in new if c is not None], statistics)

    def finished(self, state: BHState) -> bool:
        """Whether the round's iterations are done."""
        return state.done_in_round >= self.settings.iterations_per_round

    def next_round(
        self,
        state: BHState,
        potential: Potential,  # noqa: ARG002 (protocol)
        rng: np.random.Generator,
    ) -> BHState:
        """Begin a round; `inform` decides where from."""
        return replace(state, done_in_round=0, rng=generator_state(rng))

    def walkers(self, state: BHState) -> list[Candidate]:
        """The walkers' trials: a round is about their reference energies."""
        return [candidate_of(w, self.problem) for w in state.trials if w is not None]

    def load(self, blob: bytes) -> BHState:
        """The state whose `to_bytes` gave these bytes.

        Raises
        ------
        ValueError
            If they are of another method, version, problem or number of walkers.
        """
        state = BHState.from_bytes(blob)
        shape = (len(self.problem.moving), 3)
        if len(state.held) != self.settings.walkers or any(
            w is not None and w.positions.shape != shape for w in (*state.held, *state.here, *state.trials)
        ):
            raise ValueError("the stored state does not fit the search's walkers or atoms")
        return state

    def _propose(
        self, state: BHState, rng: np.random.Generator
    ) -> tuple[dict[int, Proposal], Counter[str], Counter[str]]:
        """Proposals by walker, how often each kind could not be made, and why walkers got none."""
        s = self.settings
        pool = [w.positions for w in state.held if w is not None]
        generator = Generator(self.problem, s.generators or GeneratorWeights(), pool)
        mover = Mover(self.problem, s.moves)
        proposals: dict[int, Proposal] = {}
        for k, walker in enumerate(state.here):
            if walker is None:
                # Later on the confinement is known to have room.
                made = generator.offer(rng, needed=state.iteration == 0 and not proposals)
                if made is not None:
                    proposals[k] = Proposal(made[1], made[0], ())
            else:
                atoms = some_placed(mover.rule, s.rattled * len(self.problem.numbers), rng)
                name, positions = mover.propose(walker.positions, s.amplitude, rng, atoms)
                proposals[k] = Proposal(positions, name, (walker.id,))
        return proposals, generator.impossible + mover.impossible, generator.events

    def _judge(self, state: BHState, relaxed: Mapping[int, Relaxed], draws: FloatArray) -> tuple[bool, ...]:
        """Metropolis on model energies; a dropped structure is a rejection."""
        kT = self.settings.kT
        return tuple(
            k in relaxed
            and relaxed[k].dropped is None
            and (w is None or bool(draw < metropolis_probability(relaxed[k].energy, w.energy, kT)))
            for k, (w, draw) in enumerate(zip(state.here, draws, strict=True))
        )


def _lower(old: Walker | None, new: Candidate | None) -> Walker | None:
    """The one of lower model energy, of those that there are."""
    if new is None or (old is not None and old.energy <= new.energy):
        return old
    return walker_of(new)


def _acceptance(state: BHState) -> tuple[float | None, ...]:
    """Per walker, over its last 10 verdicts on reference energies; None before the first."""
    return tuple(
        float((row == 1).sum() / (row >= 0).sum()) if (row >= 0).any() else None for row in state.history
    )
