"""What a campaign's evaluations come to, counted exactly and kept for as long as nothing has changed.

A thousand campaigns are too many to count at every look. A summary can be dropped at any time.
"""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pymongo import ReplaceOne
from pymongo.errors import OperationFailure

from godelta.store.database import Raw, Store

SUMMARIES = "summaries"
# Evaluations are shared: another campaign may settle one that this one selected, and nothing here changes.
COUNT_AGAIN_AFTER = timedelta(minutes=10)
FEW = 20

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tally:
    """What a campaign's evaluations come to.

    Parameters
    ----------
    ok, failed
        Those that have ended.
    pending
        Structures that were selected and have none yet.
    waiting
        Of those, the ones in rounds that are not closed.
    best_energy, best_structure
        The lowest energy in eV, and whose it is.
    last
        When the last one ended in a round that is not closed, UTC.
    """

    ok: int = 0
    failed: int = 0
    pending: int = 0
    waiting: int = 0
    best_energy: float | None = None
    best_structure: str | None = None
    last: datetime | None = None


def forget(store: Store) -> None:
    """Have every campaign counted anew at the next look."""
    store.db[SUMMARIES].delete_many({})


def tallies(
    store: Store, documents: list[Raw], chains: Mapping[str, list[Raw]], *, count_all: bool
) -> dict[str, Tally]:
    """What the evaluations of each campaign come to; only those that have changed are counted.

    Parameters
    ----------
    documents
        Of the campaigns: at least campaign_id, reference_hash, spent and updated_at.
    chains
        What the rounds of each chain come to, by campaign: closed, count, epochs, reference_s, changed_at.
    count_all
        Count every campaign now, whatever was counted before.
    """
    prints = {
        document["campaign_id"]: _print(document, chains.get(document["campaign_id"], []))
        for document in documents
    }
    known: dict[str, Tally] = {}
    now = store.now()
    if not count_all:
        for raw in store.db[SUMMARIES].find({"_id": {"$in": list(prints)}}):
            if prints[raw["_id"]] == raw["print"] and now - raw["counted_at"] < COUNT_AGAIN_AFTER:
                known[raw["_id"]] = Tally(**raw["tally"])
    changed = [document for document in documents if document["campaign_id"] not in known]
    counted = _count(store, changed)
    if counted:
        _keep(store, counted, prints, now)
    return known | counted


def _print(document: Raw, chains: list[Raw]) -> str:
    """What changes whenever a round does, or a worker has dealt with an evaluation."""
    counted = "closed", "count", "epochs", "reference_s"
    sums = [f"{sum(chain[key] for chain in chains):.3f}" for key in counted]
    times = [document["updated_at"], *(chain["changed_at"] for chain in chains)]
    return " ".join([str(document.get("spent", 0)), *sums, max(times).isoformat()])


def _keep(store: Store, counted: Mapping[str, Tally], prints: Mapping[str, str], now: datetime) -> None:
    operations = [
        ReplaceOne(
            {"_id": campaign_id},
            {"print": prints[campaign_id], "counted_at": now, "tally": vars(tally)},
            upsert=True,
        )
        for campaign_id, tally in counted.items()
    ]
    try:
        store.db[SUMMARIES].bulk_write(operations, ordered=False)
    except OperationFailure as error:  # a user who may only read counts at every look
        log.debug("summaries are not kept: %s", error)


