"""Campaigns: created once per name, their state, and a budget that is never overspent."""

import logging
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from godelta import logs
from godelta.errors import InputError
from godelta.store.blobs import DamagedError, delete_blob, read_blob, save_blob
from godelta.store.database import Raw, Store
from godelta.store.documents import CampaignDocument, CampaignState
from godelta.store.weights import other_weights, recorded, same_weights

log = logging.getLogger(__name__)


def create_campaign(  # noqa: PLR0913 - the parts of one document
    store: Store,
    *,
    name: str,
    config: Mapping[str, Any],
    identity: Mapping[str, Any],
    identity_hash: str,
    reference_hash: str,
    problem: bytes,
    versions: Mapping[str, str],
    weights_sha256: str | None = None,
    pretraining: bytes | None = None,
) -> CampaignDocument:
    """Create a campaign, or find the one of this name again and give it the new adjustable settings.

    Parameters
    ----------
    name
        The user's name for it.
    config
        The whole configuration, plain JSON values.
    identity, identity_hash
        The part of it that decides the results, and its hash; the rest is adjustable.
    reference_hash
        The reference level; it belongs to the identity, since another version of an engine may give
        other energies.
    problem
        The packed search problem.
    versions
        Versions of the packages at the start.
    weights_sha256
        Hash of the foundation's weights; None for one without.
    pretraining
        Packed evaluations of other campaigns to learn from; a campaign that is there already keeps its own.

    Raises
    ------
    InputError
        Where the name belongs to a campaign with another identity or other weights, or to one that was
        cancelled.
    """
    if not store.campaigns.count_documents({"name": name}, limit=1):
        now = store.now()
        document = CampaignDocument(
            campaign_id=secrets.token_hex(12),
            name=name,
            config=dict(config),
            identity=dict(identity),
            identity_hash=identity_hash,
            reference_hash=reference_hash,
            versions=dict(versions),
            weights_sha256=weights_sha256,
            problem=save_blob(store, f"problem/{name}", problem, kind="problem"),
            pretraining=pretraining
            and save_blob(store, f"pretraining/{name}", pretraining, kind="pretraining"),
            created_at=now,
            updated_at=now,
        )
        try:
            store.campaigns.insert_one(document.to_mongo())
            return document
        except DuplicateKeyError:
            # Another process created it a moment ago.
            delete_blob(store, document.problem)
            delete_blob(store, document.pretraining)
    same = {"name": name, "identity_hash": identity_hash, "reference_hash": reference_hash}
    raw = store.campaigns.find_one_and_update(
        same | same_weights(weights_sha256) | {"state": {"$ne": "cancelled"}},
        {"$set": {"config": dict(config)} | recorded(weights_sha256), "$currentDate": {"updated_at": True}},
        return_document=ReturnDocument.AFTER,
    )
    if raw is not None:
        found = CampaignDocument.from_mongo(raw)
        whole = read_blob(store, found.problem) is not None
        return found if whole else _restore_problem(store, found, problem)
    found = get_campaign(store, name)
    if found.state == "cancelled":
        raise InputError(
            f"the campaign {name!r} was cancelled",
            where=name,
            mend=f"`godelta resume --reopen {name}` takes it up again; or give the new campaign another name",
        )
    if found.identity_hash == identity_hash and (error := other_weights(found, weights_sha256)):
        raise error
    raise _identity_error(found, identity, reference_hash)


def _restore_problem(store: Store, campaign: CampaignDocument, problem: bytes) -> CampaignDocument:
    """Store the search problem again; that it is the same is part of the identity."""
    log.warning("the search problem of %s was damaged in the database, and is stored again", campaign.name)
    blob = save_blob(store, f"problem/{campaign.name}", problem, kind="problem")
    damaged = {"campaign_id": campaign.campaign_id, "problem": campaign.problem}
    if store.campaigns.update_one(damaged, {"$set": {"problem": blob}}).matched_count:
        delete_blob(store, campaign.problem)
    else:  # another process has done so a moment ago
        delete_blob(store, blob)
    return get_campaign(store, campaign.campaign_id)


