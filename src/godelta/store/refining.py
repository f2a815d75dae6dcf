"""How far a campaign's refinement is, and the steps that it took, from what the database holds."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from godelta.arrays import FloatArray
from godelta.campaign import CampaignConfig
from godelta.errors import InputError
from godelta.search.settings import REFINEMENT
from godelta.store import evaluations, rounds, structures
from godelta.store.database import Raw, Store
from godelta.store.documents import (
    REFINEMENT_CHAIN,
    CampaignDocument,
    RoundDocument,
    RoundState,
    StructureDocument,
)
from godelta.store.stopping import end_of_refinement

STATUSES = ("converged", "running", "spent", "stuck", "failed")
TRACKS = f"statistics.{REFINEMENT}.tracks"  # field of a round
REFINED = ("chain", "k", "state", "selection", TRACKS)  # what a count of raw rounds needs
OVER = ("finished", "failed", "cancelled")  # states of a campaign in which nothing is refined


@dataclass(frozen=True)
class RefinementCount:
    """A refinement in numbers.

    Parameters
    ----------
    structures
        How many are, or were, refined.
    statuses
        Of these, how many have each of `STATUSES`.
    evaluations
        Chosen so far, beyond `budget.evaluations`.
    active
        Whether it goes on.
    """

    structures: int
    statuses: dict[str, int]
    evaluations: int
    active: bool

    @classmethod
    def of(cls, statuses: Iterable[str], evaluations: int, last: RoundState, campaign_state: str) -> Self:
        """Count the statuses of the tracks; `last` is the state of the refinement's latest round."""
        counted = Counter(statuses)
        told = {status: counted[status] for status in STATUSES if counted[status]}
        goes_on = last != "closed" or counted["running"] > 0
        return cls(counted.total(), told, evaluations, goes_on and campaign_state not in OVER)

    def __str__(self) -> str:
        return f"{'refining' if self.active else 'refined'}: {self.told}"

    @property
    def told(self) -> str:
        """How far it is, in a few words."""
        if not self.structures:
            return "the first steps are not made yet" if self.active else "nothing"
        ended = [f"{self.statuses[name]} {name}" for name in STATUSES[2:] if name in self.statuses]
        converged = f"{self.statuses.get('converged', 0)} of {self.structures} converged"
        return ", ".join([converged, *ended])


@dataclass(frozen=True)
class RefinedStructure:
    """One structure on its way to a minimum of the reference: where it began, and where it stands.

    Energies in eV; `fmax` is the largest reference force on a moving atom, eV/Å.
    """

    start: str
    at: str
    status: str
    start_energy: float | None
    energy: float
    fmax: float
    evaluations: int


@dataclass(frozen=True)
class RefinementStatus:
    """A campaign's refinement.

    Parameters
    ----------
    best, fmax
        What is asked for: so many of the lowest structures, down to forces of so many eV/Å.
    round, state
        Its latest round.
    each
        What is refined, the lowest first; what an evaluation under way gives is not in it.
    ended
        Why no other round follows; None where one does.
    """

    best: int
    fmax: float
    round: int
    state: RoundState
    count: RefinementCount
    each: list[RefinedStructure] = field(default_factory=list)
    ended: str | None = None


def count_of_rounds(own: Sequence[Raw], campaign_state: str) -> RefinementCount | None:
    """Count what is refined, from the refinement's raw rounds in the order of k; None where there is none."""
    if not own:
        return None
    known = [told["tracks"] for raw in own if (told := raw.get("statistics", {}).get(REFINEMENT))]
    statuses = [track["status"] for track in known[-1]] if known else []
    chosen = {structure_id for raw in own for structure_id in raw["selection"]}
    return RefinementCount.of(statuses, len(chosen), own[-1]["state"], campaign_state)


def refinement_status(
    store: Store, campaign: CampaignDocument, config: CampaignConfig
) -> RefinementStatus | None:
    """How far a campaign's refinement is; None where it has not begun."""
    own = rounds.rounds_of(store, campaign.campaign_id, REFINEMENT_CHAIN)
    if not own:
        return None
    last = own[-1]
    tracks = _tracks(own)
    chosen = {structure_id for round_ in own for structure_id in round_.selection}
    energies = _energies(store, campaign, [track["start"] for track in tracks])
    found = [RefinedStructure(**track, start_energy=energies.get(track["start"])) for track in tracks]
    statuses = [one.status for one in found]
    return RefinementStatus(
        config.refine.best,
        config.refine.fmax,
        last.k,
        last.state,
        RefinementCount.of(statuses, len(chosen), last.state, campaign.state),
        sorted(found, key=lambda one: (one.energy, one.start)),
        end_of_refinement(store, campaign.campaign_id, config, last),
    )


def latest_tracks(store: Store, campaign_id: str) -> list[dict[str, Any]]:
    """Where each structure that is refined stands, as the refinement's last job tells; [] without one.

    Each has start and at (structure ids), status, energy [eV], fmax [eV/Å] and evaluations.
    """
    query = {"campaign_id": campaign_id, "chain": REFINEMENT_CHAIN, TRACKS: {"$exists": True}}
    raw = store.rounds.find_one(query, {TRACKS: 1}, sort=[("k", -1)])
    return [] if raw is None else list(raw["statistics"][REFINEMENT]["tracks"])


def _tracks(own: Sequence[RoundDocument]) -> list[dict[str, Any]]:
    known = [told["tracks"] for round_ in own if (told := round_.statistics.get(REFINEMENT))]
    return list(known[-1]) if known else []


