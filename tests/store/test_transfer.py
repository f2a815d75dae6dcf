"""One campaign from one database to another: complete, checked, repeatable."""

import hashlib
import io
import json
import os
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bson
import numpy as np
import pytest
from bson import ObjectId

from godelta.errors import InputError
from godelta.store import campaigns, evaluations, features, models, rounds, structures, transfer
from godelta.store.backup import COLLECTIONS, MANIFEST, backup, restore, verify
from godelta.store.blobs import read_blob, save_blob
from godelta.store.database import Store, connect
from godelta.store.documents import SCHEMA_VERSION, CampaignDocument, RoundKey, StructureDocument
from godelta.store.progress import snapshot
from godelta.store.query import Query, rows
from godelta.store.transfer import export_campaign, import_campaign

R = "r" * 64


@pytest.fixture
def other(mongod_uri: str) -> Iterator[Store]:
    """Another, empty database."""
    store = connect(mongod_uri, f"test_{uuid.uuid4().hex[:12]}", timeout_ms=20_000)
    store.ensure_indexes()
    yield store
    store.db.client.drop_database(store.db.name)
    store.close()


def evaluate(store: Store, document: StructureDocument, energy: float | None, level: str = R) -> None:
    claim = evaluations.claim(store, document.structure_hash, level, "me", 60, wanted=document)
    if isinstance(claim, evaluations.Claim) and energy is None:
        evaluations.commit_failed(store, claim, "crashed", "signal 11")
    elif isinstance(claim, evaluations.Claim):
        evaluations.commit_ok(store, claim, energy, np.zeros((3, 3)))


def _described(mine: list[StructureDocument], stranger: StructureDocument) -> list[str]:
    """What features are stored by: hashes, and those of displaced copies."""
    names = [document.structure_hash for document in [*mine, stranger]]
    return [*names, f"{names[0]}~1a2b", f"{names[-1]}~1a2b"]


@pytest.fixture
def campaign(store: Store, make_campaign: Callable[..., Any], make_structure) -> CampaignDocument:
    """In mid-campaign, beside another one that shares structures 0 and 1 with it.

    Structure 0 and 1 are ok, 2 failed, 3 is under lease, 4 waits and is known from the other campaign.
    """
    made = make_campaign("mine", reference_hash=R)
    campaigns.set_state(store, made.campaign_id, "created", "running")
    theirs = make_campaign("theirs", reference_hash=R)
    key, strange = RoundKey(made.campaign_id, 0, 0), RoundKey(theirs.campaign_id, 0, 0)
    rounds.plan_round(store, key, None)
    rounds.change_state(store, key, 0, "planned", "searching")
    rounds.save_search_state(store, key, 0, b"walkers" * 50_000, {"iteration": 3})
    mine = [make_structure(key, number) for number in range(7)]
    others = [make_structure(strange, number) for number in (0, 1, 4, 20)]
    structures.add_candidates(store, [*mine, *others])
    selection = [document.structure_id for document in mine[:5]]
    rounds.change_state(store, key, 0, "searching", "selected", selection=selection)
    for document, energy in zip(others, (-1.0, -2.0, -4.0, -20.0), strict=True):
        evaluate(store, document, energy)
    evaluate(store, mine[0], None)
    evaluate(store, mine[1], None)
    evaluate(store, mine[2], None)
    lease = evaluations.claim(store, mine[3].structure_hash, R, "me", 3600, wanted=mine[3])
    assert isinstance(lease, evaluations.Claim)
    models.save_model(store, made.campaign_id, ["x", "y"], "digest", os.urandom(300_000))
    models.save_model(store, theirs.campaign_id, ["x", "y"], "digest", b"not ours")
    features.put_many(store, "soap", {name: np.ones((3, 4)) for name in _described(mine[:2], others[3])})
    return campaigns.get_campaign(store, "mine")


def contents(store: Store) -> dict[str, list[Any]]:
    return {name: list(store.db[name].find(sort=[("_id", 1)])) for name in COLLECTIONS}


def written(store: Store, folder: Path, **options: Any) -> Path:
    path = folder / f"{uuid.uuid4().hex[:6]}.zip"
    export_campaign(store, "mine", path, **options)
    return path


