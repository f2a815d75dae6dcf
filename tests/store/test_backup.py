"""Backups: complete or absent, consistent, verified before anything is touched."""

import io
import json
import os
import subprocess
import sys
import threading
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import decode_file_iter
from pymongo.uri_parser import parse_uri

from godelta.errors import GodeltaError, InputError
from godelta.store import backup as module
from godelta.store import campaigns, evaluations
from godelta.store.backup import COLLECTIONS, MANIFEST, backup, restore, verify
from godelta.store.blobs import read_blob, save_blob
from godelta.store.database import RESTORE_NOTE, Store, connect
from godelta.store.documents import SCHEMA_VERSION

REF = "r" * 64


@pytest.fixture
def other(mongod_uri: str) -> Iterator[Store]:
    """Another, empty database."""
    store = connect(mongod_uri, f"test_{uuid.uuid4().hex[:12]}", timeout_ms=20_000)
    yield store
    store.db.client.drop_database(store.db.name)
    store.close()


@pytest.fixture
def filled(store: Store, make_campaign: Callable[..., Any]) -> Store:
    """A database with something in most collections, one evaluation under lease."""
    campaign = make_campaign("a", budget=7)
    campaigns.reserve_evaluation(store, campaign.campaign_id, 7, "s" * 64)
    assert isinstance(evaluations.claim(store, "s" * 64, REF, "me", 3600), evaluations.Claim)
    claim = evaluations.claim(store, "t" * 64, REF, "me", 3600)
    assert isinstance(claim, evaluations.Claim)
    evaluations.commit_failed(store, claim, "crashed", "$no", "")
    save_blob(store, "big", os.urandom(700_000))
    return store


def contents(store: Store) -> dict[str, list[Any]]:
    return {name: list(store.db[name].find(sort=[("_id", 1)])) for name in COLLECTIONS}