def find_campaign(store: Store, name_or_id: str) -> CampaignDocument | None:
    """The campaign with this name or id, None where there is none; a name goes first."""
    raws = list(store.campaigns.find({"$or": [{"name": name_or_id}, {"campaign_id": name_or_id}]}))
    if not raws:
        return None
    return CampaignDocument.from_mongo(next((raw for raw in raws if raw["name"] == name_or_id), raws[0]))


def get_campaign(store: Store, name_or_id: str) -> CampaignDocument:
    """The campaign with this name or id.

    Raises
    ------
    InputError
        Where there is none; the message names those that there are.
    """
    found = find_campaign(store, name_or_id)
    if found is None:
        names = [raw["name"] for raw in store.campaigns.find({}, {"name": 1}).sort("name", 1).limit(10)]
        raise InputError(
            f"there is no campaign {name_or_id!r}",
            where=store.db.name,
            mend=f"there are: {', '.join(names)}" if names else "the database holds no campaign yet",
        )
    return found


def list_campaigns(store: Store) -> list[CampaignDocument]:
    """All campaigns, the oldest first."""
    return [CampaignDocument.from_mongo(raw) for raw in store.campaigns.find().sort("created_at", 1)]


def named(store: Store, names: Sequence[str]) -> list[CampaignDocument]:
    """The campaigns with these names or ids, each once; a study's name stands for its campaigns.

    Those have it as their tag.

    Raises
    ------
    InputError
        There is no such campaign and no such study.
    """
    found: dict[str, CampaignDocument] = {}
    for name in names:
        one = find_campaign(store, name)
        tagged = store.campaigns.find({"config.tags": name}).sort("created_at", 1)
        members = [one] if one else [CampaignDocument.from_mongo(raw) for raw in tagged]
        found |= {each.campaign_id: each for each in members or [get_campaign(store, name)]}
    return list(found.values())


def refuse_mixed_references(documents: Sequence[CampaignDocument]) -> None:
    """Energies of different reference levels have nothing to say to each other.

    Raises
    ------
    InputError
        Two campaigns have different ones.
    """
    first = documents[0]
    for other in documents[1:]:
        if other.reference_hash != first.reference_hash:
            raise InputError(
                f"its reference is another one than that of {first.name}, and energies of different"
                " references never mix",
                where=other.name,
                mend="name campaigns with one reference; `godelta query` shows each one's",
            )


def load_problem(store: Store, campaign_id: str) -> bytes:
    """The packed search problem of a campaign.

    Raises
    ------
    DamagedError
        Where it is missing or damaged.
    """
    campaign = get_campaign(store, campaign_id)
    problem = read_blob(store, campaign.problem)
    if problem is None:
        raise DamagedError(
            "the campaign's search problem is missing or damaged in the database",
            where=campaign.name,
            mend="`godelta run` with its campaign file stores it again",
        )
    return problem


def set_state(
    store: Store,
    campaign_id: str,
    expected: CampaignState | Collection[CampaignState],
    new: CampaignState,
    *,
    reason: str | None = None,
) -> bool:
    """Change the state if it is as expected; whether it was. `reason` says why a campaign failed."""
    allowed = [expected] if isinstance(expected, str) else list(expected)
    update: Raw = {"state": new, "updated_at": "$$NOW", "reason": {"$literal": reason}}
    if new == "finished":
        update["finished_with"] = "$config"
    result = store.campaigns.update_one(
        {"campaign_id": campaign_id, "state": {"$in": allowed}}, [{"$set": update}]
    )
    if result.matched_count == 1:
        _tell_state(store, campaign_id, new, reason)
    return result.matched_count == 1


def _tell_state(store: Store, campaign_id: str, state: CampaignState, reason: str | None) -> None:
    raw = store.campaigns.find_one({"campaign_id": campaign_id}, {"name": 1})
    name = raw["name"] if raw else None
    event = logs.event("begins" if state == "running" else "ends")
    with logs.place(campaign=name, campaign_id=campaign_id):
        if state == "failed":
            log.error("the campaign failed: %s", reason, extra=event)
        else:
            log.info("the campaign is %s", state, extra=event)


