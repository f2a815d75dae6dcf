"""Rounds and their state changes: every write is a compare-and-set on epoch and state."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, get_args

from bson import ObjectId
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from godelta.errors import GodeltaError
from godelta.store.blobs import DamagedError, delete_blob, read_blob, save_blob
from godelta.store.database import Raw, Store, Superseded
from godelta.store.documents import RoundDocument, RoundKey, RoundState

ROUND_STATES: tuple[RoundState, ...] = get_args(RoundState)
_WRITABLE = frozenset({"selection", "statistics", "statistics.refused", "model_id", "next_model_id"})


def plan_round(
    store: Store, key: RoundKey, model_id: str | None, seed: Mapping[str, Any] | None = None
) -> RoundDocument:
    """Insert a round in the state planned; an existing one is returned as it is."""
    now = store.now()
    document = RoundDocument(
        **key.query(), model_id=model_id, seed=dict(seed or {}), planned_at=now, changed_at=now
    )
    try:
        store.rounds.insert_one(document.to_mongo())
    except DuplicateKeyError:
        # Planned already, perhaps by another process a moment ago: theirs holds.
        return get_round(store, key)
    return document


def find_round(store: Store, key: RoundKey) -> RoundDocument | None:
    """The round, None where it has not been planned."""
    raw = store.rounds.find_one(key.query())
    return None if raw is None else RoundDocument.from_mongo(raw)


def get_round(store: Store, key: RoundKey) -> RoundDocument:
    """The round.

    Raises
    ------
    GodeltaError
        Where it has not been planned.
    """
    found = find_round(store, key)
    if found is None:
        raise GodeltaError(
            "there is no such round", where=str(key), mend="restore a backup: `godelta db restore`"
        )
    return found


def rounds_of(store: Store, campaign_id: str, chain: int | None = None) -> list[RoundDocument]:
    """The rounds of a campaign, or of one chain, in the order of chain and k."""
    query: Raw = {"campaign_id": campaign_id} | ({} if chain is None else {"chain": chain})
    cursor = store.rounds.find(query).sort([("chain", 1), ("k", 1)])
    return [RoundDocument.from_mongo(raw) for raw in cursor]


def closed_since(store: Store, campaign_id: str, time: datetime, limit: int) -> list[RoundDocument]:
    """The latest rounds, of all chains, that were closed after a time (UTC); the newest first."""
    query = {"campaign_id": campaign_id, "state": "closed", "changed_at": {"$gt": time}}
    cursor = store.rounds.find(query).sort("changed_at", -1).limit(limit)
    return [RoundDocument.from_mongo(raw) for raw in cursor]


def last_round(store: Store, campaign_id: str, chain: int) -> RoundDocument | None:
    """The chain's latest round, None before its first."""
    raw = store.rounds.find_one({"campaign_id": campaign_id, "chain": chain}, sort=[("k", -1)])
    return None if raw is None else RoundDocument.from_mongo(raw)


def latest_model(store: Store, campaign_id: str, chain: int) -> str | None:
    """Id of the Δ-model that the chain goes on with, None before its first."""
    last = last_round(store, campaign_id, chain)
    return None if last is None else last.next_model_id or last.model_id


def change_state(
    store: Store,
    key: RoundKey,
    epoch: int,
    expected: RoundState | Collection[RoundState],
    new: RoundState,
    **fields: Any,
) -> RoundDocument:
    """Move a round on, and write fields with it, if epoch and state are as expected.

    Parameters
    ----------
    expected
        The state, or the states, in which this is allowed.
    fields
        Any of selection, statistics, statistics.refused, model_id and next_model_id.

    Raises
    ------
    ValueError
        Where the new state comes before an expected one.
    Superseded
        Where the round has another epoch or state.
    """
    allowed = [expected] if isinstance(expected, str) else list(expected)
    if any(ROUND_STATES.index(new) < ROUND_STATES.index(state) for state in allowed):
        raise ValueError(f"a round never goes back from one of {allowed} to {new}")
    if not fields.keys() <= _WRITABLE:
        raise ValueError(f"not fields of a change of state: {sorted(fields.keys() - _WRITABLE)}")
    times = {"changed_at": True} | ({"selected_at": True} if new == "selected" else {})
    update = {"$set": {"state": new, **fields}, "$currentDate": times}
    raw = store.rounds.find_one_and_update(
        {**key.query(), "epoch": epoch, "state": {"$in": allowed}},
        update,
        return_document=ReturnDocument.AFTER,
    )
    return RoundDocument.from_mongo(_matched(raw, key, epoch))


