"""Replica exchange (REX): a ladder of Metropolis walkers on the model (arXiv 2507.18485)."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from godelta.arrays import FloatArray, IntArray
from godelta.foundation.base import Potential
from godelta.search.mover import Generator, Mover
from godelta.search.proposals import Proposal, count_moves, relax_proposals, structure_at, summarise
from godelta.search.proposals import candidate as as_candidate
from godelta.search.relax import Relaxed
from godelta.search.rex_state import HISTORY, REXState, Walker
from godelta.search.settings import REXSettings
from godelta.search.state import Candidate, StepResult, chain_token, generator_state, restored_generator
from godelta.search.walkers import candidate_of, energies_of, out_of_holes, walker_of
from godelta.search.weights import GeneratorWeights
from godelta.systems.problem import SearchProblem

Walkers = list[Walker | None]
SHRINK, GROW = 0.99, 1.01
AMPLITUDE_RANGE = (0.01, 5.0)  # Å; wider where the settings begin outside of it


def metropolis_probability(new: float, old: float, kT: float) -> float:
    """Probability to accept a move from energy `old` to `new` [eV] at kT [eV]."""
    return float(np.exp(min(0.0, -(new - old) / kT)))


def swap_probability(energies: tuple[float, float], kTs: tuple[float, float]) -> float:
    """Probability to exchange the structures of two rungs: min(1, exp[(b_i - b_j)(E_i - E_j)]), b = 1/kT.

    It keeps the product of both Boltzmann distributions (Swendsen and Wang, Phys. Rev. Lett. 57,
    2607 (1986)): always 1 where the colder rung holds the higher energy.
    """
    return float(np.exp(min(0.0, (1 / kTs[0] - 1 / kTs[1]) * (energies[0] - energies[1]))))


@dataclass(frozen=True)
class ReplicaExchange:
    """Rungs of rising kT; all rattle, relax in one batch, and accept by Metropolis on model energies.

    The top rung takes a fresh random structure every time. Every `swap_every` iterations one sweep,
    from the coldest pair up, exchanges structures of neighbours; kT and amplitude stay with the
    rung. An empty rung (at the start, or as long as its structures are dropped) takes random
    structures too. Where no random structure fits, an empty rung waits and the top one rattles.
    """

    settings: REXSettings
    problem: SearchProblem

    @property
    def ladder(self) -> FloatArray:
        """(W,) kT of the rungs in eV, geometric, coldest first."""
        s = self.settings
        return np.geomspace(s.kT_min, s.kT_max, s.walkers)

    def start(self, potential: Potential, rng: np.random.Generator) -> REXState:  # noqa: ARG002 (protocol)
        """An empty ladder; the first iteration fills it with relaxed random structures."""
        s = self.settings
        return REXState(
            token=chain_token(rng),
            iteration=0,
            done_in_round=0,
            walkers=(None,) * s.walkers,
            amplitudes=np.linspace(s.amplitude_min, s.amplitude_max, s.walkers),
            history=np.full((s.walkers, HISTORY), -1, dtype=np.int64),
            rng=generator_state(rng),
        )

    def step(self, state: REXState, potential: Potential) -> StepResult[REXState]:
        """One iteration of all rungs at a fixed model."""
        rng = restored_generator(state.rng)
        iteration = state.iteration + 1
        proposals, impossible, events = self._propose(state, rng)
        results = relax_proposals(
            list(proposals.values()),
            potential,
            self.settings.relax,
            self.problem,
            beside=energies_of(*state.walkers),
        )
        (left,), holes = out_of_holes([state.walkers], results, self.problem)
        state = replace(state, walkers=left)
        relaxed = dict(zip(proposals, results, strict=True))
        accepted = self._judge(state, proposals, relaxed, rng)
        # Walkers kept from the round before are candidates of this one too, at its model.
        kept = [w for w in self.walkers(state) if state.done_in_round == 0]
        new = [
            as_candidate(
                proposals[k], relaxed[k], token=state.token, iteration=iteration, walker=k, accepted=taken
            )
            if k in relaxed and relaxed[k].dropped is None
            else None
            for k, taken in enumerate(accepted)
        ]
        walkers = [
            walker_of(c) if c is not None and c.accepted else old
            for c, old in zip(new, state.walkers, strict=True)
        ]
        history = _recorded(state, proposals, accepted)
        swaps = self._swap(walkers, rng) if iteration % self.settings.swap_every == 0 else ()
        after = replace(
            state,
            iteration=iteration,
            done_in_round=state.done_in_round + 1,
            walkers=tuple(walkers),
            amplitudes=self._adapted(state.amplitudes, history),
            history=history,
            rng=generator_state(rng),
        )
        statistics = replace(
            summarise(iteration, results, _acceptance(history), swaps, events + holes),
            moves=count_moves(
                list(proposals.values()), results, [accepted[k] for k in proposals], impossible
            ),
        )
        return StepResult(after, kept + [c for c in new if c is not None], statistics)

    def finished(self, state: REXState) -> bool:
        """Whether the round's iterations are done."""
        return state.done_in_round >= self.settings.iterations_per_round

    def next_round(self, state: REXState, potential: Potential, rng: np.random.Generator) -> REXState:
        """Begin a round: the walkers' energies are predicted anew, as the model has changed."""
        held = [(k, w) for k, w in enumerate(state.walkers) if w is not None]
        walkers: Walkers = [None] * len(state.walkers)
        if held:
            structures = [structure_at(self.problem, w.positions) for _, w in held]
            batch = potential.evaluate(structures, uncertainty=True)
            for row, (k, walker) in enumerate(held):
                if np.isfinite(batch.energies[row]):
                    walkers[k] = replace(
                        walker,
                        energy=float(batch.energies[row]),
                        foundation_energy=float(batch.foundation_energies[row]),
                        uncertainty=float(batch.uncertainties[row]),
                    )
        return replace(state, done_in_round=0, walkers=tuple(walkers), rng=generator_state(rng))

    def walkers(self, state: REXState) -> list[Candidate]:
        """The structures that the rungs hold, coldest first."""
        return [candidate_of(w, self.problem) for w in state.walkers if w is not None]

    def load(self, blob: bytes) -> REXState:
        """The state whose `to_bytes` gave these bytes.

        Raises
        ------
        ValueError
            If they are of another method, version, problem or number of walkers.
        """
        state = REXState.from_bytes(blob)
        shape = (len(self.problem.moving), 3)
        if len(state.walkers) != self.settings.walkers or any(
            w is not None and w.positions.shape != shape for w in state.walkers
        ):
            raise ValueError("the stored state does not fit the search's walkers or atoms")
        return state

    def _propose(
        self, state: REXState, rng: np.random.Generator
    ) -> tuple[dict[int, Proposal], Counter[str], Counter[str]]:
        """Proposals by rung, how often each kind could not be made, and why rungs got none of theirs."""
        s = self.settings
        pool = [w.positions for w in state.walkers if w is not None]
        generator = Generator(self.problem, s.generators or GeneratorWeights(), pool)
        mover = Mover(self.problem, s.move_weights())
        proposals: dict[int, Proposal] = {}
        for k, walker in enumerate(state.walkers):
            made = None
            if walker is None or k == len(state.walkers) - 1:
                # Later on the confinement is known to have room.
                made = generator.offer(rng, needed=state.iteration == 0 and not proposals)
            if made is not None:
                proposals[k] = Proposal(made[1], made[0], ())
            elif walker is not None:
                name, positions = mover.propose(walker.positions, float(state.amplitudes[k]), rng)
                proposals[k] = Proposal(positions, name, (walker.id,))
        return proposals, generator.impossible + mover.impossible, generator.events

    def _judge(
        self,
        state: REXState,
        proposals: Mapping[int, Proposal],
        relaxed: Mapping[int, Relaxed],
        rng: np.random.Generator,
    ) -> tuple[bool, ...]:
        """Metropolis; a dropped structure is a rejection, new ones and those of empty rungs are taken."""
        draws = rng.random(len(state.walkers))  # one per rung, whatever happens
        return tuple(
            k in relaxed
            and relaxed[k].dropped is None
            and (
                w is None
                or not proposals[k].parents
                or draw < metropolis_probability(relaxed[k].energy, w.energy, kT)
            )
            for k, (w, draw, kT) in enumerate(zip(state.walkers, draws, self.ladder, strict=True))
        )

    def _swap(self, walkers: Walkers, rng: np.random.Generator) -> tuple[bool | None, ...]:
        """One sweep over neighbours, in place; None where a rung is empty."""
        kT = self.ladder
        done: list[bool | None] = []
        for i, draw in enumerate(rng.random(len(walkers) - 1)):
            low, high = walkers[i], walkers[i + 1]
            if low is None or high is None:
                done.append(None)
                continue
            swap = bool(draw < swap_probability((low.energy, high.energy), (kT[i], kT[i + 1])))
            if swap:
                walkers[i], walkers[i + 1] = high, low
            done.append(swap)
        return tuple(done)

    def _adapted(self, amplitudes: FloatArray, history: IntArray) -> FloatArray:
        """Amplitudes moved towards an acceptance of one half over the last 10 iterations."""
        if not self.settings.adaptive:
            return amplitudes
        known = (history >= 0).all(axis=1)
        factor = np.where(history.mean(axis=1) < 0.5, SHRINK, GROW)
        low = min(AMPLITUDE_RANGE[0], self.settings.amplitude_min)
        high = max(AMPLITUDE_RANGE[1], self.settings.amplitude_max)
        return np.asarray(np.where(known, np.clip(amplitudes * factor, low, high), amplitudes))


def _recorded(state: REXState, proposals: Mapping[int, Proposal], accepted: tuple[bool, ...]) -> IntArray:
    """History with the last iteration; only rattling says something about a rung's amplitude."""
    history = state.history.copy()
    rattled = np.array([k in proposals and proposals[k].move == "rattle" for k in range(len(accepted))])
    history[rattled, :-1] = history[rattled, 1:]
    history[rattled, -1] = np.array(accepted, dtype=np.int64)[rattled]
    return history


def _acceptance(history: IntArray) -> tuple[float | None, ...]:
    """Per rung over the last 10 rattles; None before the first, and for a top rung that made none."""
    return tuple(float((row == 1).sum() / (row >= 0).sum()) if (row >= 0).any() else None for row in history)