def _energies(store: Store, campaign: CampaignDocument, structure_ids: Sequence[str]) -> dict[str, float]:
    """Reference energies in eV of evaluated structures, by id."""
    documents = structures.get_structures(store, structure_ids)
    hashes = [document.structure_hash for document in documents]
    known = evaluations.energies(store, hashes, campaign.reference_hash)
    return {one.structure_id: known[one.structure_hash] for one in documents if one.structure_hash in known}


@dataclass(frozen=True)
class RefinementSteps:
    """The evaluated steps of a campaign's refinements, by id of the structure.

    Parameters
    ----------
    before
        For each step the structure that it was taken from.
    tracks
        As `latest_tracks`.
    """

    before: Mapping[str, str]
    tracks: Sequence[Mapping[str, Any]]

    def start_of(self, structure_id: str) -> str:
        """The structure that the refinement of a step began from; of another structure itself."""
        seen = {structure_id}
        while (one := self.before.get(structure_id)) is not None and one not in seen:
            seen.add(one)
            structure_id = one
        return structure_id

    def path(self, structure_id: str) -> list[str]:
        """From the start to a step, both included."""
        found = [structure_id]
        while (one := self.before.get(found[-1])) is not None and one not in found:
            found.append(one)
        return found[::-1]

    def track_of(self, structure_id: str) -> Mapping[str, Any] | None:
        """The refinement that began from a structure, or that it is a step of."""
        start = self.start_of(structure_id)
        return next((track for track in self.tracks if track["start"] == start), None)


def refinement_steps(store: Store, campaign_id: str) -> RefinementSteps:
    """What each step of a campaign's refinements was taken from."""
    tracks = latest_tracks(store, campaign_id)
    if not tracks:
        return RefinementSteps({}, [])
    own = rounds.rounds_of(store, campaign_id, REFINEMENT_CHAIN)
    wanted = {i for round_ in own for i in round_.selection}
    steps = {document.structure_id: document for document in structures.get_structures(store, wanted)}
    starts = {track["start"] for track in tracks}
    names = {
        name: document.structure_id
        for document in structures.get_structures(store, starts)
        for name in document.candidate_ids
    }
    before: dict[str, str] = {}
    for round_ in own:
        for structure_id in round_.selection:
            if structure_id not in steps or structure_id in starts:
                continue
            seen = steps[structure_id].as_seen_in(round_.chain, round_.k)
            names[seen.candidate_id] = structure_id
            parents = [names[parent] for parent in seen.parents if parent in names]
            before |= {structure_id: parents[0]} if parents else {}
    return RefinementSteps(before, tracks)


def trajectory(store: Store, campaign: CampaignDocument, start: str, *, every: bool = False) -> list[Raw]:
    """The refinement of one structure, step by step.

    Parameters
    ----------
    start
        Beginning of the id of the structure that it began from, or of any step.
    every
        Steps that were not taken as well: those that led up.

    Returns
    -------
    list of dict
        As of `godelta.store.structures.best`, from the first to the last; rank counts from 0, the structure
        that it began from. `fmax` is the largest reference force on a moving atom, eV/Å.

    Raises
    ------
    InputError
        There is no such structure in the campaign, or it was not refined.
    """
    document = structures.find_structure(store, start)
    steps = refinement_steps(store, campaign.campaign_id)
    track = steps.track_of(document.structure_id)
    if document.campaign_id != campaign.campaign_id or track is None:
        known = ", ".join(sorted({str(one["at"])[:8] for one in steps.tracks}))
        raise InputError(
            f"no refinement of {campaign.name} began from this structure, or led to it",
            where=start,
            mend=f"it has refined: {known}" if known else "`refine: {best: 3}` in the campaign file refines",
        )
    wanted = steps.path(track["at"])
    if every:
        others = [one for one in steps.before if steps.start_of(one) == track["start"]]
        wanted = [track["start"], *others]
    rows = {row["structure_id"]: row for row in _rows(store, campaign, wanted)}
    found = [rows[structure_id] for structure_id in wanted if structure_id in rows]
    forces = largest_forces(store, found)
    return [
        {**row, "rank": rank, "fmax": fmax}
        for rank, (row, fmax) in enumerate(zip(found, forces, strict=True))
    ]


def _rows(store: Store, campaign: CampaignDocument, structure_ids: Sequence[str]) -> list[Raw]:
    """Rows of those of these structures whose evaluation is good."""
    asked = {
        "requests.structure_id": {"$in": list(structure_ids)},
        "reference_hash": campaign.reference_hash,
        "state": "ok",
    }
    return [
        structures.result_row(raw, request)
        for raw in store.evaluations.find(asked, structures.RESULT_FIELDS)
        for request in raw["requests"]
        if request["structure_id"] in structure_ids
    ]


def largest_forces(store: Store, rows: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """The largest reference force on a moving atom of each row's structure in eV/Å; None where it is lost."""
    documents = {
        one.structure_id: one
        for one in structures.get_structures(store, [row["structure_id"] for row in rows])
    }
    hashes = [one.structure_hash for one in documents.values()]
    query = {"structure_hash": {"$in": hashes}, "state": "ok"}
    wanted = ("structure_hash", "reference_hash", "forces")
    forces = {
        (raw["structure_hash"], raw["reference_hash"]): raw["forces"]
        for raw in store.evaluations.find(query, wanted)
    }
    found: list[float | None] = []
    for row in rows:
        document = documents.get(row["structure_id"])
        known = None if document is None else forces.get((document.structure_hash, row["reference_hash"]))
        found.append(None if document is None or known is None else _largest(document, np.asarray(known)))
    return found


def _largest(document: StructureDocument, forces: FloatArray) -> float:
    moving = np.ones(len(forces), dtype=np.bool_)
    moving[list(document.fixed)] = False
    return float(np.linalg.norm(forces[moving], axis=1).max(initial=0.0))
