"""From the schema of an older godelta to this one's, in steps that may be repeated and interrupted.

A step looks for what it still has to do and does that: after kill -9 the next call goes on, and a step that
is done changes nothing. The database has its new version when all steps are done, and is refused until then.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo import UpdateOne
from pymongo.errors import OperationFailure

from godelta.errors import GodeltaError
from godelta.store.database import Raw, Store
from godelta.store.documents import SCHEMA_VERSION, Request

log = logging.getLogger(__name__)

NOTE = "migration"  # id of the note in `meta` from the backup to the end
_CHUNK = 500
_INDEX_NOT_FOUND, _NAMESPACE_NOT_FOUND = 27, 26

Report = Callable[[int, int], None]  # steps done, of how many


@dataclass(frozen=True)
class Step:
    """One change; `run` may be repeated, and may have been interrupted before."""

    does: str
    run: Callable[[Store], None]


@dataclass(frozen=True)
class Migration:
    """What leads from the version before to `version`."""

    version: int
    steps: tuple[Step, ...]


def version_of(store: Store) -> int:
    """The schema version that the database notes; this godelta's where it is new."""
    note = store.db["meta"].find_one({"_id": "schema"})
    return SCHEMA_VERSION if note is None else int(note["version"])


def steps_since(version: int) -> list[Step]:
    """The steps from a version to this godelta's."""
    return [step for migration in MIGRATIONS if migration.version > version for step in migration.steps]


def transform(store: Store, version: int, report: Report = lambda _done, _total: None) -> None:
    """Bring documents of a version to this godelta's; what says which version it is stays as it is."""
    steps = steps_since(version)
    for number, step in enumerate(steps):
        report(number, len(steps))
        log.info("schema: %s", step.does)
        step.run(store)
    report(len(steps), len(steps))


def apply(store: Store, report: Report = lambda _done, _total: None) -> int:
    """Bring a database to this godelta's schema; the version that it had."""
    version = version_of(store)
    if version < SCHEMA_VERSION:
        transform(store, version, report)
        store.ensure_indexes()
        store.db["meta"].update_one({"_id": "schema"}, {"$set": {"version": SCHEMA_VERSION}})
    store.db["meta"].delete_one({"_id": NOTE})
    return version


def migrate(
    store: Store, backup: Callable[[], Path], report: Report = lambda _done, _total: None
) -> Path | None:
    """Bring a database to this godelta's schema, after a backup; where the backup lies.

    Parameters
    ----------
    store
        The database, opened with `connect(..., older=True)`; nobody else may be working on it.
    backup
        Writes a backup and says where. Not called again where a migration was interrupted after it.
    report
        Called with the steps done, and how many there are.

    Returns
    -------
    Path or None
        The backup; None where there was nothing to do.

    Raises
    ------
    GodeltaError
        The backup of an interrupted migration is gone.
    """
    if version_of(store) >= SCHEMA_VERSION:
        apply(store)
        return None
    note = store.db["meta"].find_one({"_id": NOTE})
    if note is None:
        path = backup().resolve()
        entry: dict[str, Any] = {"backup": str(path), "from": version_of(store), "at": store.now()}
        store.db["meta"].update_one({"_id": NOTE}, {"$set": entry}, upsert=True)
    else:
        path = Path(note["backup"])
        if not path.exists():
            raise GodeltaError(
                "a migration was interrupted, and the backup that was taken before it is not there any more",
                where=str(path),
                mend="put it back; or, if you can do without it, make an empty file of this name",
            )
    apply(store, report)
    return path


def _note_requests(store: Store) -> None:
    """Tell each evaluation which campaigns selected its structure, and what it is."""
    fields = ("structure_hash", "formula", "elements", *Request.model_fields)
    for campaign in store.campaigns.find({}, ("campaign_id", "reference_hash")):
        rounds = store.rounds.find({"campaign_id": campaign["campaign_id"]}, {"selection": 1})
        selected = sorted({id_ for round_ in rounds for id_ in round_["selection"]})
        for ids in _chunks(selected):
            found = store.structures.find({"structure_id": {"$in": ids}}, fields)
            updates = [_noted(raw, campaign["reference_hash"]) for raw in found]
            if updates:
                store.evaluations.bulk_write(updates, ordered=False)


def _noted(structure: Raw, level: str) -> UpdateOne:
    request = Request(**{name: structure[name] for name in Request.model_fields})
    return UpdateOne(
        {
            "structure_hash": structure["structure_hash"],
            "reference_hash": level,
            "requests.structure_id": {"$ne": request.structure_id},
        },
        {
            "$push": {"requests": request.model_dump(mode="python")},
            "$set": {"formula": structure["formula"], "elements": structure["elements"]},
        },
    )


def _describe_the_rest(store: Store) -> None:
    """Give evaluations that no campaign selected their formula, where the structure is known."""
    unknown = store.evaluations.find({"formula": {"$in": [None, ""]}}, {"structure_hash": 1})
    for hashes in _chunks([raw["structure_hash"] for raw in unknown]):
        known = store.structures.find(
            {"structure_hash": {"$in": hashes}}, ("structure_hash", "formula", "elements")
        )
        for raw in known:
            store.evaluations.update_many(
                {"structure_hash": raw["structure_hash"]},
                {"$set": {"formula": raw["formula"], "elements": raw["elements"]}},
            )


def _complete_evaluations(store: Store) -> None:
    """Give evaluations the keys that are new, and their version."""
    absent: Raw = {"formula": "", "elements": [], "requests": []}
    values = {name: {"$ifNull": [f"${name}", {"$literal": value}]} for name, value in absent.items()}
    store.evaluations.update_many({"schema_version": {"$lt": 2}}, [{"$set": {**values, "schema_version": 2}}])


def _drop_indexes(store: Store) -> None:
    """Drop the indexes that nothing asks for any more."""
    for collection, name in (
        (store.structures, "formula_1"),
        (store.structures, "structure_hash_1"),
        (store.evaluations, "state_1_energy_per_atom_1"),
    ):
        try:
            collection.drop_index(name)
        except OperationFailure as error:
            if error.code not in (_INDEX_NOT_FOUND, _NAMESPACE_NOT_FOUND):
                raise


def _chunks(values: list[str]) -> Iterator[list[str]]:
    return (values[first : first + _CHUNK] for first in range(0, len(values), _CHUNK))


# One for each version, in order; what has been released once never changes.
MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        2,
        (
            Step("evaluations learn which campaigns asked for them", _note_requests),
            Step("evaluations learn their formula", _describe_the_rest),
            Step("evaluations get their new keys", _complete_evaluations),
            Step("indexes that nothing asks for go", _drop_indexes),
        ),
    ),
)
assert MIGRATIONS[-1].version == SCHEMA_VERSION