def add_time(store: Store, campaign_id: str, *, elapsed_s: float = 0.0, worker_s: float = 0.0) -> None:
    """Add to the wall time during which the campaign was run, and to that of its workers."""
    store.campaigns.update_one(
        {"campaign_id": campaign_id},
        {"$inc": {"elapsed_s": float(elapsed_s), "worker_s": float(worker_s)}},
    )


def reopen(store: Store, campaign_id: str) -> bool:
    """Take up a finished campaign whose adjustable settings have changed since; whether they have."""
    result = store.campaigns.update_one(
        {
            "campaign_id": campaign_id,
            "state": "finished",
            "$expr": {"$ne": ["$config", "$finished_with"]},
        },
        {"$set": {"state": "paused"}, "$currentDate": {"updated_at": True}},
    )
    return result.matched_count == 1


def reserve_evaluation(
    store: Store, campaign_id: str, limit: int, key: str, *, cpu_hours: float | None = None
) -> bool:
    """Set one evaluation of the budget aside, unless reserved and spent ones reach a limit.

    Reserving a key again is free: a worker that takes over from a dead one finds its reservation.

    Parameters
    ----------
    limit
        The campaign's budget of evaluations.
    key
        What the evaluation is known by: the structure's hash.
    cpu_hours
        The campaign's budget of processor time; those under way count as the mean of those spent.
    """
    under_way = {"$size": "$reserved"}
    within: Raw = {"$lt": [{"$add": ["$spent", under_way]}, limit]}
    if cpu_hours is not None:
        mean = {"$divide": ["$spent_cpu_s", {"$max": ["$spent", 1]}]}
        used = {"$add": ["$spent_cpu_s", {"$multiply": [under_way, mean]}]}
        within = {"$and": [within, {"$lt": [used, cpu_hours * 3600.0]}]}
    result = store.campaigns.update_one(
        {"campaign_id": campaign_id, "$or": [{"reserved": key}, {"$expr": within}]},
        {"$addToSet": {"reserved": key}},
    )
    return result.matched_count == 1


def settle_evaluation(store: Store, campaign_id: str, key: str, cpu_s: float = 0.0) -> bool:
    """Count a reserved evaluation as spent, good or failed; False where the key was not reserved.

    Settling once more, after a crash, changes nothing. cpu_s: its processor time in s.
    """
    result = store.campaigns.update_one(
        {"campaign_id": campaign_id, "reserved": key},
        {"$pull": {"reserved": key}, "$inc": {"spent": 1, "spent_cpu_s": float(cpu_s)}},
    )
    return result.matched_count == 1


def release_evaluation(store: Store, campaign_id: str, key: str) -> bool:
    """Give a reservation back unspent; False where the key was not reserved."""
    result = store.campaigns.update_one(
        {"campaign_id": campaign_id, "reserved": key}, {"$pull": {"reserved": key}}
    )
    return result.matched_count == 1


def identity_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The keys in which two nested mappings differ, one line each: dotted key: old -> new."""
    before, after = dict(_flattened(old)), dict(_flattened(new))
    absent = object()
    return [
        f"{key}: {_shown(before.get(key, absent), absent)} -> {_shown(after.get(key, absent), absent)}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key, absent) != after.get(key, absent)
    ]


def _identity_error(old: CampaignDocument, identity: Mapping[str, Any], reference_hash: str) -> InputError:
    changes = identity_changes(old.identity, identity)
    if not any(line.startswith("reference.") for line in changes) and old.reference_hash != reference_hash:
        changes.append("the version of the reference engine is another one")
    lines = "".join(f"\n  {line}" for line in changes)
    return InputError(
        f"the campaign {old.name!r} exists already, with other settings that decide its results:{lines}",
        where=old.name,
        mend="use another name for the new campaign, or restore these settings to go on with the old one",
    )


def _flattened(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flattened(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def _shown(value: Any, absent: object) -> str:
    return "(absent)" if value is absent else repr(value)