def damaged(source: Path, target: Path, changes: dict[str, bytes | None]) -> Path:
    """A copy in which members are replaced, or left out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = changes.get(name, old.read(name))
            if data is not None:
                new.writestr(name, data)
    return target


def manifest_of(path: Path, **changes: Any) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return json.dumps(json.loads(archive.read(MANIFEST)) | changes).encode()


def test_there_and_back_again(filled: Store, other: Store, tmp_path: Path, mongod_uri: str) -> None:
    path = tmp_path / "all.zip"
    seen: list[tuple[int, int]] = []
    written = backup(filled, path, report=lambda *step: seen.append(step))
    assert [item.name for item in tmp_path.iterdir()] == ["all.zip"]
    assert path.stat().st_mode & 0o077 == 0
    assert verify(path) == written
    assert written.database == filled.db.name
    assert written.collections["evaluations"].count == 2
    assert written.collections["blobs.chunks"].count == 4  # of the campaign's problem, and three
    assert seen[-1] == (written.count, written.count)
    before = contents(filled)
    seen.clear()
    assert restore(other, path, report=lambda *step: seen.append(step)) == written
    assert seen[-1] == (2 * written.count, 2 * written.count)
    after = contents(other)
    for name in COLLECTIONS:
        if name != "evaluations":
            assert after[name] == before[name], name
    # The lease is gone, nothing else: the old holder cannot commit, a new one starts at once.
    assert [raw | {"lease": None} for raw in before["evaluations"]] == after["evaluations"]
    again = evaluations.claim(other, "s" * 64, REF, "somebody else", 60)
    assert isinstance(again, evaluations.Claim)
    assert again.token == 2
    assert campaigns.get_campaign(other, "a").reserved == ("s" * 64,)
    blob = other.db["blobs.files"].find_one({"filename": "big"})
    assert blob
    assert read_blob(other, blob["_id"]) == read_blob(filled, blob["_id"])
    assert not [name for name in other.db.list_collection_names() if name.startswith(module.STAGE)]
    for name in COLLECTIONS:
        mine = {index["name"] for index in other.db[name].list_indexes()}
        assert mine == {index["name"] for index in filled.db[name].list_indexes()}, name


def test_no_password_goes_along(filled: Store, tmp_path: Path, mongod_uri: str) -> None:
    path = tmp_path / "all.zip"
    backup(filled, path)
    password = parse_uri(mongod_uri)["password"]
    assert len(password) > 20
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            assert password.encode() not in archive.read(name)


def test_a_snapshot_is_one_moment_though_others_write(store: Store, tmp_path: Path) -> None:
    """A writer adds to three collections in turn: no backup has a later one without the earlier one."""
    stop = threading.Event()
    names = ("structures", "evaluations", "models")  # read in this order, written against it
    keys = {"structures": "structure_id", "evaluations": "structure_hash", "models": "model_id"}

    def write() -> None:
        number = 0
        while not stop.is_set():
            for name in reversed(names):
                store.db[name].insert_one({"_id": number, keys[name]: str(number)})
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while store.structures.count_documents({}) < 100:
            time.sleep(0.01)
        for turn in range(5):
            slow = time.monotonic()

            def dawdle(done: int, total: int, slow: float = slow) -> None:
                if time.monotonic() - slow < 0.5:
                    time.sleep(0.005)

            path = tmp_path / f"{turn}.zip"
            backup(store, path, report=dawdle)
            with zipfile.ZipFile(path) as archive:
                ids = [
                    {raw["_id"] for raw in decode_file_iter(io.BytesIO(archive.read(f"{name}.bson")))}
                    for name in names
                ]
            assert ids[0] <= ids[1] <= ids[2]
            assert len(ids[2]) - len(ids[0]) <= 1
            assert store.structures.count_documents({}) > len(ids[0]), "the writer stood still"
    finally:
        stop.set()
        writer.join()


def test_a_database_made_a_moment_ago(mongod_uri: str, tmp_path: Path) -> None:
    for turn in range(3):
        store = connect(mongod_uri, f"test_{uuid.uuid4().hex[:12]}", timeout_ms=20_000)
        try:
            store.ensure_indexes()
            assert backup(store, tmp_path / f"{turn}.zip").count == 1
        finally:
            store.db.client.drop_database(store.db.name)
            store.close()


def test_the_history_is_long_while_it_is_needed(filled: Store, tmp_path: Path) -> None:
    def window() -> int:
        name = "minSnapshotHistoryWindowInSeconds"
        return int(filled.db.client.admin.command("getParameter", 1, **{name: 1})[name])

    before = window()
    seen = set()
    backup(filled, tmp_path / "a.zip", own_server=True, report=lambda *_: seen.add(window()))
    assert seen == {module.HISTORY_SECONDS}
    assert window() == before != module.HISTORY_SECONDS
    backup(filled, tmp_path / "b.zip", report=lambda *_: seen.add(window()))
    assert before in seen


def test_where_it_cannot_be_written(filled: Store, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_text("precious")
    with pytest.raises(InputError, match="such a file already"):
        backup(filled, path)
    assert path.read_text() == "precious"
    for bad in (tmp_path / "nowhere" / "a.zip", path / "b.zip"):
        with pytest.raises(GodeltaError, match="cannot be written"):
            backup(filled, bad)
    assert [item.name for item in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_one_that_is_interrupted_leaves_nothing(filled: Store, tmp_path: Path, error: Any) -> None:
    def interrupt(done: int, _total: int) -> None:
        if done == 3:
            raise error

    with pytest.raises((KeyboardInterrupt, GodeltaError)) as caught:
        backup(filled, tmp_path / "a.zip", report=interrupt)
    if isinstance(error, OSError):
        assert "No space left" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, sys
from pathlib import Path
from godelta.store.backup import backup, restore
from godelta.store.database import connect

store = connect(sys.argv[1], sys.argv[2], half_restored=True)
fatal = int(sys.argv[4])

def report(done, total):
    if done >= fatal:
        os.kill(os.getpid(), 9)

if sys.argv[5] == "backup":
    backup(store, Path(sys.argv[3]), report=report)
elif sys.argv[5] == "restore":
    restore(store, Path(sys.argv[3]), report=report, force=True)
else:  # in the middle of the exchange
    from pymongo.collection import Collection
    real = Collection.rename
    def rename(self, name, **options):
        if name == sys.argv[5]:
            os.kill(os.getpid(), 9)
        return real(self, name, **options)
    Collection.rename = rename
    restore(store, Path(sys.argv[3]), force=True)
"""


def kill(uri: str, store: Store, path: Path, when: int, what: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, uri, store.db.name, str(path), str(when), what], check=False
    )
    assert done.returncode == -9


def test_one_that_is_killed_never_has_the_final_name(filled: Store, mongod_uri: str, tmp_path: Path) -> None:
    for when in (1, 3, 8):
        kill(mongod_uri, filled, tmp_path / "a.zip", when, "backup")
        assert not (tmp_path / "a.zip").exists()
    backup(filled, tmp_path / "a.zip")
    verify(tmp_path / "a.zip")


