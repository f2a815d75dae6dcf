"""One campaign from a database to another: a file with all that it needs, and the way in.

The file is a backup with one campaign in it. An import loads it beside what is there, checks every document,
then adds to each collection what it lacks, the campaign's own document last: until then nobody sees any of
it. Each of these may be repeated, so the same command finishes an import that was interrupted.
"""

import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import bson
from bson import ObjectId
from bson.errors import InvalidId
from bson.raw_bson import RawBSONDocument
from gridfs import GridFSBucket
from pymongo.client_session import ClientSession
from pymongo.errors import DuplicateKeyError

from godelta.campaign import NAME
from godelta.delta.displaced import MARK
from godelta.errors import GodeltaError, InputError
from godelta.store import migrations
from godelta.store.backup import (
    COLLECTIONS,
    Extract,
    Manifest,
    Report,
    backup,
    expect,
    load,
    read_manifest,
    readable,
    verify,
)
from godelta.store.blobs import read_blob
from godelta.store.campaigns import get_campaign
from godelta.store.database import Raw, Store
from godelta.store.documents import (
    SCHEMA_VERSION,
    CampaignDocument,
    Document,
    EvaluationDocument,
    ModelDocument,
    RoundDocument,
    StructureDocument,
    evaluation_id,
    structure_hash,
    structure_id,
)

STAGE = "importing."
STALE = timedelta(hours=1)  # what an import that was killed left beside goes with a later one

_MODELS: Mapping[str, type[Document]] = {
    "campaigns": CampaignDocument,
    "rounds": RoundDocument,
    "structures": StructureDocument,
    "evaluations": EvaluationDocument,
    "models": ModelDocument,
}
# What a collection knows a document by; the order is that of writing: nothing points to what is not there.
_KEYS: Mapping[str, list[str]] = {
    "blobs.chunks": ["_id"],
    "blobs.files": ["_id"],
    "features": ["structure_id", "descriptor"],
    "structures": ["structure_id"],
    "models": ["model_id"],
    "evaluations": ["structure_hash", "reference_hash"],
    "rounds": ["campaign_id", "chain", "k"],
}
# Nobody computes it here, and nobody has: what came with the file is taken.
_FREE: Raw = {
    "$and": [
        {"$eq": ["$state", "pending"]},
        {"$eq": [{"$ifNull": ["$lease", None]}, None]},
        {"$ne": ["$$new.state", "pending"]},
    ]
}
_UNASKED: Raw = {"$not": [{"$in": ["$$asked.structure_id", "$requests.structure_id"]}]}
_UNKNOWN: Raw = {"$eq": ["$formula", ""]}
_ADOPT: list[Raw] = [
    {
        "$replaceWith": {
            "$cond": [
                _FREE,
                {
                    "$mergeObjects": [
                        "$$new",
                        {
                            "_id": "$_id",
                            "token": {"$max": ["$token", "$$new.token"]},
                            "attempts": {"$concatArrays": ["$attempts", "$$new.attempts"]},
                            "requests": "$requests",
                        },
                    ]
                },
                "$$ROOT",
            ]
        }
    },
    {
        "$set": {
            "requests": {
                "$concatArrays": [
                    "$requests",
                    {"$filter": {"input": "$$new.requests", "as": "asked", "cond": _UNASKED}},
                ]
            },
            "formula": {"$cond": [_UNKNOWN, "$$new.formula", "$formula"]},
            "elements": {"$cond": [_UNKNOWN, "$$new.elements", "$elements"]},
        }
    },
]
_UTC: bson.CodecOptions[dict[str, Any]] = bson.CodecOptions(tz_aware=True)
_CHUNK = 1000


@dataclass(frozen=True)
class Imported:
    """What an import found, and did.

    Parameters
    ----------
    manifest
        Of the file.
    campaign
        As it is in the database now.
    here
        It was there already: nothing was changed.
    kept
        Evaluations that the database had already, and kept as they were.
    """

    manifest: Manifest
    campaign: CampaignDocument
    here: bool
    kept: int = 0


def _quietly(_done: int, _total: int) -> None:
    return


def export_campaign(
    store: Store,
    name: str,
    target: Path,
    *,
    features: bool = False,
    report: Report = _quietly,
    own_server: bool = False,
) -> Manifest:
    """Write a campaign as it is at this moment, with all that it needs to go on elsewhere.

    Parameters
    ----------
    store
        The database; the campaign stays in it as it is.
    name
        The campaign's name or id.
    target
        The file to write.
    features
        Include the cache of descriptors: larger, and nothing has to be computed again.
    report, own_server
        As for `backup`.

    Raises
    ------
    InputError
        There is no such campaign, or a file of this name already.
    GodeltaError
        As `backup`.
    """
    campaign = get_campaign(store, name)

    def filters(session: ClientSession) -> Mapping[str, Raw]:
        return _parts(store, campaign, features, session)

    def edit(collection: str, document: RawBSONDocument) -> bytes:
        return _without_others(document, campaign) if collection == "evaluations" else bytes(document.raw)

    extract = Extract(campaign.name, filters, edit)
    return backup(store, target, report=report, own_server=own_server, extract=extract)