def bump_epoch(store: Store, key: RoundKey, epoch: int, *, failed: bool = False) -> int:
    """Plan a round anew: the next epoch, in which writes of the old one no longer match.

    Walkers, selection and statistics stay. The state becomes planned where nothing has been selected
    yet, else selected: within an epoch states only ever move forward. `failed` adds one to the failures.

    Raises
    ------
    Superseded
        Where the epoch is another one already, or the round is closed.
    """
    state = {"$cond": [{"$in": ["$state", ["planned", "searching"]]}, "planned", "selected"]}
    update = {
        "epoch": epoch + 1,
        "state": state,
        "failures": {"$add": ["$failures", int(failed)]},
        "changed_at": "$$NOW",
    }
    raw = store.rounds.find_one_and_update(
        {**key.query(), "epoch": epoch, "state": {"$ne": "closed"}},
        [{"$set": update}],
        return_document=ReturnDocument.AFTER,
    )
    return int(_matched(raw, key, epoch)["epoch"])


def save_search_state(
    store: Store, key: RoundKey, epoch: int, blob: bytes, progress: Mapping[str, Any]
) -> None:
    """Save walkers and generator state of a round that is searching.

    The blob is complete before the round points to it, and the old one is deleted after: at every
    moment the round points to a whole blob.

    Parameters
    ----------
    progress
        Small numbers for people: iteration, acceptance, best_energy [eV]. The counts in `moves`, of each
        kind of move, are added to those of the round, and so is what became of each pair in `swaps`.

    Raises
    ------
    Superseded
        Where epoch or state have changed; nothing of the round is touched then.
    """
    blob_id = save_blob(store, f"search/{key}", blob, kind="search", **key.query(), epoch=epoch)
    told = {name: value for name, value in progress.items() if name != "moves"}
    update: Raw = {"$set": {"search_state": blob_id, "progress": told}}
    added = {
        f"statistics.moves.{move}.{count}": n
        for move, counts in progress.get("moves", {}).items()
        for count, n in counts.items()
    }
    for pair, done in enumerate(progress.get("swaps") or ()):
        if done is not None:
            added |= {f"statistics.swaps.{pair}.tried": 1, f"statistics.swaps.{pair}.done": int(done)}
    if added:  # in the same write as the state: a step that is repeated is counted once
        update["$inc"] = added
    before = store.rounds.find_one_and_update(
        {**key.query(), "epoch": epoch, "state": "searching"},
        update,
        return_document=ReturnDocument.BEFORE,
    )
    if before is None:
        delete_blob(store, blob_id)
    delete_blob(store, _matched(before, key, epoch)["search_state"])


@dataclass(frozen=True)
class Barren:
    """Rounds in a row, up to a chain's last one that selected, that had nothing to evaluate.

    Parameters
    ----------
    rounds
        How many.
    refused
        Their candidates that might not be evaluated, by the reason.
    """

    rounds: int
    refused: Counter[str]


def barren(store: Store, campaign_id: str, chain: int, most: int = 100) -> Barren:
    """The rounds at the end of a chain that had nothing to evaluate; at most `most` are looked at."""
    asked: Raw = {"campaign_id": campaign_id, "chain": chain, "selected_at": {"$ne": None}}
    fields = {"selection": 1, "statistics.refused": 1}
    count, refused = 0, Counter[str]()
    for raw in store.rounds.find(asked, fields).sort("k", -1).limit(most):
        if raw["selection"]:
            break
        count += 1
        refused.update(raw.get("statistics", {}).get("refused", {}))
    return Barren(count, refused)


def load_search_state(store: Store, key: RoundKey) -> bytes | None:
    """The saved walkers and generator state, None where nothing has been saved.

    Raises
    ------
    DamagedError
        Where they were saved, and are missing or damaged.
    """
    seen: ObjectId | None = None
    while True:
        blob_id = get_round(store, key).search_state
        if blob_id is None:
            return None
        blob = read_blob(store, blob_id)
        if blob is not None:
            return blob
        # A newer state may have replaced it between the two reads; twice the same is a loss.
        if blob_id == seen:
            raise DamagedError(
                "the saved walkers of a round are missing or damaged in the database",
                where=str(key),
                mend="run its campaign again: the search begins anew from the round before",
            )
        seen = blob_id


def add_timings(store: Store, key: RoundKey, **seconds: float) -> None:
    """Add to the round's sums of seconds per kind of work."""
    if seconds:
        store.rounds.update_one(
            key.query(), {"$inc": {f"timings.{name}": float(value) for name, value in seconds.items()}}
        )


def _matched(raw: Raw | None, key: RoundKey, epoch: int) -> Raw:
    if raw is None:
        raise Superseded(f"the round is no longer in the expected state of epoch {epoch}", where=str(key))
    return raw
