"""What the database holds: one pydantic model per collection, and the identities of structures.

Units: eV, Å, eV/Å, seconds, UTC.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from ase.data import chemical_symbols
from ase.formula import Formula
from bson import ObjectId
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from godelta.errors import GodeltaError, InputError

SCHEMA_VERSION = 2
REFINEMENT_CHAIN = 1000  # beyond `budget.chains`: the chain whose rounds refine what all others have found
RESOLUTION = 1e-4  # Å; positions closer than this are the same structure

CampaignState = Literal["created", "running", "paused", "finished", "failed", "cancelled"]
RoundState = Literal["planned", "searching", "selected", "evaluating", "closed"]
EvaluationState = Literal["pending", "ok", "failed"]


def chain_number(chain: int) -> str:
    """What a column of chains shows: the number, or "refine"."""
    return "refine" if chain == REFINEMENT_CHAIN else str(chain)


def chain_title(chain: int) -> str:
    """What a sentence calls a chain."""
    return "refinement" if chain == REFINEMENT_CHAIN else f"chain {chain}"


def _in_utc(value: datetime) -> datetime:
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


Time = Annotated[datetime, AfterValidator(_in_utc)]
Vector = tuple[float, float, float]


def _name_of(raw: Mapping[str, Any]) -> str:
    """What a stored document is known by."""
    for field in ("name", "structure_id", "evaluation_id", "model_id", "campaign_id"):
        if field in raw:
            return str(raw[field])
    return str(raw.get("_id"))


class Document(BaseModel):
    """The base of every document: unknown keys are refused, newer versions too."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, arbitrary_types_allowed=True)

    schema_version: int = Field(SCHEMA_VERSION, ge=1, description="version of the document's layout")

    @classmethod
    def from_mongo(cls, raw: Mapping[str, Any]) -> Self:
        """Read what MongoDB returned.

        Raises
        ------
        GodeltaError
            Where a newer godelta wrote the document, or somebody else changed it.
        """
        version = raw.get("schema_version", SCHEMA_VERSION)
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise GodeltaError(
                f"a {cls.__name__} has schema version {version}, this godelta reads up to {SCHEMA_VERSION}",
                where=_name_of(raw),
                mend="upgrade godelta",
            )
        try:
            return cls.model_validate({key: value for key, value in raw.items() if key != "_id"})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"]))
            raise GodeltaError(
                f"a {cls.__name__} in the database is not as godelta writes it: `{field}`: {first['msg']}",
                where=_name_of(raw),
                mend="undo what was changed by hand, or restore a backup: `godelta db restore`",
            ) from error

    def to_mongo(self) -> dict[str, Any]:
        """The document as MongoDB stores it; floats are kept exactly."""
        return self.model_dump(mode="python")


@dataclass(frozen=True, slots=True)
class RoundKey:
    """One round: campaign, chain and number k from 0."""

    campaign_id: str
    chain: int
    k: int

    def query(self) -> dict[str, Any]:
        """The filter that finds the round's document."""
        return {"campaign_id": self.campaign_id, "chain": self.chain, "k": self.k}

    def __str__(self) -> str:
        return f"{self.campaign_id}/{self.chain}/{self.k}"


class CampaignDocument(Document):
    """One search for one system with one configuration."""

    campaign_id: str = Field(description="random hexadecimal id")
    name: str = Field(description="the user's name, unique in the database")
    config: dict[str, Any] = Field(description="the full configuration")
    identity: dict[str, Any] = Field(description="the part of it that may not change on resume")
    identity_hash: str = Field(description="hash of that part")
    reference_hash: str = Field(description="engine, its version and every setting that changes a number")
    problem: ObjectId = Field(description="GridFS id of the packed search problem")
    versions: dict[str, str] = Field(description="versions of every package at the start")
    weights_sha256: str | None = Field(None, description="hash of the foundation's weights, where it has any")
    pretraining: ObjectId | None = Field(
        None, description="GridFS id of evaluations of other campaigns that it learns from"
    )
    state: CampaignState = Field("created", description="what is being done with it: `godelta status`")
    reserved: tuple[str, ...] = Field((), description="keys of evaluations that are being paid for")
    spent: int = Field(0, ge=0, description="evaluations paid for, failed ones included, cache hits not")
    spent_cpu_s: float = Field(0.0, ge=0, description="processor time of those evaluations")
    reason: str | None = Field(None, description="why the campaign failed")
    elapsed_s: float = Field(0.0, ge=0, description="wall time during which it was run")
    worker_s: float = Field(0.0, ge=0, description="the same, summed over its workers")
    finished_with: dict[str, Any] | None = Field(None, description="the configuration when it last finished")
    created_at: Time = Field(description="when it was first run or submitted")
    updated_at: Time = Field(description="time of its last change")

    @property
    def id(self) -> str:
        """The campaign's id."""
        return self.campaign_id