def import_campaign(
    store: Store, source: Path, *, name: str | None = None, report: Report = _quietly
) -> Imported:
    """Take a campaign in.

    One that was running is paused then: `godelta run` goes on with it. Evaluations that the database has
    already stay as they are, unless nobody has computed them yet.

    Parameters
    ----------
    store
        The database; others may be working on it.
    source
        A file of `export_campaign`.
    name
        The campaign's name here, if another one than in the file.
    report
        Called with the documents done, and how many there are: each is read twice.

    Raises
    ------
    InputError
        The file cannot be used, or another campaign has the name. Nothing has been changed then.
    """
    manifest = verify(source, report=lambda done, total: report(done, 2 * total))
    expect("godelta export", manifest, source)
    total = manifest.count
    with readable(source), zipfile.ZipFile(source) as archive:
        if read_manifest(source, archive) != manifest:
            raise ValueError("it was changed while it was read")
        with _stage(store) as (stage, prefix):
            load(store, archive, manifest, lambda done, _: report(total + done, 2 * total), stage=prefix)
            if manifest.schema_version < SCHEMA_VERSION:
                migrations.transform(stage, manifest.schema_version)
            campaign = _checked(stage, source)
            found = store.campaigns.find_one({"campaign_id": campaign.campaign_id})
            if found is not None:
                return Imported(manifest, CampaignDocument.from_mongo(found), here=True)
            renamed = _renamed(campaign, name or campaign.name)
            _refuse_taken(store, renamed.name)
            campaign, kept = _merged(store, prefix, renamed)
            return Imported(manifest, campaign, here=False, kept=kept)


def _parts(
    store: Store, campaign: CampaignDocument, features: bool, session: ClientSession
) -> Mapping[str, Raw]:
    """What belongs to a campaign, as filters by collection."""
    mine = {"campaign_id": campaign.campaign_id}
    rounds = list(store.rounds.find(mine, ("state", "selection", "search_state"), session=session))
    models = store.models.find(mine, {"blob": 1}, session=session)
    blobs = [campaign.problem, campaign.pretraining]
    blobs += [*(raw["blob"] for raw in models), *(raw["search_state"] for raw in rounds)]
    held = {"$in": [blob for blob in blobs if blob is not None]}
    # Selected, and not asked for yet: somebody else's evaluation may be there all the same.
    waiting = {id_ for raw in rounds if raw["state"] != "closed" for id_ in raw["selection"]}
    hashes = store.structures.find(
        {"structure_id": {"$in": sorted(waiting)}}, ["structure_hash"], session=session
    )
    wanted = [
        {"requests.campaign_id": campaign.campaign_id},
        {"structure_hash": {"$in": [raw["structure_hash"] for raw in hashes]}},
    ]
    parts: dict[str, Raw] = {
        "campaigns": mine,
        "rounds": mine,
        "structures": mine,
        "evaluations": {"reference_hash": campaign.reference_hash, "$or": wanted},
        "models": mine,
        "blobs.files": {"_id": held},
        "blobs.chunks": {"files_id": held},
    }
    if features:
        mine_too = set(store.structures.distinct("structure_hash", mine, session=session))
        every = store.features.find({}, {"_id": 0, "structure_id": 1}, session=session)
        # They are known by the structure's hash; its displaced copies have more after a mark.
        ids = {raw["structure_id"] for raw in every if raw["structure_id"].split(MARK)[0] in mine_too}
        parts["features"] = {"structure_id": {"$in": sorted(ids)}}
    return parts


def _without_others(document: RawBSONDocument, campaign: CampaignDocument) -> bytes:
    """An evaluation as this campaign alone had asked for it; who computes it now stays behind."""
    plain = bson.decode(document.raw, _UTC)
    plain["requests"] = [
        asked for asked in plain.get("requests", ()) if asked["campaign_id"] == campaign.campaign_id
    ]
    return bson.encode(plain | {"lease": None})


@contextmanager
def _stage(store: Store) -> Iterator[tuple[Store, str]]:
    """Collections beside those in use, and the beginning of their names."""
    _drop_stale(store)
    prefix = f"{STAGE}{ObjectId()}."
    stage = replace(
        store,
        campaigns=store.db[f"{prefix}campaigns"],
        rounds=store.db[f"{prefix}rounds"],
        structures=store.db[f"{prefix}structures"],
        evaluations=store.db[f"{prefix}evaluations"],
        models=store.db[f"{prefix}models"],
        features=store.db[f"{prefix}features"],
        blobs=GridFSBucket(store.db, bucket_name=f"{prefix}blobs"),
    )
    try:
        yield stage, prefix
    finally:
        for name in COLLECTIONS:
            store.db.drop_collection(prefix + name)


