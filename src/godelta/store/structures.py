"""Candidates: storing them, and the queries over them and their evaluations."""

from collections.abc import Iterable, Sequence
from typing import Any

from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from godelta.errors import GodeltaError
from godelta.store.database import Raw, Store
from godelta.store.documents import RoundKey, StructureDocument, hill_formula, known_element

_DUPLICATE_KEY = 11000
_FROM_STRUCTURE = (
    "structure_id", "campaign_id", "formula", "foundation_energy", "model_energy", "uncertainty",
    "chain", "round",
)  # fmt: skip
_FROM_EVALUATION = ("energy", "energy_per_atom", "evaluated_at", "reference_hash")


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


def hashes_of(store: Store, structure_ids: Iterable[str]) -> list[str]:
    """Structure hashes of these ids, without reading the structures; unknown ids are left out."""
    query = {"structure_id": {"$in": list(structure_ids)}}
    return [raw["structure_hash"] for raw in store.structures.find(query, {"structure_hash": 1})]


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
    pipeline: list[Raw] = [
        {"$match": {"structure_id": {"$in": selected_ids(store, campaign_id)}}},
        {
            "$lookup": {
                "from": "evaluations",
                "localField": "structure_hash",
                "foreignField": "structure_hash",
                "pipeline": [{"$match": {"reference_hash": reference_hash, "state": "ok"}}],
                "as": "evaluation",
            }
        },
        {"$unwind": "$evaluation"},
        {"$sort": {"evaluation.energy": 1, "structure_id": 1}},
        {"$limit": n},
        {"$project": _projection("$evaluation.", "$")},
    ]
    return [{"rank": rank, **row} for rank, row in enumerate(store.structures.aggregate(pipeline), 1)]


def query(
    store: Store,
    *,
    formula: str | None = None,
    elements: Iterable[str] | None = None,
    campaign: str | None = None,
    reference: str | None = None,
    max_energy: float | None = None,
    limit: int = 100,
) -> list[Raw]:
    """Evaluated structures of all campaigns, lowest energy per atom first.

    Parameters
    ----------
    formula
        Composition of the whole structure, in any order of elements.
    elements
        Elements that all have to be in it.
    campaign
        A campaign's name or id.
    reference
        An engine, an engine and its settings (gpaw-pbe), or the beginning of a reference hash.
    max_energy
        Highest energy, eV.
    limit
        Most rows to return.

    Returns
    -------
    list of dict
        The rows of `best`, with `campaign`: its name.

    Raises
    ------
    InputError
        Where the formula or an element cannot be read.
    """
    evaluated: Raw = {"state": "ok"}
    if reference is not None:
        evaluated["reference_hash"] = {"$in": _reference_hashes(store, reference)}
    if max_energy is not None:
        evaluated["energy"] = {"$lte": max_energy}
    wanted: Raw = {}
    if formula is not None:
        wanted["structure.formula"] = hill_formula(formula)
    symbols = [known_element(symbol.strip()) for symbol in elements or ()]
    if symbols:
        wanted["structure.elements"] = {"$all": symbols}
    if campaign is not None:
        named = store.campaigns.find({"$or": [{"name": campaign}, {"campaign_id": campaign}]})
        wanted["structure.campaign_id"] = {"$in": [raw["campaign_id"] for raw in named]}
    # There are far fewer evaluations than structures, and their index has the order that is wanted.
    pipeline: list[Raw] = [
        {"$match": evaluated},
        {"$sort": {"energy_per_atom": 1, "structure_hash": 1}},
        {
            "$lookup": {
                "from": "structures",
                "localField": "structure_hash",
                "foreignField": "structure_hash",
                "as": "structure",
            }
        },
        {"$unwind": "$structure"},
        {"$match": wanted},
        {"$limit": limit},
        {
            "$lookup": {
                "from": "campaigns",
                "localField": "structure.campaign_id",
                "foreignField": "campaign_id",
                "as": "campaign",
            }
        },
        {"$project": _projection("$", "$structure.") | {"campaign": {"$first": "$campaign.name"}}},
    ]
    return [{"rank": rank, **row} for rank, row in enumerate(store.evaluations.aggregate(pipeline), 1)]


def _reference_hashes(store: Store, reference: str) -> list[str]:
    """Hashes of the reference levels of that name, or that begin so."""
    engine, _, settings = reference.partition("-")
    named: Raw = {"config.reference.engine": engine} | (
        {"config.reference.settings": settings} if settings else {}
    )
    # "g" follows every hexadecimal digit.
    prefix: Raw = {"reference_hash": {"$gte": reference, "$lt": f"{reference}g"}}
    return [
        *store.campaigns.distinct("reference_hash", named),
        *store.evaluations.distinct("reference_hash", prefix),
    ]


def _projection(evaluation: str, structure: str) -> dict[str, Any]:
    return {
        "_id": 0,
        **{name: f"{structure}{name}" for name in _FROM_STRUCTURE},
        **{name: f"{evaluation}{name}" for name in _FROM_EVALUATION},
    }
