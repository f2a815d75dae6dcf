"""What every search method shares: candidates, statistics, and a state that can be saved."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from godelta.arrays import FloatArray, pack_arrays, unpack_arrays
from godelta.foundation.base import Potential

# Tried, not dropped in the relaxation, accepted; and replaced by another kind as it could not be made.
MOVE_COUNTS = ("proposed", "relaxed", "accepted", "impossible")
_FORMAT = 1
_GENERATORS = {"PCG64": np.random.PCG64, "PCG64DXSM": np.random.PCG64DXSM, "Philox": np.random.Philox}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A structure proposed by a search.

    energy, foundation_energy, uncertainty are the potential's, in eV; the uncertainty is NaN while
    there is no correction. `id` is unique within a chain; `parents` are ids of earlier candidates.
    """

    id: str
    atoms: Atoms
    energy: float
    foundation_energy: float
    uncertainty: float
    iteration: int
    walker: int
    move: str
    parents: tuple[str, ...]
    accepted: bool
    converged: bool


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A structure with its reference energy [eV] and forces (N, 3) [eV/Å].

    `names` are the ids of all candidates that it is the evaluation of.
    """

    names: tuple[str, ...]
    positions: FloatArray
    energy: float
    forces: FloatArray


@dataclass(frozen=True, slots=True)
class Statistics:
    """What one step did.

    `best_energy` [eV] is the lowest of the step's candidates, None if all were dropped. `dropped`
    counts the reasons why structures were of no use, or were refused. `evaluations` counts structures
    evaluated by the potential, `calls` the batched calls. `acceptance` has one value per walker (over the
    last 10 moves, None before the first), `swaps` one per pair of neighbours in a step that tried them;
    both are empty for methods without. `moves` counts for each kind of move or generator what
    `MOVE_COUNTS` names.
    """

    iteration: int
    best_energy: float | None
    dropped: dict[str, int]
    evaluations: int
    calls: int
    acceptance: tuple[float | None, ...] = ()
    swaps: tuple[bool | None, ...] = ()
    moves: dict[str, dict[str, int]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, for storage."""
        return {**asdict(self), "acceptance": list(self.acceptance), "swaps": list(self.swaps)}


class SearchState(Protocol):
    """State of a search between two steps; immutable."""

    @property
    def iteration(self) -> int:
        """Iterations done since the chain began."""
        ...

    def to_bytes(self) -> bytes:
        """Everything needed to continue bit for bit."""
        ...

    @classmethod
    def from_bytes(cls, blob: bytes) -> Self:
        """Read what `to_bytes` wrote, without executing anything."""
        ...


S = TypeVar("S", bound=SearchState)


@dataclass(frozen=True, slots=True)
class StepResult(Generic[S]):
    """The state after a step, the candidates it proposed and its statistics."""

    state: S
    candidates: list[Candidate]
    statistics: Statistics


class SearchMethod(Protocol[S]):
    """A search of one problem: `start`, then `step` until `finished`, then `next_round`."""

    def start(self, potential: Potential, rng: np.random.Generator) -> S:
        """Begin a chain; the generator's state becomes part of the search's."""
        ...

    def step(self, state: S, potential: Potential) -> StepResult[S]:
        """One iteration at the given potential."""
        ...

    def finished(self, state: S) -> bool:
        """Whether the round's iterations are done."""
        ...

    def next_round(self, state: S, potential: Potential, rng: np.random.Generator) -> S:
        """Begin the next round, with a new model; random numbers come from `rng` from now on."""
        ...

    def walkers(self, state: S) -> list[Candidate]:
        """The structures that the search stands on; none for methods without walkers."""
        ...

    def load(self, blob: bytes) -> S:
        """The state whose `to_bytes` gave these bytes.

        Raises
        ------
        ValueError
            If the bytes are of another method or version, or do not fit the problem.
        """
        ...


@runtime_checkable
class InformedMethod(SearchMethod[S], Protocol[S]):
    """A search that needs reference energies, which it is told once, at the beginning of a round."""

    def inform(self, state: S, evaluated: Sequence[Evaluated], potential: Potential) -> S:
        """The state after `start` or `next_round`, with what a round has to know of the evaluations."""
        ...


def generator_state(rng: np.random.Generator) -> dict[str, Any]:
    """The state of a generator as JSON values."""
    state = json.loads(json.dumps(rng.bit_generator.state, default=lambda a: a.tolist()))
    if state["bit_generator"] not in _GENERATORS:
        raise ValueError(f"the random generator {state['bit_generator']} cannot be stored: use PCG64")
    return dict(state)


def restored_generator(state: Mapping[str, Any]) -> np.random.Generator:
    """A generator that continues where `generator_state` was taken."""
    bits = _GENERATORS[state["bit_generator"]]()
    bits.state = dict(state)
    return np.random.Generator(bits)


def chain_token(rng: np.random.Generator) -> str:
    """Eight hexadecimal digits that tell the candidates of one chain from another's."""
    return f"{int(rng.integers(2**32)):08x}"


def pack_state(method: str, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Store JSON values and named arrays as npz bytes."""
    text = json.dumps({"format": _FORMAT, "method": method, **values}, allow_nan=False)
    return pack_arrays({**arrays, "json": np.frombuffer(text.encode(), dtype=np.uint8)})


def unpack_state(method: str, blob: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read what `pack_state` stored.

    Raises
    ------
    ValueError
        If the bytes belong to another method or another version of the format.
    """
    arrays = unpack_arrays(blob)
    values = json.loads(arrays.pop("json").tobytes())
    if values.pop("method") != method or values.pop("format") != _FORMAT:
        raise ValueError(f"these bytes are no state of the search method {method} of this version")
    return values, arrays