class RoundDocument(Document):
    """One round of a chain."""

    campaign_id: str = Field(description="its campaign")
    chain: int = Field(ge=0, description="its chain; 1000 is refinement")
    k: int = Field(ge=0, description="number of the round within its chain, from 0")
    epoch: int = Field(0, ge=0, description="raised when the round is planned anew")
    state: RoundState = Field("planned", description="how far it has come")
    failures: int = Field(0, ge=0, description="times that a job of the round ended with an error")
    model_id: str | None = Field(None, description="Δ-model that drives the search; None without one")
    next_model_id: str | None = Field(None, description="Δ-model for the chain's next round")
    seed: dict[str, Any] = Field(default_factory=dict, description="what the random numbers derive from")
    search_state: ObjectId | None = Field(None, description="GridFS id of walkers and generator state")
    progress: dict[str, Any] = Field(
        default_factory=dict, description="iteration, acceptance, best energy [eV]"
    )
    selection: tuple[str, ...] = Field((), description="structure ids to evaluate, most wanted first")
    statistics: dict[str, Any] = Field(
        default_factory=dict, description="what its jobs counted; units in the keys"
    )
    timings: dict[str, float] = Field(default_factory=dict, description="seconds per kind of work, summed")
    planned_at: Time = Field(description="when it was planned, in this epoch")
    selected_at: Time | None = Field(None, description="when its candidates were chosen")
    changed_at: Time = Field(description="time of the last change of state")

    @property
    def key(self) -> RoundKey:
        """The round's key."""
        return RoundKey(self.campaign_id, self.chain, self.k)


class Sighting(BaseModel):
    """A structure that a later round proposed again, with that round's energies."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    chain: int = Field(ge=0, description="the later round's chain")
    round: int = Field(ge=0, description="its k")
    iteration: int = Field(ge=0, description="iteration of its search")
    walker: int | None = Field(description="index of the walker")
    move: str = Field(description="what proposed the structure")
    candidate_id: str = Field(description="the search's own name for it")
    parents: tuple[str, ...] = Field(description="candidate ids")
    accepted: bool = Field(description="whether the walker went on from it")
    foundation_energy: float = Field(description="eV")
    model_energy: float = Field(description="foundation + Δ, eV")
    uncertainty: float | None = Field(description="standard deviation of the model energy, eV")
    model_id: str | None = Field(description="Δ-model of the energies")
    created_at: Time = Field(description="when it was proposed")


class StructureDocument(Document):
    """A candidate that is kept, as its round saw it first."""

    structure_id: str = Field(description="sha256(campaign_id + structure_hash)[:24]")
    campaign_id: str = Field(description="its campaign")
    chain: int = Field(ge=0, description="chain that proposed it first")
    round: int = Field(ge=0, description="the round's k")
    iteration: int = Field(0, ge=0, description="iteration of the search within the round")
    walker: int | None = Field(None, description="index of the walker, None where the method has none")
    move: str = Field("", description="what proposed the structure")
    candidate_id: str = Field("", description="the search's own name for it")
    parents: tuple[str, ...] = Field((), description="candidate ids")
    accepted: bool = Field(True, description="whether the walker went on from it")
    structure_hash: str = Field(description="species, positions, cell and pbc: identity for caching")
    formula: str = Field(description="Hill order, all atoms")
    elements: tuple[str, ...] = Field(description="chemical symbols, sorted, each once")
    numbers: tuple[int, ...] = Field(description="atomic numbers")
    positions: tuple[Vector, ...] = Field(description="Å")
    cell: tuple[Vector, Vector, Vector] = Field(description="Å, vectors as rows")
    pbc: tuple[bool, bool, bool] = Field(description="whether it is periodic along each cell vector")
    fixed: tuple[int, ...] = Field((), description="indices of atoms that never move")
    foundation_energy: float = Field(description="eV")
    model_energy: float = Field(description="foundation + Δ, eV")
    uncertainty: float | None = Field(None, description="standard deviation of the model energy, eV")
    model_id: str | None = Field(None, description="Δ-model of the energies; None without one")
    created_at: Time = Field(description="when it was proposed")
    sightings: tuple[Sighting, ...] = Field((), description="later rounds that proposed it again")

    @model_validator(mode="after")
    def _lengths_agree(self) -> Self:
        if len(self.positions) != len(self.numbers):
            raise ValueError("as many positions as atomic numbers are needed")
        return self

    @property
    def key(self) -> RoundKey:
        """The round that proposed the structure."""
        return RoundKey(self.campaign_id, self.chain, self.round)

    @property
    def id(self) -> str:
        """The structure's id."""
        return self.structure_id

    @classmethod
    def from_atoms(cls, atoms: Atoms, *, campaign_id: str, **fields: Any) -> Self:
        """Describe a structure (Å).

        Parameters
        ----------
        atoms
            The structure; of its constraints only FixAtoms can be kept.
        campaign_id
            The campaign.
        fields
            The fields that say where it comes from, and its energies (eV); at least chain, round,
            foundation_energy and model_energy.

        Raises
        ------
        TypeError
            Where there is another constraint than FixAtoms.
        pydantic.ValidationError
            Where fields are missing or unknown, or a number is not finite.
        """
        digest = structure_hash(atoms)
        return cls(
            structure_id=structure_id(campaign_id, digest),
            campaign_id=campaign_id,
            structure_hash=digest,
            formula=atoms.symbols.get_chemical_formula("hill"),
            elements=tuple(sorted(set(atoms.symbols))),
            numbers=tuple(atoms.numbers.tolist()),
            positions=tuple(map(tuple, atoms.positions.tolist())),
            cell=tuple(map(tuple, atoms.cell.array.tolist())),
            pbc=tuple(atoms.pbc.tolist()),
            fixed=_fixed_indices(atoms),
            **{"created_at": datetime.now(UTC), **fields},
        )

    def atoms(self) -> Atoms:
        """The structure as ase.Atoms (Å), with FixAtoms on the fixed atoms."""
        atoms = Atoms(numbers=self.numbers, positions=self.positions, cell=self.cell, pbc=self.pbc)
        if self.fixed:
            atoms.set_constraint(FixAtoms(indices=list(self.fixed)))
        return atoms

    @property
    def candidate_ids(self) -> tuple[str, ...]:
        """The search's own names for it, in every round that proposed it."""
        return (self.candidate_id, *(seen.candidate_id for seen in self.sightings))

    def sighting(self) -> Sighting:
        """What this round knows beyond the structure itself."""
        return Sighting(**{name: getattr(self, name) for name in Sighting.model_fields})

    def request(self) -> "Request":
        """What its evaluation keeps of it, so that listing results needs no other collection."""
        return Request(**{name: getattr(self, name) for name in Request.model_fields})

    def as_seen_in(self, chain: int, k: int) -> Self:
        """The document with the energies and the origin of another round that proposed it."""
        for seen in self.sightings:
            if (seen.chain, seen.round) == (chain, k):
                return self.model_copy(update=dict(seen))
        return self


