"""GOFEE: relaxations of E - kappa sigma, begun from random structures and rattled parents."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from godelta.arrays import FloatArray
from godelta.delta.settings import SOAPSettings
from godelta.delta.soap import SOAP
from godelta.foundation.base import Potential
from godelta.search.gofee_state import GOFEEState
from godelta.search.mover import Generator, Mover
from godelta.search.moves import some_placed
from godelta.search.parents import choose_parents
from godelta.search.proposals import Proposal, count_moves, relax_proposals, structure_at, summarise
from godelta.search.proposals import candidate as as_candidate
from godelta.search.selection import FOLLOW_UP
from godelta.search.settings import GOFEESettings
from godelta.search.state import (
    Candidate,
    Evaluated,
    StepResult,
    chain_token,
    generator_state,
    restored_generator,
)
from godelta.search.weights import GeneratorWeights
from godelta.systems.problem import SearchProblem

STIFFNESS = 70.0  # eV/Å²; the first step of ASE's BFGS, which the papers take
LONGEST = 0.2  # Å
AT_REST = "forces of an evaluated structure are below fmax: no step from it"
OUTSIDE = "a step from an evaluated structure leaves the confinement"


@dataclass(frozen=True)
class GOFEE:
    """Batches of candidates, relaxed on E - kappa sigma at the round's model.

    Parents are evaluated structures: of those that are low in energy, the lowest of each cluster of
    k-means on the summed SOAP descriptor. In the first iterations all candidates are random structures,
    later a share of them; the others are moved parents. With `follow_up` the structure that a round
    evaluates is moved by one step along its reference forces, and the next round evaluates that first.
    """

    settings: GOFEESettings
    problem: SearchProblem

    def start(self, potential: Potential, rng: np.random.Generator) -> GOFEEState:  # noqa: ARG002 (protocol)
        """Begin a chain."""
        return GOFEEState(
            token=chain_token(rng),
            iteration=0,
            done_in_round=0,
            parents=self._stacked([]),
            parent_names=(),
            steps=self._stacked([]),
            step_parents=(),
            followed=(),
            events={},
            rng=generator_state(rng),
        )

    def inform(
        self,
        state: GOFEEState,
        evaluated: Sequence[Evaluated],
        potential: Potential,  # noqa: ARG002 (protocol)
    ) -> GOFEEState:
        """Choose the round's parents, and take the steps from what the round before has evaluated."""
        rng = restored_generator(state.rng)
        seed = int(rng.integers(2**31))
        chosen = [evaluated[i] for i in self._parents(evaluated, seed)]
        state = replace(
            state,
            parents=self._stacked([parent.positions for parent in chosen]),
            parent_names=tuple(parent.names[0] for parent in chosen),
            steps=self._stacked([]),
            step_parents=(),
            events={},
            rng=generator_state(rng),
        )
        return self._with_steps(state, evaluated) if self.settings.follow_up else state

    def step(self, state: GOFEEState, potential: Potential) -> StepResult[GOFEEState]:
        """One batch of candidates, relaxed together; before the first one, the steps that wait."""
        s = self.settings
        rng = restored_generator(state.rng)
        iteration = state.iteration + 1
        proposals, impossible, events = self._propose(state, iteration, rng)
        relaxed = relax_proposals(proposals, potential, s.relax, self.problem, kappa=s.kappa)
        if len(state.steps):
            steps = [
                Proposal(positions, FOLLOW_UP, (name,))
                for positions, name in zip(state.steps, state.step_parents, strict=True)
            ]
            as_it_is = s.relax.model_copy(update={"steps": 0})
            known = [r.energy for r in relaxed if r.dropped is None]
            relaxed += relax_proposals(steps, potential, as_it_is, self.problem, beside=known)
            proposals += steps
        candidates = [
            as_candidate(p, r, token=state.token, iteration=iteration, walker=k, accepted=True)
            for k, (p, r) in enumerate(zip(proposals, relaxed, strict=True))
            if r.dropped is None
        ]
        after = replace(
            state,
            iteration=iteration,
            done_in_round=state.done_in_round + 1,
            steps=self._stacked([]),
            step_parents=(),
            followed=state.followed + tuple(c.id for c in candidates if c.move == FOLLOW_UP),
            events={},
            rng=generator_state(rng),
        )
        taken = [r.dropped is None for r in relaxed]
        statistics = replace(
            summarise(iteration, relaxed, events=Counter(state.events) + events),
            moves=count_moves(proposals, relaxed, taken, impossible),
        )
        return StepResult(after, candidates, statistics)

    def finished(self, state: GOFEEState) -> bool:
        """Whether the round's iterations are done."""
        return state.done_in_round >= self.settings.iterations_per_round

    def next_round(
        self,
        state: GOFEEState,
        potential: Potential,  # noqa: ARG002 (protocol)
        rng: np.random.Generator,
    ) -> GOFEEState:
        """Begin the next round; `inform` chooses its parents."""
        return replace(state, done_in_round=0, rng=generator_state(rng))

    def walkers(self, state: GOFEEState) -> list[Candidate]:  # noqa: ARG002 (protocol)
        """None: every iteration begins from the parents."""
        return []

    def load(self, blob: bytes) -> GOFEEState:
        """The state whose `to_bytes` gave these bytes.

        Raises
        ------
        ValueError
            If they are of another method, version or problem.
        """
        state = GOFEEState.from_bytes(blob)
        shape = self._stacked([]).shape[1:]
        if state.parents.shape[1:] != shape or state.steps.shape[1:] != shape:
            raise ValueError("the stored state does not fit the search's atoms")
        return state

    @cached_property
    def _soap(self) -> SOAP:
        numbers = np.concatenate([self.problem.template.numbers, self.problem.numbers])
        return SOAP(SOAPSettings(), [int(z) for z in np.unique(numbers)])

    def _stacked(self, positions: Sequence[FloatArray]) -> FloatArray:
        return np.reshape(np.asarray(positions, dtype=np.float64), (-1, len(self.problem.moving), 3))

    def _parents(self, evaluated: Sequence[Evaluated], seed: int) -> list[int]:
        if not evaluated:
            return []
        features = [
            self._soap.features(structure_at(self.problem, item.positions)).sum(axis=0) for item in evaluated
        ]
        energies = np.array([item.energy for item in evaluated])
        return [int(i) for i in choose_parents(energies, features, seed)]

    def _with_steps(self, state: GOFEEState, evaluated: Sequence[Evaluated]) -> GOFEEState:
        """With a step from each of the chain's own evaluations that none has been taken from, lowest first.

        Half of a round's evaluations may be steps; others wait for later rounds.
        """
        moving = self.problem.moving
        followed = set(state.followed)
        own = [
            (item.energy, names[0], item)
            for item in evaluated
            if not followed.intersection(item.names)
            and (names := [name for name in item.names if name.startswith(f"{state.token}-")])
        ]
        events: Counter[str] = Counter(state.events)
        taken: list[str] = []
        steps: list[tuple[str, FloatArray]] = []
        for _, name, item in sorted(own, key=lambda row: row[:2]):
            if len(steps) >= self.settings.selection.evaluations_per_round // 2:
                break
            taken.append(name)
            positions = item.positions.copy()
            positions[moving] += _downhill(item.forces[moving])
            if (item.forces[moving] ** 2).sum(axis=1).max() < self.settings.relax.fmax**2:
                events[AT_REST] += 1
            elif not self.problem.confinement.contains(positions[self.problem.placed]).all():
                events[OUTSIDE] += 1
            else:
                steps.append((name, positions))
        return replace(
            state,
            steps=self._stacked([positions for _, positions in steps]),
            step_parents=tuple(name for name, _ in steps),
            followed=state.followed + tuple(taken),
            events=dict(events),
        )

    def _propose(
        self, state: GOFEEState, iteration: int, rng: np.random.Generator
    ) -> tuple[list[Proposal], Counter[str], Counter[str]]:
        """The iteration's candidates, how often each kind could not be made, and why there are fewer."""
        s = self.settings
        generator = Generator(self.problem, s.generators or GeneratorWeights(), list(state.parents))
        mover = Mover(self.problem, s.moves)
        all_random = iteration <= s.random_until or not len(state.parents)
        proposals: list[Proposal] = []
        for k in range(s.candidates):
            if all_random or k < round(s.random_share * s.candidates):
                # Later on the confinement is known to have room.
                made = generator.offer(rng, needed=iteration == 1 and not proposals)
                if made is not None:
                    proposals.append(Proposal(made[1], made[0], ()))
                continue
            parent = int(rng.integers(len(state.parents)))
            atoms = some_placed(mover.rule, s.rattled, rng)
            name, positions = mover.propose(state.parents[parent], s.amplitude, rng, atoms)
            proposals.append(Proposal(positions, name, (state.parent_names[parent],)))
        return proposals, generator.impossible + mover.impossible, generator.events


def _downhill(forces: FloatArray) -> FloatArray:
    """The first step of BFGS with forces (m, 3) in eV/Å: displacements in Å."""
    step = forces / STIFFNESS
    longest = float(np.linalg.norm(step, axis=1).max(initial=0.0))
    return np.asarray(step * min(1.0, LONGEST / longest) if longest > 0 else step)