def test_a_restore_that_is_killed_while_it_loads_changes_nothing(
    filled: Store, other: Store, mongod_uri: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.zip"
    total = backup(filled, path).count
    other.ensure_indexes()
    other.campaigns.insert_one({"name": "mine", "campaign_id": "mine"})
    before = contents(other)
    for when in (2, total + 2, 2 * total):
        kill(mongod_uri, other, path, when, "restore")
        assert contents(other) == before
        connect(mongod_uri, other.db.name).close()
    restore(other, path, force=True)
    assert contents(other)["campaigns"] == contents(filled)["campaigns"]


@pytest.mark.parametrize("when", ["campaigns", "evaluations", "blobs.chunks", "meta"])
def test_a_restore_that_is_killed_in_the_exchange_is_noticed(
    filled: Store, other: Store, mongod_uri: str, tmp_path: Path, when: str
) -> None:
    path = tmp_path / "a.zip"
    backup(filled, path)
    kill(mongod_uri, other, path, 0, when)
    with pytest.raises(GodeltaError, match="restore") as caught:
        connect(mongod_uri, other.db.name)
    assert f"godelta db restore --force {path}" in str(caught.value)
    with pytest.raises(InputError, match="not empty"):
        restore(other, path)
    restore(other, path, force=True)
    connect(mongod_uri, other.db.name).close()
    assert contents(other)["campaigns"] == contents(filled)["campaigns"]
    assert other.db["meta"].find_one({"_id": RESTORE_NOTE}) is None


def test_only_an_empty_database_is_filled_unasked(filled: Store, other: Store, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    backup(filled, path)
    other.ensure_indexes()
    other.features.insert_one({"structure_id": "x", "descriptor": "y"})
    before = contents(other)
    with pytest.raises(InputError, match="not empty") as caught:
        restore(other, path)
    assert "--force" in str(caught.value)
    assert contents(other) == before
    restore(other, path, force=True)
    assert other.features.count_documents({}) == 0
    # Back to an earlier state of itself: what came later goes.
    filled.campaigns.update_one({"name": "a"}, {"$set": {"spent": 5}})
    filled.structures.insert_one({"structure_id": "late"})
    restore(filled, path, force=True)
    assert campaigns.get_campaign(filled, "a").spent == 0
    assert filled.structures.count_documents({}) == 0


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("missing", "No such file"), ("folder", "directory"), ("empty", "damaged"), ("text", "damaged"),
        ("half", "damaged"), ("a byte", "damaged"), ("no manifest", "damaged"), ("no member", "damaged"),
        ("other documents", "evaluations is not what the manifest says"), ("truncated", "damaged"),
        ("no JSON", "damaged"), ("a list", "damaged"), ("wrong values", "damaged"), ("other kind", "damaged"),
        ("fewer collections", "damaged"), ("newer format", "upgrade"), ("newer schema", "upgrade"),
    ],
)  # fmt: skip
def test_what_is_no_good_backup_changes_nothing(
    filled: Store, other: Store, tmp_path: Path, case: str, words: str
) -> None:
    good, bad = tmp_path / "good.zip", tmp_path / "bad.zip"
    backup(filled, good)
    data = good.read_bytes()
    with zipfile.ZipFile(good) as archive:
        stored = archive.read("evaluations.bson")
        where = archive.getinfo("blobs.chunks.bson").header_offset + 5000
    plain: dict[str, bytes] = {
        "empty": b"", "text": b"hello" * 100, "half": data[: len(data) // 2],
        "a byte": data[:where] + bytes([data[where] ^ 0xFF]) + data[where + 1 :],
    }  # fmt: skip
    part = {"count": 0, "size": 0, "sha256": ""}
    members: dict[str, dict[str, bytes | None]] = {
        "no manifest": {MANIFEST: None},
        "no member": {"evaluations.bson": None},
        "other documents": {"evaluations.bson": stored.replace(b"crashed", b"crushed")},
        "truncated": {"evaluations.bson": stored[:-3]},
        "no JSON": {MANIFEST: b"{"},
        "a list": {MANIFEST: b"[]"},
        "wrong values": {MANIFEST: manifest_of(good, collections={"campaigns": 3})},
        "other kind": {MANIFEST: manifest_of(good, kind="something else")},
        "fewer collections": {MANIFEST: manifest_of(good, collections={"campaigns": part})},
        "newer format": {MANIFEST: manifest_of(good, format=99)},
        "newer schema": {MANIFEST: manifest_of(good, schema_version=SCHEMA_VERSION + 1)},
    }
    if case == "folder":
        bad.mkdir()
    elif case in plain:
        bad.write_bytes(plain[case])
    elif case in members:
        damaged(good, bad, members[case])
    before = contents(other)
    with pytest.raises(InputError, match=words) as caught:
        restore(other, bad, force=True)
    assert caught.value.where == str(bad)
    assert contents(other) == before
    assert not [name for name in other.db.list_collection_names() if name.startswith(module.STAGE)]


def test_every_collection_is_in_it_or_left_out_on_purpose(store: Store) -> None:
    found = {name for name in store.db.list_collection_names() if not name.startswith("system.")}
    assert found | {"meta"} == {*COLLECTIONS, "workers"}, "signs of life mean nothing later"
