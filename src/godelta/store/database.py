"""The connection to MongoDB: collections, guarantees, indexes and the schema's version."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from gridfs import GridFSBucket
from pymongo import ASCENDING, DESCENDING, IndexModel, MongoClient
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    InvalidURI,
    OperationFailure,
    ServerSelectionTimeoutError,
)

from godelta.errors import GodeltaError
from godelta.store.credentials import address_of, refused, silent, unusable
from godelta.store.documents import SCHEMA_VERSION

Raw = dict[str, Any]

# (collection, keys, unique); keys marked "-" are descending.
INDEXES: tuple[tuple[str, tuple[str, ...], bool], ...] = (
    ("campaigns", ("name",), True),
    ("campaigns", ("campaign_id",), True),
    ("rounds", ("campaign_id", "chain", "k"), True),
    ("structures", ("structure_id",), True),
    ("structures", ("campaign_id", "chain", "round"), False),
    ("structures", ("sightings.chain", "sightings.round", "campaign_id"), False),
    ("rounds", ("state", "campaign_id"), False),
    ("evaluations", ("structure_hash", "reference_hash"), True),
    # Each begins with what `best` and `query` ask for, and ends with the order in which rows are wanted.
    ("evaluations", ("state", "energy_per_atom", "energy"), False),
    ("evaluations", ("requests.campaign_id", "reference_hash", "state", "energy"), False),
    ("evaluations", ("requests.round", "state", "energy_per_atom"), False),
    ("evaluations", ("formula", "reference_hash", "state", "energy_per_atom"), False),
    ("evaluations", ("reference_hash", "state", "energy_per_atom"), False),
    ("evaluations", ("elements", "state", "energy_per_atom"), False),
    ("models", ("model_id",), True),
    ("models", ("campaign_id", "-created_at"), False),
    ("features", ("structure_id", "descriptor"), True),
    ("workers", ("name",), True),
    # GridFS makes these itself, but only while it is empty: a restored one would stay without.
    ("blobs.files", ("filename", "uploadDate"), False),
    ("blobs.chunks", ("files_id", "n"), True),
)
RESTORE_NOTE = "restore"  # id of the note in `meta` while a restore replaces the collections


PATIENCE_S = 1800.0
_Answer = TypeVar("_Answer")

log = logging.getLogger(__name__)


class Superseded(GodeltaError):  # noqa: N818 - the word of the state machine, not a failure
    """Somebody else has moved on: another epoch, state or lease token holds. Stop quietly."""


@dataclass(frozen=True, slots=True)
class Store:
    """The collections of one database.

    Writes are acknowledged by a majority and journalled, reads see only what a majority holds, and
    times are in UTC; the server's clock decides.
    """

    db: Database[Raw]
    campaigns: Collection[Raw]
    rounds: Collection[Raw]
    structures: Collection[Raw]
    evaluations: Collection[Raw]
    models: Collection[Raw]
    features: Collection[Raw]
    workers: Collection[Raw]
    blobs: GridFSBucket

    def ensure_indexes(self) -> None:
        """Create what is missing of the indexes, and note the schema's version.

        Raises
        ------
        GodeltaError
            Where documents that are there twice, or the user's rights, do not allow it.
        """
        models: dict[str, list[IndexModel]] = {}
        for name, keys, unique in INDEXES:
            spec = [(key.lstrip("-"), DESCENDING if key.startswith("-") else ASCENDING) for key in keys]
            models.setdefault(name, []).append(IndexModel(spec, unique=unique))
        for name, indexes in models.items():
            try:
                self.db[name].create_indexes(indexes)
            except OperationFailure as error:
                said = (error.details or {}).get("errmsg", error)
                raise GodeltaError(
                    f"the collection {name} cannot have its indexes: {said}",
                    where=self.db.name,
                    mend="after `godelta db backup`, remove what is there twice, or let a user who may make"
                    " indexes open the database once",
                ) from error
        self.db["meta"].update_one(
            {"_id": "schema"}, {"$setOnInsert": {"version": SCHEMA_VERSION}}, upsert=True
        )

    def now(self) -> datetime:
        """The server's time."""
        time = self.db.command("hello", codec_options=self.db.codec_options)["localTime"]
        assert isinstance(time, datetime)
        return time

    def close(self) -> None:
        """Close the connections."""
        self.db.client.close()


