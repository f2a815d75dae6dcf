"""Questions over all campaigns: evaluated, failed and pending structures, as rows, a table or images.

As a pandas DataFrame: `find(store, Query(elements=("Ag", "S"), reference="gpaw-pbe-light", above=0.2))`.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.formula import Formula

from godelta.errors import GodeltaError, InputError
from godelta.store.campaigns import get_campaign
from godelta.store.database import Raw, Store
from godelta.store.documents import StructureDocument, hill_formula, known_element
from godelta.store.structures import RESULT_FIELDS, result_row

if TYPE_CHECKING:
    from pandas import DataFrame

Status = Literal["ok", "failed", "pending"]
COLUMNS = (
    "rank", "structure_id", "campaign", "campaign_id", "tags", "formula", "status", "reason", "energy",
    "energy_per_atom", "above_best", "foundation_energy", "model_energy", "uncertainty", "chain", "round",
    "evaluated_at", "foundation", "reference", "reference_hash",
)  # fmt: skip
_OF_CAMPAIGN = {
    "campaign_id": 1, "name": 1, "reference_hash": 1, "config.tags": 1, "config.foundation": 1,
    "config.reference": 1,
}  # fmt: skip
_OF_STRUCTURE = (
    "structure_id", "structure_hash", "campaign_id", "formula", "foundation_energy", "model_energy",
    "uncertainty", "chain", "round",
)  # fmt: skip
_LEVELS = "formula_1_reference_hash_1_state_1_energy_per_atom_1"  # name of an index
_CHUNK = 1000  # ids in one question to the server


@dataclass(frozen=True, kw_only=True)
class Query:
    """What to look for; what is left out may be anything.

    Parameters
    ----------
    formula
        Composition of the whole structure, in any order of elements.
    elements
        Elements that all have to be in it.
    campaigns
        Names or ids of campaigns, any of them.
    tags
        Tags of the campaign, all of them.
    foundation
        Name of the foundation, or the import path of its calculator.
    reference
        An engine, an engine and its settings (gpaw-pbe-light), or the beginning of a reference hash.
    round
        The round that proposed the structure, from 0.
    status
        ok; failed; or pending: selected and not evaluated yet.
    max_energy
        Highest energy, eV.
    above, above_per_atom
        Highest energy above the lowest one that the database has for the same formula at the same
        reference level: eV per structure, eV per atom.
    limit
        Most rows; None: all.
    """

    formula: str | None = None
    elements: tuple[str, ...] = ()
    campaigns: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    foundation: str | None = None
    reference: str | None = None
    round: int | None = None
    status: Status = "ok"
    max_energy: float | None = None
    above: float | None = None
    above_per_atom: float | None = None
    limit: int | None = 100


def find(store: Store, query: Query) -> "DataFrame":
    """The rows of `rows` as a pandas DataFrame, one column for each of `COLUMNS`.

    Raises
    ------
    InputError
        As `rows`.
    """
    import pandas

    return pandas.DataFrame(rows(store, query), columns=list(COLUMNS))


def rows(store: Store, query: Query) -> list[Raw]:
    """Structures of all campaigns, one row per structure and campaign.

    Good ones come by energy per atom, the lowest first; failed ones by time, the latest first; pending
    ones by the energy that their model gave.

    Returns
    -------
    list of dict
        With the keys `COLUMNS`: rank (from 1); structure_id; campaign (name), campaign_id and tags;
        formula (Hill order); status; reason (of a failure); energy, energy_per_atom and above_best
        [eV; None unless ok; the last one above the lowest of the same formula and reference level];
        foundation_energy, model_energy and uncertainty [eV, as they were at the proposal]; chain, round;
        evaluated_at (UTC); foundation and reference (names), reference_hash.

    Raises
    ------
    InputError
        Formula or element cannot be read, there is no campaign of that name, or an energy is asked of
        structures that have none.
    """
    if query.status != "ok" and any(
        limit is not None for limit in (query.max_energy, query.above, query.above_per_atom)
    ):
        raise InputError(
            f"structures that are {query.status} have no energy at the reference level",
            mend="limits of the energy go with those that are ok",
        )
    wanted = _wanted(store, query)
    campaigns = _campaigns(store, query)
    look = _pending if query.status == "pending" else _evaluated
    found = look(store, query, wanted, campaigns)[: query.limit] if campaigns else []
    known = _described(store, {row["campaign_id"] for row in found})
    best = _best_of(store, {(row["formula"], row["reference_hash"]) for row in found})
    complete = []
    for rank, row in enumerate(found, 1):
        lowest = best.get((row["formula"], row["reference_hash"]))
        gap = None if row["energy"] is None or lowest is None else row["energy"] - lowest
        values = {"rank": rank, "above_best": gap, **row, **known[row["campaign_id"]]}
        complete.append({name: values[name] for name in COLUMNS})
    return complete


def images(store: Store, found: Iterable[Mapping[str, Any]]) -> list[Atoms]:
    """The structures of rows as ase.Atoms, evaluated ones with reference energy [eV] and forces [eV/Å].

    `info` tells structure_id, foundation_energy [eV] and, of rows of `rows`, campaign and status.

    Raises
    ------
    GodeltaError
        A structure is not in the database.
    """
    asked = list(found)
    documents = {
        raw["structure_id"]: StructureDocument.from_mongo(raw)
        for ids in _chunks([row["structure_id"] for row in asked])
        for raw in store.structures.find({"structure_id": {"$in": ids}})
    }
    done = {
        (raw["structure_hash"], raw["reference_hash"]): raw
        for hashes in _chunks([document.structure_hash for document in documents.values()])
        for raw in store.evaluations.find(
            {"structure_hash": {"$in": hashes}, "state": "ok"},
            ("structure_hash", "reference_hash", "energy", "forces"),
        )
    }
    return [_image(row, documents, done) for row in asked]


def _image(
    row: Mapping[str, Any], documents: Mapping[str, StructureDocument], done: Mapping[tuple[str, str], Raw]
) -> Atoms:
    document = documents.get(row["structure_id"])
    if document is None:
        raise GodeltaError(
            "there is no such structure",
            where=row["structure_id"],
            mend="restore a backup: `godelta db restore`",
        )
    atoms = document.atoms()
    raw = done.get((document.structure_hash, row["reference_hash"]))
    if raw is not None:
        atoms.calc = SinglePointCalculator(atoms, energy=raw["energy"], forces=raw["forces"])
    told = ("structure_id", "foundation_energy", "campaign", "status")
    atoms.info |= {name: row[name] for name in told if name in row}
    return atoms


def _chunks(values: list[str]) -> Iterable[list[str]]:
    return (values[first : first + _CHUNK] for first in range(0, len(values), _CHUNK))


def _campaigns(store: Store, query: Query) -> set[str]:
    """Ids of the campaigns that may have it; one that is being imported is not there yet."""
    wanted: Raw = {}
    if query.campaigns:
        ids = [get_campaign(store, name).campaign_id for name in query.campaigns]
        wanted["campaign_id"] = {"$in": ids}
    if query.tags:
        wanted["config.tags"] = {"$all": list(query.tags)}
    if query.foundation is not None:
        wanted["$or"] = [{f"config.foundation.{key}": query.foundation} for key in ("name", "calculator")]
    return set(store.campaigns.distinct("campaign_id", wanted))


def _wanted(store: Store, query: Query) -> Raw:
    """What a structure and its level have to be like, as a filter of evaluations."""
    wanted: Raw = {}
    if query.formula is not None:
        wanted["formula"] = hill_formula(query.formula)
    if query.elements:
        wanted["elements"] = {"$all": [known_element(symbol.strip()) for symbol in query.elements]}
    if query.reference is not None:
        wanted["reference_hash"] = {"$in": sorted(_reference_hashes(store, query.reference))}
    return wanted


def _reference_hashes(store: Store, reference: str) -> set[str]:
    """Hashes of the reference levels of that name, or that begin so."""
    engine, _, settings = reference.partition("-")
    named: Raw = {"config.reference.engine": engine} | (
        {"config.reference.settings": settings} if settings else {}
    )
    # "g" follows every hexadecimal digit.
    prefix: Raw = {"reference_hash": {"$gte": reference, "$lt": f"{reference}g"}}
    return {
        *store.campaigns.distinct("reference_hash", named),
        *store.evaluations.distinct("reference_hash", prefix),
    }


def _evaluated(store: Store, query: Query, wanted: Raw, campaigns: Collection[str]) -> list[Raw]:
    """Rows of evaluations that have ended, without what belongs to the campaign."""
    asked: Raw = {"state": query.status, **wanted}
    request: Raw = {}
    if _narrows(query):
        request["campaign_id"] = {"$in": sorted(campaigns)}
    if query.round is not None:
        request["round"] = query.round
    if request:
        asked["requests"] = {"$elemMatch": request}
    if query.max_energy is not None:
        asked["energy"] = {"$lte": query.max_energy}
    if query.above is not None or query.above_per_atom is not None:
        asked["$or"] = _near_the_best(store, query, wanted)
        if not asked["$or"]:
            return []
    order = ("energy_per_atom", 1) if query.status == "ok" else ("evaluated_at", -1)
    limit = query.limit or 0
    while True:
        documents = list(store.evaluations.find(asked, RESULT_FIELDS).sort(*order).limit(limit))
        found = [
            {**result_row(raw, by), "status": raw["state"], "reason": raw["reason"]}
            for raw in documents
            for by in raw["requests"]
            if by["campaign_id"] in campaigns and query.round in (None, by["round"])
        ]
        if not limit or len(found) >= limit or len(documents) < limit:
            return found
        limit = 0  # some were asked for by campaigns that are not here


def _narrows(query: Query) -> bool:
    return bool(query.campaigns or query.tags or query.foundation is not None)


def _near_the_best(store: Store, query: Query, wanted: Raw) -> list[Raw]:
    """One filter for each formula and level: energies per atom close enough to its lowest."""
    level = {"formula": "$formula", "reference_hash": "$reference_hash"}
    # With nothing but its four fields the index answers alone, and no document is read.
    asked: Raw = {"formula": {"$in": _formulas(store, wanted)}, "state": "ok"}
    if "reference_hash" in wanted:
        asked["reference_hash"] = wanted["reference_hash"]
    groups = store.evaluations.aggregate(
        [
            {"$match": asked},
            {"$project": {"_id": 0, "formula": 1, "reference_hash": 1, "energy_per_atom": 1}},
            {"$group": {"_id": level, "lowest": {"$min": "$energy_per_atom"}}},
        ],
        hint=_LEVELS,
    )
    filters = []
    for raw in groups:
        size = sum(Formula(raw["_id"]["formula"]).count().values())
        gaps = (query.above_per_atom, None if query.above is None else query.above / size)
        highest = raw["lowest"] + min(gap for gap in gaps if gap is not None)
        filters.append({**raw["_id"], "energy_per_atom": {"$lte": highest}})
    return filters


def _formulas(store: Store, wanted: Raw) -> list[str]:
    """The formulae of evaluations that may fit."""
    if "formula" in wanted:
        return [wanted["formula"]]
    elements = set(wanted["elements"]["$all"]) if "elements" in wanted else set()
    return [
        formula
        for formula in store.evaluations.distinct("formula")
        if formula and elements <= set(Formula(formula).count())
    ]


def _pending(store: Store, query: Query, wanted: Raw, campaigns: Collection[str]) -> list[Raw]:
    """Rows of structures that rounds under way have selected, or somebody computes, and that have no end."""
    place: Raw = {"campaign_id": {"$in": sorted(campaigns)}} if _narrows(query) else {}
    states = {"$in": ["planned", "searching", "selected", "evaluating"]}
    selections = store.rounds.find({"state": states, **place}, {"selection": 1})
    selected = {id_ for raw in selections for id_ in raw["selection"]}
    computed = store.evaluations.find({"state": "pending", "lease": {"$ne": None}}, {"requests": 1})
    selected |= {request["structure_id"] for raw in computed for request in raw["requests"]}
    levels = {raw["campaign_id"]: raw["reference_hash"] for raw in store.campaigns.find(place, _OF_CAMPAIGN)}
    kind = place | {key: value for key, value in wanted.items() if key != "reference_hash"}
    if query.round is not None:
        kind["round"] = query.round
    allowed = wanted.get("reference_hash", {"$in": list(levels.values())})["$in"]
    found = [
        {
            **{name: raw[name] for name in _OF_STRUCTURE},
            **dict.fromkeys(("reason", "energy", "energy_per_atom", "evaluated_at")),
            "status": "pending",
            "reference_hash": levels[raw["campaign_id"]],
        }
        for ids in _chunks(sorted(selected))
        for raw in store.structures.find({"structure_id": {"$in": ids}, **kind}, _OF_STRUCTURE)
        if levels.get(raw["campaign_id"]) in allowed
    ]
    ended = {
        (raw["structure_hash"], raw["reference_hash"])
        for hashes in _chunks([row["structure_hash"] for row in found])
        for raw in store.evaluations.find(
            {"structure_hash": {"$in": hashes}, "state": {"$ne": "pending"}},
            {"_id": 0, "structure_hash": 1, "reference_hash": 1},
        )
    }
    waiting = [row for row in found if (row["structure_hash"], row["reference_hash"]) not in ended]
    return sorted(waiting, key=lambda row: (row["model_energy"], row["structure_id"]))


def _described(store: Store, ids: Collection[str]) -> dict[str, Raw]:
    """What a row says of its campaign, by id."""
    described: dict[str, Raw] = {}
    for raw in store.campaigns.find({"campaign_id": {"$in": list(ids)}}, _OF_CAMPAIGN):
        config = raw["config"]
        foundation, reference = config.get("foundation", {}), config.get("reference", {})
        settings = reference.get("settings")
        described[raw["campaign_id"]] = {
            "campaign": raw["name"],
            "tags": list(config.get("tags", ())),
            "foundation": str(foundation.get("calculator") or foundation.get("name", "")),
            "reference": "-".join(
                [str(reference.get("engine", "")), *([settings] if isinstance(settings, str) else [])]
            ),
        }
    return described


def _best_of(store: Store, levels: Collection[tuple[str, str]]) -> dict[tuple[str, str], float]:
    """The lowest energy, eV, of each formula at each level."""
    best: dict[tuple[str, str], float] = {}
    for formula, level in levels:
        asked = {"formula": formula, "reference_hash": level, "state": "ok"}
        raw = store.evaluations.find_one(asked, {"energy": 1}, sort=[("energy_per_atom", 1)])
        if raw is not None:
            best[formula, level] = raw["energy"]
    return best