def test_a_campaign_arrives_with_all_that_it_needs(
    store: Store, other: Store, campaign: CampaignDocument, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    path = written(store, tmp_path)
    manifest = verify(path)
    assert (manifest.kind, manifest.campaign) == ("godelta export", "mine")
    assert path.stat().st_mode & 0o077 == 0
    before = contents(store)
    imported = import_campaign(other, path, report=lambda *step: seen.append(step))
    assert contents(store) == before, "an export changes nothing"
    assert (imported.here, imported.kept, imported.manifest) == (False, 0, manifest)
    assert seen[-1] == (2 * manifest.count,) * 2
    found = campaigns.get_campaign(other, "mine")
    assert found == imported.campaign
    config = campaign.config | {"name": "mine"}
    assert found.model_dump() == campaign.model_dump() | {"state": "paused", "config": config}
    id_ = campaign.campaign_id
    for name in ("rounds", "structures", "models"):
        assert list(other.db[name].find({}, {"_id": 0}).sort("_id", 1)) == list(
            store.db[name].find({"campaign_id": id_}, {"_id": 0}).sort("_id", 1)
        )
    key = RoundKey(id_, 0, 0)
    assert campaigns.load_problem(other, id_) == campaigns.load_problem(store, id_)
    assert rounds.load_search_state(other, key) == rounds.load_search_state(store, key)
    (model,) = store.models.find({"campaign_id": id_})
    assert models.load_model(other, model["model_id"]) == models.load_model(store, model["model_id"])
    assert other.db["blobs.files"].count_documents({}) == 3
    assert other.features.count_documents({}) == 0
    assert {raw["campaign_id"] for raw in other.structures.find()} == {id_}
    assert not [name for name in other.db.list_collection_names() if name.startswith(transfer.STAGE)]


def test_results_are_the_same_there(store: Store, other: Store, campaign, tmp_path: Path) -> None:
    import_campaign(other, written(store, tmp_path))
    id_ = campaign.campaign_id
    assert structures.best(other, id_, R) == structures.best(store, id_, R)
    assert evaluations.counts(other, id_, R) == evaluations.counts(store, id_, R)
    assert evaluations.counts(other, id_, R) == {"ok": 2, "failed": 1, "pending": 2}
    assert len(rows(other, Query())) == 2
    assert {asked["campaign_id"] for raw in other.evaluations.find() for asked in raw["requests"]} == {id_}
    # What another campaign of the old database has paid for, and this one has selected, comes along.
    assert other.evaluations.count_documents({"state": "ok"}) == 3
    assert snapshot(other, id_).pending == 2
    # The lease stays behind, the token does not: its old holder cannot commit here.
    pending = other.evaluations.find_one({"state": "pending"})
    assert pending is not None
    assert (pending["lease"], pending["token"]) == (None, 1)


def test_features_go_along_when_asked_for(store: Store, other: Store, campaign, tmp_path: Path) -> None:
    import_campaign(other, written(store, tmp_path, features=True))
    hashes = {raw["structure_hash"] for raw in other.structures.find()}
    found = [raw["structure_id"] for raw in other.features.find()]
    assert {name.split("~")[0] for name in found} < hashes
    assert len(found) == 3


def test_twice_changes_nothing(store: Store, other: Store, campaign, tmp_path: Path) -> None:
    path = written(store, tmp_path)
    import_campaign(other, path)
    campaigns.add_time(other, campaign.campaign_id, elapsed_s=7.0)
    before = contents(other)
    for name in (None, "another"):
        again = import_campaign(other, path, name=name)
        assert again.here
        assert again.campaign.elapsed_s == 7.0
        assert contents(other) == before
    # Nor does taking it back where it came from.
    before = contents(store)
    assert import_campaign(store, path).here
    assert contents(store) == before


def test_a_name_that_is_taken(store: Store, other: Store, campaign, make_campaign, tmp_path: Path) -> None:
    path = written(store, tmp_path)
    store.campaigns.update_one({"name": "mine"}, {"$set": {"campaign_id": "0" * 24}})
    before = contents(store)
    with pytest.raises(InputError, match="has the name 'mine'") as caught:
        import_campaign(store, path)
    assert "--name" in str(caught.value)
    with pytest.raises(InputError, match="has the name 'theirs'"):
        import_campaign(store, path, name="theirs")
    with pytest.raises(InputError, match="cannot be the name"):
        import_campaign(store, path, name="two words")
    assert contents(store) == before
    imported = import_campaign(store, path, name="ours")
    assert imported.campaign.campaign_id == campaign.campaign_id
    assert (imported.campaign.name, imported.campaign.config["name"]) == ("ours", "ours")
    assert imported.kept == 4  # 0, 1, 2 and 4


def test_a_finished_campaign_stays_finished_under_another_name(
    store: Store, other: Store, make_campaign, tmp_path: Path
) -> None:
    made = make_campaign("mine", reference_hash=R)
    campaigns.set_state(store, made.campaign_id, "created", "finished")
    path = written(store, tmp_path)
    imported = import_campaign(other, path, name="theirs").campaign
    assert imported.state == "finished"
    assert not campaigns.reopen(other, imported.campaign_id)


def test_evaluations_that_are_there_stay(
    store: Store, other: Store, campaign, make_structure, tmp_path: Path
) -> None:
    key = RoundKey("here", 0, 0)
    ok, failed, free, held, alone = (make_structure(key, number) for number in (0, 1, 2, 4, 50))
    evaluate(other, ok, -100.0)
    evaluate(other, failed, None)
    released = evaluations.claim(other, free.structure_hash, R, "me", 60, wanted=free)
    assert isinstance(released, evaluations.Claim)
    evaluations.release(other, released)
    claim = evaluations.claim(other, held.structure_hash, R, "somebody", 3600, wanted=held)
    assert isinstance(claim, evaluations.Claim)
    evaluate(other, alone, -3.0)
    assert import_campaign(other, written(store, tmp_path)).kept == 2

    def there(document: StructureDocument) -> Any:
        return evaluations.get_evaluation(other, document.structure_hash, R)

    assert (there(ok).state, there(ok).energy) == ("ok", -100.0)
    assert (there(failed).state, there(failed).reason) == ("failed", "crashed")
    assert [asked.campaign_id for asked in there(ok).requests] == ["here", campaign.campaign_id]
    # Nobody computed this one here: what the file says of it is taken, and no old token commits.
    assert (there(free).state, there(free).reason) == ("failed", "crashed")
    assert [asked.campaign_id for asked in there(free).requests] == ["here", campaign.campaign_id]
    assert there(held).state == "pending"
    evaluations.commit_ok(other, claim, -9.0, np.zeros((3, 3)))
    assert there(held).energy == -9.0
    assert there(alone).energy == -3.0


KILLED = """
import os, sys
from pathlib import Path
from pymongo.collection import Collection
from godelta.store.database import connect
from godelta.store.transfer import import_campaign

store = connect(sys.argv[1], sys.argv[2])
left = [int(sys.argv[4])]

def counted(real):
    def write(self, *arguments, **options):
        if left[0] == 0:
            os.kill(os.getpid(), 9)
        left[0] -= 1
        return real(self, *arguments, **options)
    return write

for name in ("insert_many", "insert_one", "aggregate", "update_one", "drop"):
    setattr(Collection, name, counted(getattr(Collection, name)))
import_campaign(store, Path(sys.argv[3]))
"""


@pytest.mark.slow
def test_killed_before_every_write_the_same_command_finishes_it(
    store: Store, campaign, mongod_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, whole = written(store, tmp_path), None
    monkeypatch.setattr(transfer, "STALE", transfer.STALE * 0)
    for writes in range(100):
        other = connect(mongod_uri, f"test_{uuid.uuid4().hex[:12]}", timeout_ms=20_000)
        other.ensure_indexes()
        try:
            done = subprocess.run(
                [sys.executable, "-c", KILLED, mongod_uri, other.db.name, str(path), str(writes)], check=False
            )
            assert done.returncode in (0, -9)
            # Until it is all there, nobody sees any of it.
            assert (other.campaigns.count_documents({}) == 0) == (rows(other, Query()) == [])
            import_campaign(other, path)
            after = contents(other)
            after["campaigns"][0].pop("_id")  # its document is made anew
            whole = whole or after
            assert after == whole
            assert not [name for name in other.db.list_collection_names() if name.startswith(transfer.STAGE)]
        finally:
            other.db.client.drop_database(other.db.name)
            other.close()
        if done.returncode == 0:
            break
    assert writes > 15


Change = Callable[[list[Any]], list[Any]]
UTC = bson.CodecOptions(tz_aware=True)


def rewritten(source: Path, target: Path, changes: dict[str, Change], **manifest: Any) -> Path:
    """A copy with other documents, and a manifest that fits them: made on purpose, not by accident."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        told = json.loads(old.read(MANIFEST)) | manifest
        for name in COLLECTIONS:
            data = old.read(f"{name}.bson")
            if name in changes:
                options = bson.CodecOptions(tz_aware=True)
                documents = changes[name](list(bson.decode_file_iter(io.BytesIO(data), options)))
                data = b"".join(bson.encode(document) for document in documents)
                part = {
                    "count": len(documents),
                    "size": len(data),
                    "sha256": hashlib.sha256(data).hexdigest(),
                }
                told["collections"][name] = part
            new.writestr(f"{name}.bson", data)
        new.writestr(MANIFEST, json.dumps(told))
    return target


FORGED: dict[str, tuple[str, Change]] = {
    "no campaign": ("campaigns", lambda _: []),
    "two campaigns": (
        "campaigns",
        lambda d: [*d, {**d[0], "_id": ObjectId(), "campaign_id": "x", "name": "x"}],
    ),
    "another's round": ("rounds", lambda d: [{**d[0], "campaign_id": "x"}]),
    "moved atoms": ("structures", lambda d: [{**d[0], "positions": [[0, 0, 0]] * 3}, *d[1:]]),
    "another's structure": ("structures", lambda d: [{**d[0], "campaign_id": "x"}, *d[1:]]),
    "another's level": ("evaluations", lambda d: [{**d[0], "reference_hash": "x" * 64}, *d[1:]]),
    "another's request": (
        "evaluations",
        lambda d: [{**d[0], "requests": [{**d[0]["requests"][0], "campaign_id": "x"}]}, *d[1:]],
    ),
    "an unknown key": ("structures", lambda d: [{**d[0], "colour": "red"}, *d[1:]]),
    "no model's arrays": ("blobs.chunks", lambda d: d[:-1]),
    "other arrays": ("blobs.chunks", lambda d: [{**d[0], "data": b"x" * len(d[0]["data"])}, *d[1:]]),
}


@pytest.mark.parametrize("case", FORGED)
def test_a_file_that_contradicts_itself_changes_nothing(
    store: Store, other: Store, campaign, tmp_path: Path, case: str
) -> None:
    name, change = FORGED[case]
    bad = rewritten(written(store, tmp_path), tmp_path / "bad.zip", {name: change})
    verify(bad)
    before = contents(other)
    with pytest.raises(InputError, match="not what godelta writes") as caught:
        import_campaign(other, bad)
    assert caught.value.where == str(bad)
    assert contents(other) == before
    assert not [name for name in other.db.list_collection_names() if name.startswith(transfer.STAGE)]


def test_damaged_newer_and_other_files(store: Store, other: Store, campaign, tmp_path: Path) -> None:
    good = written(store, tmp_path)
    whole, bad = tmp_path / "whole.zip", tmp_path / "bad.zip"
    backup(store, whole)
    before = contents(other)
    with pytest.raises(InputError, match="backup of a whole database") as caught:
        import_campaign(other, whole)
    assert "db restore" in str(caught.value)
    with pytest.raises(InputError, match="export of one campaign") as caught:
        restore(other, good)
    assert "godelta import" in str(caught.value)
    for data in (b"", b"hello", good.read_bytes()[:-2000]):
        bad.write_bytes(data)
        with pytest.raises(InputError, match="damaged"):
            import_campaign(other, bad)
    with pytest.raises(InputError, match="upgrade"):
        import_campaign(other, rewritten(good, bad, {}, schema_version=SCHEMA_VERSION + 1))
    with pytest.raises(InputError, match="No such file"):
        import_campaign(other, tmp_path / "nowhere.zip")
    assert contents(other) == before


def test_an_export_of_the_schema_before_is_migrated(
    store: Store, other: Store, campaign, tmp_path: Path
) -> None:
    new = ("formula", "elements", "requests")

    def older(documents: list[Any]) -> list[Any]:
        return [
            {key: value for key, value in raw.items() if key not in new} | {"schema_version": 1}
            for raw in documents
        ]

    old = rewritten(written(store, tmp_path), tmp_path / "old.zip", {"evaluations": older}, schema_version=1)
    import_campaign(other, old)
    # Whoever had selected it had asked for it then.
    best = structures.best(other, campaign.campaign_id, R)
    assert [row["energy"] for row in best] == [-4.0, -2.0, -1.0]
    assert {raw["schema_version"] for raw in other.evaluations.find()} == {SCHEMA_VERSION}


def test_blobs_that_are_not_the_campaigns_stay(store: Store, campaign, tmp_path: Path) -> None:
    stray = save_blob(store, "stray", b"stray" * 100)
    path = written(store, tmp_path)
    with zipfile.ZipFile(path) as archive:
        names = [
            raw["filename"] for raw in bson.decode_file_iter(io.BytesIO(archive.read("blobs.files.bson")))
        ]
        assert archive.read("meta.bson") == b""
    assert len(names) == 3
    assert "stray" not in names
    assert read_blob(store, stray) is not None


def test_what_an_interrupted_import_left_goes_later(
    store: Store, other: Store, campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = f"{transfer.STAGE}{ObjectId()}.structures"
    other.db[left].insert_one({})
    path = written(store, tmp_path)
    import_campaign(other, path)
    assert left in other.db.list_collection_names(), "it may be another import under way"
    monkeypatch.setattr(transfer, "STALE", transfer.STALE * 0)
    import_campaign(other, path)
    assert left not in other.db.list_collection_names()


def test_exports_that_cannot_be(store: Store, campaign, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no campaign 'nobody'"):
        export_campaign(store, "nobody", tmp_path / "a.zip")
    (tmp_path / "b.zip").write_text("precious")
    with pytest.raises(InputError, match="such a file already"):
        export_campaign(store, "mine", tmp_path / "b.zip")