class Attempt(BaseModel):
    """One attempt at an evaluation; attempts are only ever appended."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    token: int = Field(ge=1, description="number of its lease")
    owner: str = Field(description="who computed: host, pid, job")
    outcome: Literal["ok", "failed", "lost"] = Field(description="lost: the lease ran out, no word came")
    started_at: Time = Field(description="when it began")
    ended_at: Time = Field(description="when its end was known")
    reason: str | None = Field(None, description="kind of failure")
    message: str | None = Field(None, description="what the engine said of a failure")
    log_tail: str | None = Field(None, description="the end of the engine's log")
    cost: dict[str, float] = Field(default_factory=dict, description="wall_s, cpu_s, peak_rss_mb")


class Lease(BaseModel):
    """Who computes an evaluation now, and until when nobody else may."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: int = Field(ge=1, description="number of the lease")
    owner: str = Field(description="who has it: host, boot, pid")
    started_at: Time = Field(description="when it was given")
    until: Time = Field(description="when it runs out, unless it is prolonged")


class Request(BaseModel):
    """A campaign that asked for an evaluation, and what it knew of the structure when it proposed it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    campaign_id: str = Field(description="the campaign")
    structure_id: str = Field(description="its structure")
    chain: int = Field(ge=0, description="chain that proposed it first")
    round: int = Field(ge=0, description="the round that proposed the structure first")
    foundation_energy: float = Field(description="eV")
    model_energy: float = Field(description="foundation + Δ, eV")
    uncertainty: float | None = Field(None, description="standard deviation of the model energy, eV")


class EvaluationDocument(Document):
    """Energy and forces of one structure at one reference level, shared by all campaigns."""

    evaluation_id: str = Field(description="sha256(structure_hash + reference_hash)[:24]")
    structure_hash: str = Field(description="the structure's")
    reference_hash: str = Field(description="the reference level's")
    formula: str = Field("", description="Hill order, all atoms; empty where the structure is not known")
    elements: tuple[str, ...] = Field((), description="chemical symbols, sorted, each once")
    requests: tuple[Request, ...] = Field((), description="campaigns that asked for it, each once")
    state: EvaluationState = Field("pending", description="pending also while it is computed")
    token: int = Field(0, ge=0, description="number of leases given so far; the last one may commit")
    lost: int = Field(0, ge=0, description="attempts in a row that ended without a word")
    lease: Lease | None = Field(None, description="who computes it now")
    energy: float | None = Field(None, description="eV")
    energy_per_atom: float | None = Field(None, description="eV")
    forces: tuple[Vector, ...] | None = Field(None, description="eV/Å")
    reason: str | None = Field(None, description="kind of failure")
    message: str | None = Field(None, description="what the engine said of a failure")
    cost: dict[str, float] = Field(default_factory=dict, description="of the attempt that counted")
    attempts: tuple[Attempt, ...] = Field((), description="every attempt, the failed and the lost ones too")
    created_at: Time = Field(description="when it was first asked for")
    evaluated_at: Time | None = Field(None, description="when it became ok or failed")


class ModelDocument(Document):
    """A trained Δ-model; its arrays are a GridFS blob."""

    model_id: str = Field(description="uuid5 of campaign, training set, failures and settings")
    campaign_id: str = Field(description="its campaign")
    evaluation_ids: tuple[str, ...] = Field(description="training set, sorted")
    failed_ids: tuple[str, ...] = Field((), description="structures that it repels, sorted")
    settings_digest: str = Field(description="hash of the settings of delta")
    hyperparameters: dict[str, Any] = Field(
        default_factory=dict, description="length scales and amplitudes [eV], noise"
    )
    metrics: dict[str, Any] = Field(default_factory=dict, description="errors of the fit; units in the keys")
    blob: ObjectId = Field(description="GridFS id")
    sha256: str = Field(description="of the blob")
    created_at: Time = Field(description="when it was stored")


def structure_hash(atoms: Atoms) -> str:
    """Identity of a structure for caching: species, positions, cell and pbc in stored order.

    Coordinates are counted in steps of 1e-4 Å. Along periodic directions they are counted along the
    cell vectors, modulo the vector's length: an atom at the upper edge is the one at the lower edge.
    """
    numbers = np.asarray(atoms.numbers, dtype="<i8")
    pbc = np.asarray(atoms.pbc, dtype=bool)
    cell = np.asarray(atoms.cell.array, dtype=float)
    if pbc.any():
        full = np.asarray(atoms.cell.complete().array, dtype=float)
        steps = np.maximum(np.rint(np.linalg.norm(full, axis=1) / RESOLUTION), 1.0)
        grid = np.rint(atoms.positions @ np.linalg.inv(full) * steps).astype("<i8")
        grid[:, pbc] %= steps[pbc].astype("<i8")
    else:
        grid = np.rint(atoms.positions / RESOLUTION).astype("<i8")
    # Integers know no -0.0, and are the same bytes on every machine.
    digest = hashlib.sha256(b"godelta-structure-1")
    for part in (numbers, grid, np.rint(cell / RESOLUTION).astype("<i8"), pbc.astype("<i8")):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def structure_id(campaign_id: str, digest: str) -> str:
    """Id of a structure within a campaign."""
    return hashlib.sha256((campaign_id + digest).encode()).hexdigest()[:24]


def evaluation_id(structure: str, reference: str) -> str:
    """Id of an evaluation, from the two hashes that identify it."""
    return hashlib.sha256((structure + reference).encode()).hexdigest()[:24]


def hill_formula(text: str) -> str:
    """A user's formula in the order in which formulae are stored.

    Raises
    ------
    InputError
        Where it is no formula.
    """
    try:
        formula = Formula(text)
        if not formula.count() or not set(formula.count()) <= set(chemical_symbols[1:]):
            raise ValueError("no or unknown elements")
    except ValueError as error:
        raise InputError(f"{text!r} is not a chemical formula ({error})", mend="for example Ag8S4") from error
    return formula.format("hill")


def known_element(symbol: str) -> str:
    """The symbol itself, checked.

    Raises
    ------
    InputError
        Where there is no such element.
    """
    if symbol not in chemical_symbols[1:]:
        raise InputError(f"{symbol!r} is not the symbol of an element", mend="for example Ag")
    return symbol


def _fixed_indices(atoms: Atoms) -> tuple[int, ...]:
    indices: set[int] = set()
    for constraint in atoms.constraints:
        if not isinstance(constraint, FixAtoms):
            raise TypeError(f"only FixAtoms can be stored, not {type(constraint).__name__}")
        indices.update(int(index) for index in constraint.index)
    return tuple(sorted(indices))
