"""What a report tells of a campaign, as plain data. Energies in eV, times in seconds or UTC."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from ase import Atoms

from godelta.arrays import FloatArray, IntArray

REFINEMENT = "refinement"


@dataclass(frozen=True)
class Found:
    """One of the lowest structures.

    Parameters
    ----------
    atoms
        With energy and forces of the reference.
    foundation_energy, model_energy, uncertainty
        As they were before the evaluation; no uncertainty where there was no Δ-model.
    chain
        What its chain is called.
    number
        Of its evaluation, counted from 1 in the order in which they ended; None where that is not known.
    found
        How many evaluations of the search found it.
    refinement
        How far its refinement is; None where it is not refined.
    fmax
        Largest reference force on a moving atom, eV/Å.
    """

    structure_id: str
    atoms: Atoms
    energy: float
    energy_per_atom: float
    foundation_energy: float
    model_energy: float
    uncertainty: float | None
    chain: str
    round: int
    number: int | None
    found: int
    refinement: str | None
    fmax: float | None


@dataclass(frozen=True)
class History:
    """All evaluations that have ended, in that order: (n,) arrays, NaN for what is not known.

    `predicted` is foundation + Δ before the evaluation, with its `deviations`; `chains` and `rounds` are
    where a structure was proposed first, and `names` what chains are called that have more than a number.
    """

    energies: FloatArray
    foundation: FloatArray
    predicted: FloatArray
    deviations: FloatArray
    chains: IntArray
    rounds: IntArray
    names: Mapping[int, str] = field(default_factory=dict)

    @property
    def ok(self) -> "np.ndarray[Any, np.dtype[np.bool_]]":
        """(n,) whether they were good."""
        known: np.ndarray[Any, np.dtype[np.bool_]] = np.isfinite(self.energies)
        return known


@dataclass(frozen=True)
class RoundRow:
    """One round: what was selected and evaluated in it, and its walkers' acceptance at its end."""

    chain: str
    round: int
    state: str
    selected: int
    ok: int
    failed: int
    best_energy: float | None
    acceptance: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class SwapRow:
    """Exchanges between two neighbours of a ladder."""

    tried: int
    done: int


@dataclass(frozen=True)
class MoveRow:
    """What became of one kind of move or generator."""

    move: str
    proposed: int
    relaxed: int
    accepted: int
    impossible: int
    evaluated: int
    failed: int
    improved: int


@dataclass(frozen=True)
class ModelRow:
    """One Δ-model: what it learnt from, its leave-one-out error, and how it did in the next round."""

    chain: str
    after_round: int
    model_id: str
    evaluations: int
    loo_rmse: float | None
    loo_z: float | None
    next_n: int
    next_mae: float | None
    next_z: float | None


@dataclass(frozen=True)
class FailureRow:
    """A reason why evaluations failed, how often, and what was said of the latest one."""

    reason: str
    count: int
    message: str


@dataclass(frozen=True)
class CostRow:
    """One role: what it did, and for how long. Processor time is None where it was not recorded."""

    role: str
    count: str
    wall_s: float
    cpu_s: float | None


@dataclass(frozen=True)
class RefinedRow:
    """A structure that is refined: from where, to where."""

    structure_id: str
    start_id: str
    status: str
    evaluations: int
    start_energy: float | None
    energy: float
    fmax: float


@dataclass(frozen=True)
class Provenance:
    """All that it takes to do the same again.

    Parameters
    ----------
    file
        The campaign file, complete.
    extra_files
        Files that it names, by name.
    hashes
        By what they are of.
    """

    file: str
    extra_files: Mapping[str, str]
    hashes: Mapping[str, str]
    versions: Mapping[str, str]
    seed: int


@dataclass(frozen=True)
class CampaignData:
    """A campaign at one time.

    Parameters
    ----------
    told
        Facts in words, by name: foundation, reference, method and the like.
    held_out
        Errors and deviations of evaluations that the latest models were not shown.
    ladder
        kT of each walker in eV, where the method has a ladder of them.
    swaps
        Between each two neighbours of it.
    refinement
        In a sentence; None where nothing is refined.
    """

    name: str
    system: str
    state: str
    reason: str | None
    told: Sequence[tuple[str, str]]
    method: str
    has_delta: bool
    budget: int
    evaluated: int
    failed: int
    closed_rounds: int
    elapsed_s: float
    created_at: datetime
    changed_at: datetime
    read_at: datetime
    best: Sequence[Found]
    history: History
    rounds: Sequence[RoundRow]
    models: Sequence[ModelRow]
    held_out: tuple[FloatArray, FloatArray] | None
    ladder: Sequence[float]
    swaps: Sequence[SwapRow]
    moves: Sequence[MoveRow]
    failures: Sequence[FailureRow]
    costs: Sequence[CostRow]
    worker_s: float
    refinement: str | None
    refined: Sequence[RefinedRow]
    provenance: Provenance
