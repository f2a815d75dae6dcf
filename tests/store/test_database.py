"""The connection: guarantees, indexes, versions, and errors for people."""

import uuid
from datetime import UTC, datetime

import pytest
from pymongo.errors import DuplicateKeyError

from godelta.errors import GodeltaError, InputError
from godelta.store.database import Store, connect
from godelta.store.documents import SCHEMA_VERSION


def test_writes_are_durable_and_times_in_utc(store: Store) -> None:
    concern = store.db.write_concern.document
    assert (concern["w"], concern["j"]) == ("majority", True)
    assert store.db.read_concern.level == "majority"
    assert store.rounds.write_concern.document == concern
    assert abs((store.now() - datetime.now(UTC)).total_seconds()) < 60


@pytest.mark.parametrize(
    ("collection", "key"),
    [
        ("campaigns", {"name": "a"}),
        ("rounds", {"campaign_id": "a", "chain": 0, "k": 0}),
        ("structures", {"structure_id": "a"}),
        ("evaluations", {"structure_hash": "a", "reference_hash": "b"}),
        ("models", {"model_id": "a"}),
        ("features", {"structure_id": "a", "descriptor": "b"}),
    ],
)
def test_each_collection_holds_a_key_once(store: Store, collection: str, key: dict[str, object]) -> None:
    store.ensure_indexes()
    store.db[collection].insert_one({**key, "campaign_id": "a"})
    with pytest.raises(DuplicateKeyError):
        store.db[collection].insert_one({**key, "campaign_id": "a"})


def test_a_newer_schema_is_refused(mongod_uri: str) -> None:
    name = f"test_{uuid.uuid4().hex[:12]}"
    store = connect(mongod_uri, name)
    store.ensure_indexes()
    store.ensure_indexes()
    connect(mongod_uri, name).close()
    store.db["meta"].update_one({"_id": "schema"}, {"$set": {"version": SCHEMA_VERSION + 1}})
    with pytest.raises(GodeltaError, match="upgrade godelta"):
        connect(mongod_uri, name)
    store.db.client.drop_database(name)
    store.close()


def test_an_absent_server_is_named_without_the_password() -> None:
    with pytest.raises(GodeltaError, match="no MongoDB server answers") as caught:
        connect("mongodb://me:secret@127.0.0.1:9/", timeout_ms=300)
    assert "127.0.0.1:9" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("uri", ["", "localhost:27017", "mongodb://me:p@ss@host/", "http://host"])
def test_a_uri_that_cannot_be_read_is_the_users_error(uri: str) -> None:
    with pytest.raises(InputError, match="URI") as caught:
        connect(uri, timeout_ms=300)
    assert "p@ss" not in str(caught.value)