def _drop_stale(store: Store) -> None:
    for name in store.db.list_collection_names(filter={"name": {"$regex": "^" + STAGE.replace(".", r"\.")}}):
        try:
            begun = ObjectId(name.split(".")[1]).generation_time
        except InvalidId:
            continue
        if store.now() - begun > STALE:
            store.db.drop_collection(name)


def _checked(stage: Store, source: Path) -> CampaignDocument:
    """The campaign of a file whose documents all are what they say, and belong to it.

    Raises
    ------
    InputError
        They do not.
    """
    try:
        campaigns = [CampaignDocument.from_mongo(raw) for raw in stage.campaigns.find()]
        if len(campaigns) != 1:
            raise _Unfit(f"it holds {len(campaigns)} campaigns")
        (campaign,) = campaigns
        hashes = {campaign.reference_hash}
        for name, model in _MODELS.items():
            for raw in getattr(stage, name).find():
                _check_one(model.from_mongo(raw), campaign, hashes)
        blobs = [campaign.problem, *([campaign.pretraining] if campaign.pretraining else [])]
        blobs += [raw["blob"] for raw in stage.models.find({}, {"blob": 1})]
        blobs += [raw["search_state"] for raw in stage.rounds.find({"search_state": {"$ne": None}})]
        if any(read_blob(stage, blob) is None for blob in blobs):
            raise _Unfit("one of its arrays is missing or damaged")
    except (_Unfit, GodeltaError) as error:
        what = error.what if isinstance(error, GodeltaError) else str(error)
        raise InputError(
            f"the export is not what godelta writes: {what}",
            where=str(source),
            mend="export the campaign again; nothing has been changed",
        ) from error
    return campaign


class _Unfit(Exception):  # noqa: N818 - becomes an InputError where the file's name is known
    """Something in the file contradicts the rest."""


def _check_one(document: Document, campaign: CampaignDocument, levels: set[str]) -> None:
    owner = getattr(document, "campaign_id", campaign.campaign_id)
    if owner != campaign.campaign_id:
        raise _Unfit("a document belongs to another campaign")
    if isinstance(document, StructureDocument):
        digest = structure_hash(document.atoms())
        if (digest, structure_id(owner, digest)) != (document.structure_hash, document.structure_id):
            raise _Unfit(f"the structure {document.structure_id} is not the one that its hash names")
    if isinstance(document, EvaluationDocument):
        key = evaluation_id(document.structure_hash, document.reference_hash)
        strangers = {asked.campaign_id for asked in document.requests} - {campaign.campaign_id}
        if key != document.evaluation_id or document.reference_hash not in levels or strangers:
            raise _Unfit(f"the evaluation {document.evaluation_id} is not the one that its hashes name")


def _renamed(campaign: CampaignDocument, name: str) -> CampaignDocument:
    """The campaign under its name here, as `godelta run` can take it up."""
    if not re.fullmatch(NAME, name):
        raise InputError(
            f"{name!r} cannot be the name of a campaign",
            where="--name",
            mend="letters, digits, point, _ and -, at most 64",
        )
    former = campaign.finished_with
    values = {
        "name": name,
        "config": {**campaign.config, "name": name},
        "finished_with": None if former is None else {**former, "name": name},
        "state": "paused" if campaign.state == "running" else campaign.state,
    }
    return CampaignDocument.model_validate(campaign.model_dump() | values)


def _refuse_taken(store: Store, name: str) -> None:
    if store.campaigns.find_one({"name": name}, {"_id": 1}):
        raise InputError(
            f"another campaign here has the name {name!r}",
            where=store.db.name,
            mend="`--name NAME` gives the imported one another name",
        )


def _merged(store: Store, prefix: str, campaign: CampaignDocument) -> tuple[CampaignDocument, int]:
    """Add what is missing here, and the campaign in the end; and how many evaluations were here already."""
    kept = 0
    staged = store.db[f"{prefix}evaluations"].find({}, {"structure_hash": 1})
    for hashes in _chunks([raw["structure_hash"] for raw in staged]):
        here = {"structure_hash": {"$in": hashes}, "reference_hash": campaign.reference_hash}
        kept += store.evaluations.count_documents({**here, "state": {"$ne": "pending"}})
    for name, keys in _KEYS.items():
        merge = {
            "into": name,
            "on": keys,
            "whenMatched": _ADOPT if name == "evaluations" else "keepExisting",
            "whenNotMatched": "insert",
        }
        store.db[prefix + name].aggregate([{"$merge": merge}])
    try:
        store.campaigns.insert_one(campaign.to_mongo())
    except DuplicateKeyError:
        # Another import of the same file was faster, or somebody took the name a moment ago.
        found = store.campaigns.find_one({"campaign_id": campaign.campaign_id})
        if found is None:
            _refuse_taken(store, campaign.name)
            raise
        return CampaignDocument.from_mongo(found), kept
    return campaign, kept


def _chunks(values: list[str]) -> Iterator[list[str]]:
    return (values[first : first + _CHUNK] for first in range(0, len(values), _CHUNK))
