"""Backups: one consistent snapshot of a database in a zip file, and the way back.

An export is the same with one campaign in it (`transfer`). The file holds one BSON stream per collection and
a manifest with counts and checksums. Nothing of the server goes into it: no addresses, no users, no
passwords. The LaunchPad stays behind as well: what it holds is rebuilt from our own collections.
"""

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal

import bson
from bson.codec_options import CodecOptions
from bson.errors import InvalidBSON
from bson.raw_bson import RawBSONDocument
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure

import godelta
from godelta.errors import GodeltaError, InputError
from godelta.store import migrations, summaries
from godelta.store.database import RESTORE_NOTE, Raw, Store
from godelta.store.documents import SCHEMA_VERSION

FORMAT = 1
COLLECTIONS = (
    "campaigns", "rounds", "structures", "evaluations", "models", "features",
    "blobs.files", "blobs.chunks", "meta",
)  # fmt: skip
MANIFEST = "manifest.json"
STAGE = "restoring."  # collections that are loaded, and not yet in place
LEVEL = 1  # most of the bytes are floats, which more effort does not make smaller
BATCH_BYTES = 8_000_000
HISTORY_SECONDS = 86_400  # how far back the server can read while a backup is taken

_SNAPSHOT_UNAVAILABLE, _SNAPSHOT_TOO_OLD = 246, 239
_RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
_DAMAGED = (zipfile.BadZipFile, zlib.error, InvalidBSON, EOFError, KeyError, ValueError, RuntimeError)

Report = Callable[[int, int], None]  # documents done, of how many


@dataclass(frozen=True)
class Extract:
    """What a file is to hold, if not everything.

    Parameters
    ----------
    campaign
        Name of the campaign.
    filters
        Called with the snapshot's session: filters by collection, of those that have something to give.
    edit
        Changes a document of a collection on its way into the file.
    """

    campaign: str
    filters: Callable[[ClientSession], Mapping[str, Raw]]
    edit: Callable[[str, RawBSONDocument], bytes]


class Part(BaseModel):
    """One collection of a backup."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int = Field(ge=0, description="documents")
    size: int = Field(ge=0, description="bytes")
    sha256: str


Kind = Literal["godelta backup", "godelta export"]


class Manifest(BaseModel):
    """What a backup or an export holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind = "godelta backup"
    campaign: str | None = Field(None, description="name of the campaign of an export")
    format: int = Field(FORMAT, ge=1, le=FORMAT)
    created_at: datetime = Field(description="UTC")
    godelta: str = Field(description="version that wrote it")
    schema_version: int = Field(ge=1)
    database: str = Field(description="name of the database")
    collections: dict[str, Part]

    @property
    def count(self) -> int:
        """Documents of all collections."""
        return sum(part.count for part in self.collections.values())


def _quietly(_done: int, _total: int) -> None:
    return


