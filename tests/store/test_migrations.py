"""From the schema before to this one: a database that the former godelta wrote, and what may go wrong."""

import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from godelta.errors import GodeltaError
from godelta.store import backup as backups
from godelta.store import campaigns, evaluations, migrations, structures
from godelta.store.backup import COLLECTIONS, backup, restore, verify
from godelta.store.database import Store, connect
from godelta.store.documents import SCHEMA_VERSION, EvaluationDocument
from godelta.store.overview import overviews
from godelta.store.query import Query, rows

# Written by `godelta db backup` of schema version 1: two campaigns that share evaluations, one of them in
# mid-campaign with an evaluation under lease, and a third one whose evaluations failed.
FIXTURE = Path(__file__).parent / "data" / "schema-1.zip"


@pytest.fixture
def old(mongod_uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A database as schema version 1 left it."""
    store = connect(mongod_uri, f"test_{uuid.uuid4().hex[:12]}", timeout_ms=20_000)
    store.evaluations.create_index([("state", 1), ("energy_per_atom", 1)])
    store.structures.create_index("formula")
    store.structures.create_index("structure_hash")
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "apply", lambda _store: None)
        patched.setattr(type(store), "ensure_indexes", lambda _store: None)
        restore(store, FIXTURE)
    yield store
    store.db.client.drop_database(store.db.name)
    store.close()


def contents(store: Store) -> dict[str, list[Any]]:
    return {name: list(store.db[name].find(sort=[("_id", 1)])) for name in COLLECTIONS}


def never() -> Path:
    raise AssertionError("a second backup")


def test_it_is_refused_until_it_is_migrated(old: Store, mongod_uri: str) -> None:
    before = contents(old)
    with pytest.raises(GodeltaError, match="schema version 1") as caught:
        connect(mongod_uri, old.db.name)
    assert "godelta migrate" in str(caught.value)
    connect(mongod_uri, old.db.name, older=True).close()
    assert contents(old) == before


def test_the_fixture_is_what_it_should_be() -> None:
    manifest = verify(FIXTURE)
    assert manifest.schema_version == 1
    assert manifest.collections["campaigns"].count == 3
    assert FIXTURE.stat().st_size < 200_000


def test_campaigns_are_afterwards_what_they_were(old: Store, mongod_uri: str, tmp_path: Path) -> None:
    before = contents(old)
    file, seen = tmp_path / "before.zip", []

    def write() -> Path:
        backup(old, file)
        return file

    assert migrations.migrate(old, write, lambda *step: seen.append(step)) == file
    assert seen[-1] == (len(migrations.steps_since(1)),) * 2
    assert verify(file).schema_version == 1
    store = connect(mongod_uri, old.db.name)
    after = contents(store)
    for name in COLLECTIONS:
        if name not in ("evaluations", "meta"):
            assert after[name] == before[name], name
    new = {"schema_version", "formula", "elements", "requests"}
    for was, is_ in zip(before["evaluations"], after["evaluations"], strict=True):
        assert {k: v for k, v in is_.items() if k not in new} == {
            k: v for k, v in was.items() if k not in new
        }
        EvaluationDocument.from_mongo(is_)
        assert (is_["schema_version"], is_["formula"], is_["elements"]) == (2, "AgCu3", ["Ag", "Cu"])
    check_results(store)
    store.close()


def check_results(store: Store) -> None:
    """As the former godelta counted them, when it wrote the fixture."""
    counted = {p.name: (p.state, p.ok, p.failed, p.pending, p.best_energy) for p in overviews(store)}
    assert counted == {
        "alloy": ("finished", 4, 0, 0, pytest.approx(4.91548854822)),
        "twin": ("running", 5, 0, 1, pytest.approx(4.73920120762)),
        "strict": ("finished", 0, 2, 0, None),
    }
    alloy = campaigns.get_campaign(store, "alloy")
    best = structures.best(store, alloy.id, alloy.reference_hash)
    assert [row["energy"] for row in best] == pytest.approx(
        [4.9154885482, 4.9948814902, 5.0437167218, 5.4991004445]
    )
    assert [row["campaign_id"] for row in best] == [alloy.id] * 4
    assert len(evaluations.history(store, alloy.id, alloy.reference_hash)) == 4
    assert len(rows(store, Query())) == 9
    assert [row["campaign"] for row in rows(store, Query(status="failed"))] == ["strict"] * 2
    assert [row["campaign"] for row in rows(store, Query(status="pending"))] == ["twin"]
    assert len(evaluations.training_set(store, alloy.id, alloy.reference_hash)) == 4


def test_a_second_time_changes_nothing(old: Store, tmp_path: Path) -> None:
    migrations.migrate(old, lambda: written(old, tmp_path))
    before = contents(old)
    assert migrations.migrate(old, never) is None
    assert contents(old) == before
    # Nor does any of the steps.
    migrations.transform(old, 1)
    assert contents(old) == before


def written(store: Store, folder: Path) -> Path:
    file = folder / "before.zip"
    backup(store, file)
    return file


def test_indexes_are_those_of_a_new_database(old: Store, store: Store, tmp_path: Path) -> None:
    migrations.migrate(old, lambda: written(old, tmp_path))
    for name in COLLECTIONS:
        assert set(old.db[name].index_information()) == set(store.db[name].index_information()), name


KILLED = """
import os, sys
from pathlib import Path
from pymongo.collection import Collection
from godelta.store import migrations
from godelta.store.backup import backup
from godelta.store.database import connect

store = connect(sys.argv[1], sys.argv[2], older=True)
left = [int(sys.argv[4])]

def counted(real):
    def write(self, *arguments, **options):
        if left[0] == 0:
            os.kill(os.getpid(), 9)
        left[0] -= 1
        return real(self, *arguments, **options)
    return write

def save():
    backup(store, Path(sys.argv[3]))
    for name in ("update_one", "update_many", "bulk_write", "drop_index", "delete_one", "create_indexes"):
        setattr(Collection, name, counted(getattr(Collection, name)))
    return Path(sys.argv[3])

migrations.migrate(store, save)
"""


@pytest.mark.slow
def test_killed_before_every_write_it_goes_on(
    old: Store, mongod_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new copy for every write; the second process finishes what the first one left."""
    writes, ended = 0, False
    while not ended:
        copy = connect(mongod_uri, f"test_{uuid.uuid4().hex[:12]}", timeout_ms=20_000)
        file = tmp_path / f"{writes}.zip"
        try:
            with monkeypatch.context() as patched:
                patched.setattr(migrations, "apply", lambda _store: None)
                restore(copy, FIXTURE)
            done = subprocess.run(
                [sys.executable, "-c", KILLED, mongod_uri, copy.db.name, str(file), str(writes)], check=False
            )
            assert done.returncode in (0, -signal.SIGKILL)
            ended = done.returncode == 0
            note = copy.db["meta"].find_one({"_id": migrations.NOTE})
            if not ended:
                # Before the note nobody knows of the backup, and after the version there is nothing to do.
                again = written_anew(copy, tmp_path / f"{writes}-again.zip") if note is None else never
                migrations.migrate(copy, again)
            connect(mongod_uri, copy.db.name).close()
            assert copy.db["meta"].count_documents({}) == 1
            assert verify(file).schema_version == 1
            check_results(copy)
        finally:
            copy.db.client.drop_database(copy.db.name)
            copy.close()
        writes += 1
    assert writes > 8


def written_anew(store: Store, file: Path) -> Callable[[], Path]:
    def write() -> Path:
        backup(store, file)
        return file

    return write


def test_without_its_backup_an_interrupted_one_does_not_go_on(old: Store, tmp_path: Path) -> None:
    gone = tmp_path / "gone.zip"
    old.db["meta"].insert_one({"_id": migrations.NOTE, "backup": str(gone), "from": 1})
    with pytest.raises(GodeltaError, match="not there any more") as caught:
        migrations.migrate(old, never)
    assert str(gone) in str(caught.value)
    assert migrations.version_of(old) == 1
    gone.touch()
    migrations.migrate(old, never)
    assert migrations.version_of(old) == SCHEMA_VERSION


def test_a_backup_of_the_schema_before_is_restored_and_migrated(store: Store, mongod_uri: str) -> None:
    restore(store, FIXTURE)
    connect(mongod_uri, store.db.name).close()
    check_results(store)
    restore(store, FIXTURE, force=True)
    check_results(store)


def test_killed_after_the_exchange_a_restored_one_waits_for_its_migration(
    store: Store, mongod_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(_store: Store) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(backups.migrations, "apply", die)
        with pytest.raises(KeyboardInterrupt):
            restore(store, FIXTURE)
    with pytest.raises(GodeltaError, match="godelta migrate"):
        connect(mongod_uri, store.db.name)
    migrations.migrate(store, lambda: written(store, tmp_path))
    check_results(store)


def test_evaluations_without_a_campaign_learn_their_formula(old: Store, tmp_path: Path) -> None:
    (alloy,) = old.campaigns.find({"name": "alloy"})
    old.campaigns.delete_many({"name": {"$ne": "strict"}})
    stranger = old.evaluations.find_one({"state": "ok"})
    assert stranger is not None
    old.evaluations.insert_one({**stranger, "_id": "x", "structure_hash": "f" * 64})
    migrations.migrate(old, lambda: written(old, tmp_path))
    known = {raw["structure_hash"]: raw for raw in old.evaluations.find()}
    assert known[stranger["structure_hash"]]["formula"] == "AgCu3"
    assert known[stranger["structure_hash"]]["requests"] == []
    assert (known["f" * 64]["formula"], known["f" * 64]["requests"]) == ("", [])
    assert structures.best(old, alloy["campaign_id"], alloy["reference_hash"]) == []


def test_every_version_has_its_migration() -> None:
    versions = [migration.version for migration in migrations.MIGRATIONS]
    assert versions == list(range(2, SCHEMA_VERSION + 1))
    assert migrations.steps_since(SCHEMA_VERSION) == []
    assert all(step.does for step in migrations.steps_since(1))
