"""Plain random structure search and basin hopping: structures are relaxed in the reference itself.

No model is learnt. They show what one is worth, and what a potential costs that needs none. Each step of a
relaxation is one evaluation, and one round.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from godelta.arrays import FloatArray
from godelta.foundation.base import Potential
from godelta.search.hessian import model_hessian, quasi_newton_step
from godelta.search.mover import Generator, Mover
from godelta.search.moves import some_placed
from godelta.search.proposals import Proposal, relax_proposals, structure_at, summarise
from godelta.search.proposals import candidate as as_candidate
from godelta.search.replica_exchange import metropolis_probability
from godelta.search.settings import REFERENCE_STEP, BHSettings, RelaxSettings, RSSSettings
from godelta.search.state import (
    MOVE_COUNTS,
    Candidate,
    Evaluated,
    StepResult,
    chain_token,
    generator_state,
    pack_state,
    restored_generator,
    unpack_state,
)
from godelta.search.weights import GeneratorWeights, MoveWeights
from godelta.systems.geometry import MinimumImage
from godelta.systems.problem import SearchProblem

NEAR = 3.0  # Å; as far as basin hopping rattles
GIVEN_UP = "relaxation given up: an evaluation failed, or the structure left the confinement"
REJECTED = "minimum rejected by Metropolis"


@dataclass(frozen=True)
class Descent:
    """A structure that is relaxed in the reference, and the minimum that its walker came from.

    Parameters
    ----------
    positions
        (N, 3) in Å of the structure to be evaluated next.
    hessian
        (3 m, 3 m) of the m moving atoms, eV/Å².
    old
        (2, 3 m): coordinates and forces of the step before; empty before the first one.
    steps
        Evaluations so far.
    move, parents, pending
        What made the structure, from which candidates, and the id under which it is being evaluated.
    held, held_energy, held_name
        The walker's minimum (N, 3), its reference energy in eV and its id; none: empty, NaN and "".
    """

    positions: FloatArray
    hessian: FloatArray
    move: str
    parents: tuple[str, ...] = ()
    old: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    steps: int = 0
    pending: str = ""
    held: FloatArray = field(default_factory=lambda: np.zeros((0, 3)))
    held_energy: float | None = None
    held_name: str = ""


_ARRAYS = ("positions", "hessian", "old", "held")


@dataclass(frozen=True)
class PlainState:
    """State of a plain search; immutable."""

    token: str
    iteration: int
    done_in_round: int
    walkers: tuple[Descent, ...]
    events: dict[str, int]
    moves: dict[str, dict[str, int]]
    rng: dict[str, Any]

    def to_bytes(self) -> bytes:
        """Everything needed to continue bit for bit."""
        plain = [
            {key: value for key, value in vars(walker).items() if key not in _ARRAYS}
            for walker in self.walkers
        ]
        arrays = {
            f"{name}_{k}": getattr(walker, name) for k, walker in enumerate(self.walkers) for name in _ARRAYS
        }
        values = {key: value for key, value in vars(self).items() if key != "walkers"}
        return pack_state("plain", {**values, "walkers": plain}, arrays)

    @classmethod
    def from_bytes(cls, blob: bytes) -> Self:
        """Read what `to_bytes` wrote.

        Raises
        ------
        ValueError
            If the bytes are no state of this method and version.
        """
        values, arrays = unpack_state("plain", blob)
        walkers = tuple(
            Descent(
                **{
                    **plain,
                    "parents": tuple(plain["parents"]),
                    **{name: arrays[f"{name}_{k}"] for name in _ARRAYS},
                }
            )
            for k, plain in enumerate(values.pop("walkers"))
        )
        return cls(**values, walkers=walkers)


@dataclass(frozen=True)
class PlainSearch:
    """Random structures, or hops between minima, relaxed in the reference; one evaluation for each step.

    A relaxation ends when no reference force is above `relax.fmax`, after `relax.steps` steps, or when an
    evaluation fails. Random structure search begins another one then; basin hopping decides by Metropolis
    on reference energies where its walker goes on from, as in arXiv 2507.18485.
    """

    settings: RSSSettings | BHSettings
    problem: SearchProblem

    def start(self, potential: Potential, rng: np.random.Generator) -> PlainState:  # noqa: ARG002 (protocol)
        """Begin a chain with random structures."""
        state = PlainState(chain_token(rng), 0, 0, (), {}, {}, {})
        counts: dict[str, dict[str, int]] = {}
        events: Counter[str] = Counter()
        walkers: list[Descent] = []
        for _ in range(self._count):
            near = walkers[-1] if walkers else None
            walkers.append(self._proposed(None, rng, events, counts, near))
        return replace(
            state, walkers=tuple(walkers), events=dict(events), moves=counts, rng=generator_state(rng)
        )

    def inform(
        self,
        state: PlainState,
        evaluated: Sequence[Evaluated],
        potential: Potential,  # noqa: ARG002 (protocol)
    ) -> PlainState:
        """Take each walker on, by the forces of its last evaluation."""
        known = {name: item for item in evaluated for name in item.names}
        rng = restored_generator(state.rng)
        events = Counter(state.events)  # of the start, not told yet
        counts = {move: dict(count) for move, count in state.moves.items()}
        walkers = tuple(self._taken_on(walker, known, rng, events, counts) for walker in state.walkers)
        return replace(state, walkers=walkers, events=dict(events), moves=counts, rng=generator_state(rng))

    def step(self, state: PlainState, potential: Potential) -> StepResult[PlainState]:
        """The structures to be evaluated, with the foundation's energies beside."""
        iteration = state.iteration + 1
        steps = [
            Proposal(walker.positions, REFERENCE_STEP if walker.steps else walker.move, walker.parents)
            for walker in state.walkers
        ]
        as_it_is = RelaxSettings(steps=0)
        relaxed = relax_proposals(steps, potential, as_it_is, self.problem, beside=None)
        walkers, candidates = list(state.walkers), list[Candidate]()
        for k, (step, result) in enumerate(zip(steps, relaxed, strict=True)):
            new = as_candidate(step, result, token=state.token, iteration=iteration, walker=k, accepted=True)
            walkers[k] = replace(walkers[k], pending=new.id)
            if result.dropped is None:
                candidates.append(new)
        statistics = replace(summarise(iteration, relaxed, events=state.events), moves=state.moves)
        after = replace(
            state,
            iteration=iteration,
            done_in_round=1,
            walkers=tuple(walkers),
            events={},
            moves={},
        )
        return StepResult(after, candidates, statistics)

    def finished(self, state: PlainState) -> bool:
        """Whether the round's step is taken."""
        return state.done_in_round > 0

    def next_round(
        self,
        state: PlainState,
        potential: Potential,  # noqa: ARG002 (protocol)
        rng: np.random.Generator,
    ) -> PlainState:
        """Begin the next round; `inform` takes the walkers on."""
        return replace(state, done_in_round=0, rng=generator_state(rng))

    def walkers(self, state: PlainState) -> list[Candidate]:  # noqa: ARG002 (protocol)
        """None: steps are evaluated as they are, equivalent to others or not."""
        return []

    def load(self, blob: bytes) -> PlainState:
        """The state whose `to_bytes` gave these bytes.

        Raises
        ------
        ValueError
            If they are of another method, version, problem or number of walkers.
        """
        state = PlainState.from_bytes(blob)
        shape = (len(self.problem.moving), 3)
        if len(state.walkers) != self._count or any(w.positions.shape != shape for w in state.walkers):
            raise ValueError("the stored state does not fit the search's walkers or atoms")
        return state

    @property
    def _count(self) -> int:
        s = self.settings
        return s.batch if isinstance(s, RSSSettings) else s.walkers

    def _taken_on(
        self,
        walker: Descent,
        known: Mapping[str, Evaluated],
        rng: np.random.Generator,
        events: Counter[str],
        counts: dict[str, dict[str, int]],
    ) -> Descent:
        """The walker with the next structure to be evaluated."""
        here = known.get(walker.pending)
        if not walker.pending:
            return walker  # at the beginning
        moving, placed = self.problem.moving, self.problem.placed
        if here is None:
            events[GIVEN_UP] += 1
            return self._proposed(walker, rng, events, counts)
        forces = here.forces.copy()
        forces[placed] += self.problem.confinement.wall_energy(here.positions[placed])[1]
        f = forces[moving]
        relax = self.settings.relax
        if (f**2).sum(axis=1).max(initial=0.0) < relax.fmax**2 or walker.steps >= relax.steps:
            _count(counts, walker.move, "relaxed")
            judged = self._judged(walker, here, rng, events, counts)
            return self._proposed(judged, rng, events, counts)
        x = here.positions[moving].ravel()
        hessian = walker.hessian.copy()
        old = (walker.old[0], walker.old[1]) if walker.steps else None
        positions = here.positions.copy()
        positions[moving] += quasi_newton_step(hessian, x, f.ravel(), old, relax.max_step)
        return replace(
            walker,
            positions=positions,
            hessian=hessian,
            old=np.array([x, f.ravel()]),
            steps=walker.steps + 1,
            parents=(walker.pending,),
            pending="",
        )

    def _judged(
        self,
        walker: Descent,
        minimum: Evaluated,
        rng: np.random.Generator,
        events: Counter[str],
        counts: dict[str, dict[str, int]],
    ) -> Descent:
        """The walker on the minimum that it goes on from."""
        if isinstance(self.settings, RSSSettings):
            _count(counts, walker.move, "accepted")
            return walker
        draw, old = rng.random(), walker.held_energy
        if old is not None and draw >= metropolis_probability(minimum.energy, old, self.settings.kT):
            events[REJECTED] += 1
            return walker
        _count(counts, walker.move, "accepted")
        name = walker.pending
        return replace(walker, held=minimum.positions, held_energy=minimum.energy, held_name=name)

    def _proposed(
        self,
        walker: Descent | None,
        rng: np.random.Generator,
        events: Counter[str],
        counts: dict[str, dict[str, int]],
        near: Descent | None = None,
    ) -> Descent:
        """The walker with a new structure to relax; a new walker may begin `near` another one."""
        s = self.settings
        parents: tuple[str, ...] = ()
        if isinstance(s, RSSSettings) or walker is None or not walker.held_name:
            name, positions, parents = self._begun(near if walker is None else walker, rng, events)
        else:
            mover = Mover(self.problem, s.moves)
            atoms = some_placed(mover.rule, s.rattled * len(self.problem.numbers), rng)
            name, positions = mover.propose(walker.held, s.amplitude, rng, atoms)
            parents = (walker.held_name,)
        _count(counts, name, "proposed")
        image = MinimumImage.of(self.problem.template.cell.array, self.problem.template.pbc)
        hessian = model_hessian(structure_at(self.problem, positions), self.problem.moving, image)
        new = Descent(positions, hessian, name, parents)
        if walker is None:
            return new
        return replace(new, held=walker.held, held_energy=walker.held_energy, held_name=walker.held_name)

    def _begun(
        self, near: Descent | None, rng: np.random.Generator, events: Counter[str]
    ) -> tuple[str, FloatArray, tuple[str, ...]]:
        """A structure to begin from, where none fits a rattle of `near`: its kind, positions and parents."""
        weights = self.settings.generators or GeneratorWeights()
        generator = Generator(self.problem, weights, [], events=events)
        if near is None:
            return (*generator.make(rng), ())
        made = generator.offer(rng)
        if made is not None:
            return (*made, ())
        mover = Mover(self.problem, MoveWeights(rattle=1.0, permutation=0.0))
        return (*mover.propose(near.positions, NEAR, rng), (near.pending,) if near.pending else ())


def _count(counts: dict[str, dict[str, int]], move: str, what: str) -> None:
    counts.setdefault(move, dict.fromkeys(MOVE_COUNTS, 0))[what] += 1