def backup(
    store: Store,
    target: Path,
    *,
    report: Report = _quietly,
    own_server: bool = False,
    extract: Extract | None = None,
) -> Manifest:
    """Write the database as it is at this moment; others may go on working.

    The file appears under its name when it is complete, never before.

    Parameters
    ----------
    store
        The database.
    target
        The file to write.
    report
        Called with the documents done, and how many there are about.
    own_server
        The server is ours alone: it may be told to keep its history until the backup is done.
    extract
        Write this part of the database only.

    Raises
    ------
    InputError
        There is a file of this name already.
    GodeltaError
        The file cannot be written, or the server gave up the snapshot.
    """
    if target.exists():
        raise InputError("there is such a file already", where=str(target), mend="choose another name")
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with _history(store.db.client) if own_server else _as_it_is():
            manifest = _written(store, partial, report, extract)
        partial.rename(target)
    except OSError as error:
        raise GodeltaError(
            f"the backup cannot be written: {error.strerror or error}",
            where=str(target),
            mend="choose another place for it",
        ) from error
    except OperationFailure as error:
        if error.code not in (_SNAPSHOT_UNAVAILABLE, _SNAPSHOT_TOO_OLD):
            raise
        raise GodeltaError(
            "the server did not keep its history for long enough",
            where=store.db.name,
            mend="try again when less is going on, or raise minSnapshotHistoryWindowInSeconds of the server",
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return manifest


def verify(source: Path, *, report: Report = _quietly) -> Manifest:
    """Read a backup from its first byte to its last, and compare it with its manifest.

    Raises
    ------
    InputError
        It cannot be read, is damaged or incomplete, or a newer godelta wrote it.
    """
    with readable(source), zipfile.ZipFile(source) as archive:
        manifest = read_manifest(source, archive)
        done = 0
        for name, part in manifest.collections.items():
            for _ in _documents(archive, name, part):
                done += 1
                report(done, manifest.count)
        return manifest


def restore(store: Store, source: Path, *, force: bool = False, report: Report = _quietly) -> Manifest:
    """Bring a database back to what a backup holds, and to this godelta's schema.

    Everything is verified, then loaded beside what is there, then put in its place. Evaluations that
    were being computed when the backup was taken are free to be computed again.

    Parameters
    ----------
    store
        The database; nobody else may be working on it.
    source
        The backup.
    force
        Replace what the database holds.
    report
        Called with the documents done, and how many there are: each is read twice.

    Raises
    ------
    InputError
        The backup cannot be used, or the database is not empty and `force` is not set. Nothing has
        been changed then.
    """
    manifest = verify(source, report=lambda done, total: report(done, 2 * total))
    expect("godelta backup", manifest, source)
    if not force and _in_use(store):
        raise InputError(
            "the database is not empty",
            where=store.db.name,
            mend="--force replaces what it holds; --name NAME restores into another database",
        )
    with readable(source), zipfile.ZipFile(source) as archive:
        load(store, archive, manifest, lambda done, total: report(total + done, 2 * total))
    # Who computed these then is gone; the token stays, so that nobody can commit who is not.
    held = {"state": "pending", "lease": {"$ne": None}}
    store.db[f"{STAGE}evaluations"].update_many(held, {"$set": {"lease": None}})
    _swap(store, manifest, source)
    store.ensure_indexes()
    migrations.apply(store)
    summaries.forget(store)
    return manifest


def expect(kind: Kind, manifest: Manifest, source: Path) -> None:
    """Refuse a backup where an export is wanted, and the other way round.

    Raises
    ------
    InputError
        It is the other kind.
    """
    if manifest.kind == kind:
        return
    if manifest.kind == "godelta export":
        raise InputError(
            f"this is the export of one campaign, {manifest.campaign!r}, no backup of a database",
            where=str(source),
            mend="`godelta import` takes it",
        )
    raise InputError(
        "this is the backup of a whole database, not the export of a campaign",
        where=str(source),
        mend="`godelta db restore` takes it; `godelta export` writes one campaign",
    )


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


@contextmanager
def _history(client: MongoClient[Raw]) -> Iterator[None]:
    """Let the server keep its history while a backup is taken, five minutes are its default."""
    name = "minSnapshotHistoryWindowInSeconds"
    before = client.admin.command({"getParameter": 1, name: 1})[name]
    client.admin.command({"setParameter": 1, name: HISTORY_SECONDS})
    try:
        yield
    finally:
        client.admin.command({"setParameter": 1, name: before})


def _written(store: Store, partial: Path, report: Report, extract: Extract | None) -> Manifest:
    for attempt in range(5):
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            try:
                manifest = _write(store, stream, report, extract)
            except OperationFailure as error:
                # Collections or indexes have only just been made: a moment later they can be read.
                if error.code != _SNAPSHOT_UNAVAILABLE or attempt == 4:
                    raise
                continue
            stream.flush()
            os.fsync(stream.fileno())
            return manifest
    raise AssertionError("unreachable")


def _write(store: Store, stream: BinaryIO, report: Report, extract: Extract | None) -> Manifest:
    client = store.db.client
    parts: dict[str, Part] = {}
    done = 0
    with (
        client.start_session(snapshot=True) as session,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as archive,
    ):
        schema = store.db["meta"].find_one({"_id": "schema"}, session=session)
        filters = dict.fromkeys(COLLECTIONS, Raw()) if extract is None else extract.filters(session)
        total = sum(_about(store, name, wanted) for name, wanted in filters.items())
        for name in COLLECTIONS:
            digest, count, size = hashlib.sha256(), 0, 0
            with archive.open(f"{name}.bson", "w", force_zip64=True) as member:
                for raw in _snapshot(store, name, session, filters, extract):
                    member.write(raw)
                    digest.update(raw)
                    count, size, done = count + 1, size + len(raw), done + 1
                    report(done, max(done, total))
            parts[name] = Part(count=count, size=size, sha256=digest.hexdigest())
        manifest = Manifest(
            kind="godelta backup" if extract is None else "godelta export",
            campaign=None if extract is None else extract.campaign,
            created_at=datetime.now(UTC),
            godelta=godelta.__version__,
            schema_version=schema["version"] if schema else SCHEMA_VERSION,
            database=store.db.name,
            collections=parts,
        )
        archive.writestr(MANIFEST, manifest.model_dump_json(indent=1))
    return manifest


def _about(store: Store, name: str, wanted: Raw) -> int:
    return store.db[name].count_documents(wanted) if wanted else store.db[name].estimated_document_count()


def _snapshot(
    store: Store, name: str, session: ClientSession, filters: Mapping[str, Raw], extract: Extract | None
) -> Iterator[bytes]:
    if name not in filters:
        return
    collection = store.db.with_options(codec_options=_RAW)[name]
    for document in collection.find(filters[name], session=session):
        yield bytes(document.raw) if extract is None else extract.edit(name, document)


@contextmanager
def readable(source: Path) -> Iterator[None]:
    """Say what is wrong with a backup."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror or error}",
            where=str(source),
            mend="name a file that `godelta db backup` or `godelta export` has written",
        ) from error
    except _DAMAGED as error:
        raise InputError(
            f"this is no backup of godelta, or it is damaged: {error}",
            where=str(source),
            mend="take another backup; nothing has been changed",
        ) from error


def read_manifest(source: Path, archive: zipfile.ZipFile) -> Manifest:
    """What a file says that it holds; ValueError where that is not what godelta writes."""
    values = json.loads(archive.read(MANIFEST))
    if not isinstance(values, dict):
        raise ValueError("its manifest is no mapping")
    limits = {"format": FORMAT, "schema_version": SCHEMA_VERSION}
    for key, highest in limits.items():
        if isinstance(values.get(key), int) and values[key] > highest:
            raise InputError(
                f"a newer godelta ({values.get('godelta')}) wrote this backup: its {key} is {values[key]}, "
                f"this one reads up to {highest}",
                where=str(source),
                mend="upgrade godelta",
            )
    try:
        manifest = Manifest.model_validate(values)
    except ValidationError as error:
        raise ValueError(f"its manifest does not fit ({error.error_count()} problems)") from error
    if set(manifest.collections) != set(COLLECTIONS):
        raise ValueError("its collections are not those that belong in it")
    return manifest


def _documents(archive: zipfile.ZipFile, name: str, part: Part) -> Iterator[RawBSONDocument]:
    """The documents of a collection; an error at the end where they are not what was written."""
    digest, count, size = hashlib.sha256(), 0, 0
    with archive.open(f"{name}.bson") as member:
        for document in bson.decode_file_iter(member, _RAW):
            digest.update(document.raw)
            count, size = count + 1, size + len(document.raw)
            yield document
    if (count, size, digest.hexdigest()) != (part.count, part.size, part.sha256):
        raise ValueError(f"{name} is not what the manifest says")


def _in_use(store: Store) -> bool:
    ours = [name for name in COLLECTIONS if name != "meta"]
    return bool(
        store.db["meta"].find_one({"_id": RESTORE_NOTE})
        or any(store.db[name].find_one({}, {"_id": 1}) for name in ours)
    )


def load(
    store: Store, archive: zipfile.ZipFile, manifest: Manifest, report: Report, *, stage: str = STAGE
) -> None:
    """Load a file's documents into collections beside those in use, whose names begin with `stage`."""
    done = 0
    for name, part in manifest.collections.items():
        beside = store.db.get_collection(stage + name, codec_options=_RAW)
        beside.drop()  # of a restore that was interrupted
        batch: list[RawBSONDocument] = []
        size = 0
        for document in _documents(archive, name, part):
            batch.append(document)
            size += len(document.raw)
            if size >= BATCH_BYTES:
                beside.insert_many(batch, ordered=False)
                done += len(batch)
                report(done, manifest.count)
                batch, size = [], 0
        if batch:
            beside.insert_many(batch, ordered=False)
            done += len(batch)
            report(done, manifest.count)


def _swap(store: Store, manifest: Manifest, source: Path) -> None:
    """Put the loaded collections in place; a note tells if this was not finished."""
    note: dict[str, Any] = {"file": str(source.resolve()), "at": store.now()}
    store.db["meta"].update_one({"_id": RESTORE_NOTE}, {"$set": note}, upsert=True)
    # `meta` goes last: the note vanishes with what it replaces.
    for name in sorted(manifest.collections, key=lambda name: name == "meta"):
        if manifest.collections[name].count:
            store.db[STAGE + name].rename(name, dropTarget=True)
        else:
            store.db[name].drop()
