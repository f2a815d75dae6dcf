"""Candidates: storing them, and the queries over them and their evaluations."""

import re
from collections.abc import Iterable, Sequence

from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from godelta.errors import GodeltaError, InputError
from godelta.store.database import Raw, Store
from godelta.store.documents import RoundKey, StructureDocument

_DUPLICATE_KEY = 11000
_BEGINNING = re.compile(r"[0-9a-f-]+")
_ROW = (
    "structure_id", "campaign_id", "formula", "energy", "energy_per_atom", "foundation_energy",
    "model_energy", "uncertainty", "chain", "round", "evaluated_at", "reference_hash",
)  # fmt: skip
# Forces and attempts are most of an evaluation, and listings need neither.
RESULT_FIELDS = (
    "structure_hash", "reference_hash", "formula", "state", "reason", "energy", "energy_per_atom",
    "evaluated_at", "requests",
)  # fmt: skip


def add_candidates(store: Store, documents: Sequence[StructureDocument]) -> None:
    """Store candidates; what is there already stays as it is, so that a rerun changes nothing.

    A structure that a later round proposes again gets a sighting with that round's energies.
    """
    operations: list[UpdateOne] = []
    for document in documents:
        identity = {"structure_id": document.structure_id}
        place = {"chain": document.chain, "round": document.round}
        unseen = identity | {"$nor": [place, {"sightings": {"$elemMatch": place}}]}
        sighting = document.sighting().model_dump(mode="python")
        operations.append(UpdateOne(identity, {"$setOnInsert": document.to_mongo()}, upsert=True))
        operations.append(UpdateOne(unseen, {"$push": {"sightings": sighting}}))
    if not operations:
        return
    try:
        store.structures.bulk_write(operations, ordered=True)
    except BulkWriteError as error:
        codes = {failure["code"] for failure in error.details["writeErrors"]}
        if codes != {_DUPLICATE_KEY}:
            raise
        # Two processes inserted the same structure at once; every operation may be repeated.
        store.structures.bulk_write(operations, ordered=True)


def get_structure(store: Store, structure_id: str) -> StructureDocument:
    """One structure.

    Raises
    ------
    GodeltaError
        Where there is none with this id.
    """
    raw = store.structures.find_one({"structure_id": structure_id})
    if raw is None:
        raise GodeltaError(
            "there is no such structure", where=structure_id, mend="restore a backup: `godelta db restore`"
        )
    return StructureDocument.from_mongo(raw)


def find_structure(store: Store, start: str) -> StructureDocument:
    """The structure whose id begins so, as tables print it.

    Raises
    ------
    InputError
        There is none, or more than one.
    """
    found = []
    if _BEGINNING.fullmatch(start):
        found = list(store.structures.find({"structure_id": {"$regex": f"^{start}"}}).limit(2))
    if not found:
        raise InputError("no such structure", where=start, mend="`godelta best` and `godelta query` list ids")
    if len(found) > 1:
        raise InputError(
            "several structures' ids begin so", where=start, mend="give more characters of the id"
        )
    return StructureDocument.from_mongo(found[0])


def get_structures(store: Store, structure_ids: Iterable[str]) -> list[StructureDocument]:
    """The structures with these ids, sorted by id; unknown ids are left out."""
    cursor = store.structures.find({"structure_id": {"$in": list(structure_ids)}}).sort("structure_id", 1)
    return [StructureDocument.from_mongo(raw) for raw in cursor]


def round_candidates(store: Store, key: RoundKey) -> list[StructureDocument]:
    """All candidates of a round with that round's energies, sorted by id."""
    place = {"chain": key.chain, "round": key.k}
    query: Raw = {
        "campaign_id": key.campaign_id,
        "$or": [place, {"sightings": {"$elemMatch": place}}],
    }
    cursor = store.structures.find(query).sort("structure_id", 1)
    return [StructureDocument.from_mongo(raw).as_seen_in(key.chain, key.k) for raw in cursor]


def selected_ids(
    store: Store, campaign_id: str, chain: int | None = None, *, unfinished: bool = False
) -> list[str]:
    """Ids in the selections of a campaign's rounds, or of one chain's, sorted, each once.

    `unfinished` leaves out the rounds that are closed.
    """
    query: Raw = {"campaign_id": campaign_id} | ({} if chain is None else {"chain": chain})
    if unfinished:
        query["state"] = {"$ne": "closed"}
    return sorted({i for raw in store.rounds.find(query, {"selection": 1}) for i in raw["selection"]})


def selecting_rounds(store: Store, campaign_id: str) -> dict[str, tuple[int, int]]:
    """By structure id, number and chain of the first round that selected it.

    A walker may stand on a structure for rounds before that: it is not the round that proposed it.
    """
    first: dict[str, tuple[int, int]] = {}
    fields = {"selection": 1, "chain": 1, "k": 1}
    for raw in store.rounds.find({"campaign_id": campaign_id}, fields):
        place = (raw["k"], raw["chain"])
        for structure_id in raw["selection"]:
            first[structure_id] = min(place, first.get(structure_id, place))
    return first


def selected_structures(store: Store, campaign_id: str, chain: int | None = None) -> list[StructureDocument]:
    """The structures selected for evaluation so far, sorted by id."""
    return get_structures(store, selected_ids(store, campaign_id, chain))


def best(store: Store, campaign_id: str, reference_hash: str, n: int = 10) -> list[Raw]:
    """The campaign's evaluated structures of lowest energy.

    Returns
    -------
    list of dict
        rank (from 1), structure_id, campaign_id, formula, energy [eV], energy_per_atom [eV],
        foundation_energy, model_energy and uncertainty [eV], chain, round, evaluated_at,
        reference_hash.
    """
    asked = {"requests.campaign_id": campaign_id, "reference_hash": reference_hash, "state": "ok"}
    found = store.evaluations.find(asked, RESULT_FIELDS).sort("energy", 1).limit(n)
    rows = [result_row(raw, request) for raw in found for request in raw["requests"]]
    own = [row for row in rows if row["campaign_id"] == campaign_id]
    own.sort(key=lambda row: (row["energy"], row["structure_id"]))
    return [{"rank": rank, **row} for rank, row in enumerate(own, 1)]


def result_row(evaluation: Raw, request: Raw) -> Raw:
    """What people are told of an evaluation that a campaign asked for; the keys of `best`, less rank."""
    values = evaluation | request
    return {name: values[name] for name in _ROW}
