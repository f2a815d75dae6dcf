"""Evaluations of other campaigns that a campaign's Δ-model starts from: chosen once, and kept with it."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import bson
from bson import ObjectId

from godelta.delta.pretrain import PretrainSettings
from godelta.errors import InputError
from godelta.store.blobs import DamagedError, read_blob
from godelta.store.campaigns import get_campaign
from godelta.store.database import Raw, Store
from godelta.store.documents import (
    CampaignDocument,
    EvaluationDocument,
    StructureDocument,
    hill_formula,
)

Pair = tuple[StructureDocument, EvaluationDocument]
_PLACES = frozenset({"weights", "device"})  # where a foundation is found and run; its energies stay


def choose(
    store: Store,
    wanted: PretrainSettings,
    *,
    foundation: Mapping[str, Any],
    weights_sha256: str | None,
    reference_hash: str,
    elements: Collection[str],
) -> list[Pair]:
    """Good evaluations of other campaigns, sorted by structure hash.

    Parameters
    ----------
    wanted
        What is asked for.
    foundation, weights_sha256
        Settings of the campaign's foundation, and the hash of its weights.
    reference_hash
        The campaign's reference level.
    elements
        Symbols that structures may contain.

    Raises
    ------
    InputError
        A campaign is not there, or has another foundation or reference; or no evaluation fits.
    """
    query: Raw = {"reference_hash": reference_hash, "state": "ok"}
    query["elements"] = {"$not": {"$elemMatch": {"$nin": sorted(elements)}}}
    if wanted.formula is not None:
        query["formula"] = hill_formula(wanted.formula)
    sources = _sources(store, wanted, foundation, weights_sha256, reference_hash)
    query["requests.campaign_id"] = {"$in": sorted(sources)}
    cursor = store.evaluations.find(query, {"attempts": 0}).sort(
        [("energy_per_atom", 1), ("structure_hash", 1)]
    )
    found = [EvaluationDocument.from_mongo(raw | {"attempts": []}) for raw in cursor.limit(wanted.at_most)]
    if not found:
        raise InputError(
            "no evaluation of the same foundation, reference and elements is there to learn from",
            where="delta.pretrain_from",
            mend="`godelta query` lists evaluations; or leave the key out",
        )
    ids = {
        evaluation.structure_hash: next(
            request.structure_id for request in evaluation.requests if request.campaign_id in sources
        )
        for evaluation in found
    }
    documents = {
        raw["structure_id"]: StructureDocument.from_mongo(raw)
        for raw in store.structures.find({"structure_id": {"$in": sorted(ids.values())}})
    }
    pairs = [
        (documents[ids[one.structure_hash]], one) for one in found if ids[one.structure_hash] in documents
    ]
    return sorted(pairs, key=lambda pair: pair[1].structure_hash)


def _sources(
    store: Store,
    wanted: PretrainSettings,
    foundation: Mapping[str, Any],
    weights_sha256: str | None,
    reference_hash: str,
) -> set[str]:
    """Ids of the campaigns to learn from."""
    named = [get_campaign(store, name) for name in wanted.campaigns]
    every: Iterable[CampaignDocument] = named or map(
        CampaignDocument.from_mongo, store.campaigns.find({"reference_hash": reference_hash})
    )
    fitting = set()
    for campaign in every:
        reason = _difference(campaign, foundation, weights_sha256, reference_hash)
        if reason and named:
            raise InputError(
                f"{campaign.name} cannot be learnt from: {reason}",
                where="delta.pretrain_from",
                mend="name campaigns of the same foundation and reference: `godelta status` lists all",
            )
        if not reason and set(wanted.tags) <= set(campaign.config.get("tags", ())):
            fitting.add(campaign.campaign_id)
    return fitting


def _difference(
    campaign: CampaignDocument,
    foundation: Mapping[str, Any],
    weights_sha256: str | None,
    reference_hash: str,
) -> str:
    """Why residuals of a campaign are others than ours; "" where they are not."""
    if campaign.reference_hash != reference_hash:
        return "it has another reference, or other settings of it"
    theirs = {key: value for key, value in campaign.config["foundation"].items() if key not in _PLACES}
    if theirs != {key: value for key, value in foundation.items() if key not in _PLACES}:
        return "it has another foundation, or other settings of it"
    if None not in (weights_sha256, campaign.weights_sha256) and campaign.weights_sha256 != weights_sha256:
        return "its foundation has other weights"
    return ""


def pack(pairs: Iterable[Pair]) -> bytes:
    """The evaluations as BSON."""
    return bytes(bson.encode({"pairs": [[s.to_mongo(), e.to_mongo()] for s, e in pairs]}))


def load(store: Store, blob: ObjectId | None) -> list[Pair]:
    """The evaluations that a campaign has kept, none for None.

    Raises
    ------
    DamagedError
        They are missing or damaged.
    """
    if blob is None:
        return []
    data = read_blob(store, blob)
    if data is None:
        raise DamagedError(
            "the evaluations that the campaign was pretrained on are missing or damaged in the database",
            where=str(blob),
            mend="restore a backup: `godelta db restore`",
        )
    options: bson.CodecOptions[dict[str, Any]] = bson.CodecOptions(tz_aware=True)
    return [
        (StructureDocument.from_mongo(structure), EvaluationDocument.from_mongo(evaluation))
        for structure, evaluation in bson.decode(data, options)["pairs"]
    ]