def _count(store: Store, documents: list[Raw]) -> dict[str, Tally]:
    """Count the evaluations of these campaigns."""
    ids = [document["campaign_id"] for document in documents]
    levels = {document["campaign_id"]: document["reference_hash"] for document in documents}
    selected: dict[str, set[str]] = {campaign_id: set() for campaign_id in ids}
    waiting: dict[str, set[str]] = {campaign_id: set() for campaign_id in ids}
    wanted = {"_id": 0, "campaign_id": 1, "state": 1, "selection": 1}
    for raw in store.rounds.find({"campaign_id": {"$in": ids}}, wanted):
        selected[raw["campaign_id"]].update(raw["selection"])
        if raw["state"] != "closed":
            waiting[raw["campaign_id"]].update(raw["selection"])
    done = _done(store, set().union(*waiting.values()))
    # Of many, reading all is faster than looking each up.
    results = _each(store, levels) if len(ids) <= FEW else _all(store, levels)
    tallies = {}
    for i in ids:
        found = results.get(i, _Result())
        tallies[i] = Tally(
            ok=found.ok,
            failed=found.failed,
            pending=max(0, len(selected[i]) - found.ok - found.failed),
            waiting=len(waiting[i] - done.keys()),
            best_energy=found.energy,
            best_structure=found.structure_id,
            last=max((done[one] for one in waiting[i] & done.keys()), default=None),
        )
    return tallies


@dataclass
class _Result:
    """Evaluations of a campaign that have ended, the lowest energy in eV, and whose it is."""

    ok: int = 0
    failed: int = 0
    energy: float | None = None
    structure_id: str | None = None


def _each(store: Store, levels: Mapping[str, str]) -> dict[str, _Result]:
    """The results of a few campaigns, however many evaluations they have: indexes know all of it."""
    found = {}
    for campaign_id, level in levels.items():
        asked = {"requests.campaign_id": campaign_id, "reference_hash": level}
        ok, failed = (
            store.evaluations.count_documents({**asked, "state": state}) for state in ("ok", "failed")
        )
        result = found[campaign_id] = _Result(ok, failed)
        wanted = {"energy": 1, "requests.campaign_id": 1, "requests.structure_id": 1}
        lowest = store.evaluations.find_one({**asked, "state": "ok"}, wanted, sort=[("energy", 1)])
        if lowest is not None:
            own = (one for one in lowest["requests"] if one["campaign_id"] == campaign_id)
            result.energy, result.structure_id = lowest["energy"], next(own)["structure_id"]
    return found


def _all(store: Store, levels: Mapping[str, str]) -> dict[str, _Result]:
    """The results of many campaigns, by one question."""
    fields = ("reference_hash", "state", "energy", "requests.campaign_id", "requests.structure_id")
    key = {"campaign_id": "$requests.campaign_id", "level": "$reference_hash", "state": "$state"}
    # Compared by the first field first.
    lowest = {"$min": {"energy": "$energy", "structure_id": "$requests.structure_id"}}
    pipeline: list[Raw] = [
        {"$match": {"state": {"$in": ["ok", "failed"]}}},
        {"$project": {"_id": 0, **dict.fromkeys(fields, 1)}},
        {"$unwind": "$requests"},
        {"$group": {"_id": key, "count": {"$sum": 1}, "lowest": lowest}},
    ]
    found: dict[str, _Result] = {}
    for raw in store.evaluations.aggregate(pipeline):
        campaign_id = raw["_id"]["campaign_id"]
        if levels.get(campaign_id) != raw["_id"]["level"]:
            continue
        result = found.setdefault(campaign_id, _Result())
        if raw["_id"]["state"] == "failed":
            result.failed = raw["count"]
        else:
            result.ok = raw["count"]
            result.energy, result.structure_id = raw["lowest"]["energy"], raw["lowest"]["structure_id"]
    return found


def _done(store: Store, structure_ids: Collection[str]) -> dict[str, datetime]:
    """Which of these structures have been evaluated for their campaign, well or badly, and when."""
    found = store.structures.find({"structure_id": {"$in": list(structure_ids)}}, {"structure_hash": 1})
    hashes = [raw["structure_hash"] for raw in found]
    ended = store.evaluations.find(
        {"structure_hash": {"$in": hashes}, "state": {"$in": ["ok", "failed"]}},
        {"_id": 0, "requests.structure_id": 1, "evaluated_at": 1},
    )
    return {
        request["structure_id"]: raw["evaluated_at"]
        for raw in ended
        for request in raw["requests"]
        if request["structure_id"] in structure_ids
    }