def patiently(
    call: Callable[[], _Answer], *, seconds: float = PATIENCE_S, check: Callable[[], None] | None = None
) -> _Answer:
    """Call again and again while the server is away: for what cost too much to be lost in an outage.

    Parameters
    ----------
    call
        May be repeated without harm.
    seconds
        How long in all; then the last error is raised.
    check
        Called after each failure; raises where there is no use in waiting.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return call()
        except ConnectionFailure as error:
            if time.monotonic() > deadline:
                raise
            if check is not None:
                check()
            log.warning("the database does not answer; trying again: %s", error)
            time.sleep(1.0)


def connect(
    uri: str,
    name: str = "godelta",
    *,
    timeout_ms: int = 90_000,
    half_restored: bool = False,
    older: bool = False,
) -> Store:
    """Connect to a database and check that this version of godelta can read it.

    Parameters
    ----------
    uri
        MongoDB connection string.
    name
        Name of the database.
    timeout_ms
        How long, in ms, every operation waits for the server to come (back). Short times make a
        short outage fatal for running jobs.
    half_restored
        Take a database whose restore was interrupted as well.
    older
        Take a database of an older schema as well, to migrate or to replace it.

    Raises
    ------
    InputError
        Where the URI cannot be parsed.
    GodeltaError
        Where the server does not answer or refuses the password, a newer godelta wrote the data, or a
        restore was interrupted.
    """
    address = address_of(uri)
    try:
        client: MongoClient[Raw] = MongoClient(
            uri,
            tz_aware=True,
            w="majority",
            journal=True,
            readConcernLevel="majority",
            serverSelectionTimeoutMS=timeout_ms,
            appname="godelta",
        )
    except (InvalidURI, ConfigurationError, ValueError, OSError) as error:
        # Not chained into the message: the URI may hold a password.
        raise unusable(uri, error) from None
    database = client[name]
    try:
        _check_usable(database, half_restored, older)
    except GodeltaError:
        client.close()
        raise
    except ServerSelectionTimeoutError as error:
        client.close()
        raise silent(error, address, timeout_ms / 1000) from error
    except OperationFailure as error:
        client.close()
        raise refused(error, address) from error
    return Store(
        db=database,
        campaigns=database["campaigns"],
        rounds=database["rounds"],
        structures=database["structures"],
        evaluations=database["evaluations"],
        models=database["models"],
        features=database["features"],
        workers=database["workers"],
        blobs=GridFSBucket(database, bucket_name="blobs"),
    )


def _check_usable(database: Database[Raw], half_restored: bool, older: bool) -> None:
    notes = {raw["_id"]: raw for raw in database["meta"].find({"_id": {"$in": ["schema", RESTORE_NOTE]}})}
    version = notes["schema"].get("version") if "schema" in notes else SCHEMA_VERSION
    _check_version(version, database.name, older)
    if RESTORE_NOTE in notes and not half_restored:
        raise GodeltaError(
            "the database was being restored, and that was interrupted",
            where=database.name,
            mend=f"run it again: godelta db restore --force {notes[RESTORE_NOTE].get('file', 'FILE')}",
        )


def _check_version(version: object, name: str, older: bool) -> None:
    if type(version) is not int:
        raise GodeltaError(
            f"the database's note of its schema version is garbled: {version!r}",
            where=f"{name}, collection meta",
            mend=f"set it to {SCHEMA_VERSION} if this godelta wrote the data, else restore a backup",
        )
    if version > SCHEMA_VERSION:
        raise GodeltaError(
            f"the database has schema version {version}, this godelta reads up to {SCHEMA_VERSION}",
            where=name,
            mend="upgrade godelta",
        )
    if version < SCHEMA_VERSION and not older:
        raise GodeltaError(
            f"the database has schema version {version} of an older godelta, this one needs {SCHEMA_VERSION}",
            where=name,
            mend="when nobody works on it: `godelta migrate`, which takes a backup first",
        )
