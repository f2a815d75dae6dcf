"""Models: the same training set is the same model, and damage is noticed."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from godelta.errors import GodeltaError
from godelta.store import models
from godelta.store.blobs import DamagedError
from godelta.store.database import Store

BLOB = bytes(range(256)) * 2000


def blob_count(store: Store) -> int:
    return store.db["blobs.files"].count_documents({})


def test_ids_depend_on_campaign_evaluations_and_settings_but_not_on_their_order() -> None:
    base = models.model_id_for("c", ["a", "b"], "s")
    assert base == models.model_id_for("c", ["b", "a"], "s")
    others = [("d", ["a", "b"], "s"), ("c", ["a"], "s"), ("c", ["ab"], "s"), ("c", ["a", "b"], "t")]
    failed = [["c"], ["d"], ["c", "d"]]
    ids = {base, *(models.model_id_for(*other) for other in others)}
    ids |= {models.model_id_for("c", ["a", "b"], "s", names) for names in failed}
    ids.add(models.model_id_for("c", ["a", "b", "c"], "s"))
    assert len(ids) == 9
    assert models.model_id_for("c", ["a", "b"], "s", ["d", "c"]) in ids


def test_a_model_is_stored_once(store: Store) -> None:
    first = models.save_model(store, "c", ["b", "a"], "s", BLOB, hyperparameters={"length_scale": 40.0})
    again = models.save_model(store, "c", ["a", "b"], "s", b"other", metrics={"mae_eV": 1.0})
    assert again == models.get_model(store, first.model_id)
    assert (again.sha256, again.evaluation_ids, again.failed_ids) == (first.sha256, ("a", "b"), ())
    assert first.model_id == models.model_id_for("c", ["a", "b"], "s")
    assert models.load_model(store, first.model_id) == BLOB
    assert models.is_whole(store, first.model_id)
    assert blob_count(store) == 1


def test_saving_at_once_leaves_one_model_and_one_blob(store: Store) -> None:
    with ThreadPoolExecutor(6) as pool:
        saved = list(pool.map(lambda _: models.save_model(store, "c", ["a"], "s", BLOB), range(6)))
    assert len({item.blob for item in saved}) == 1
    assert models.load_model(store, saved[0].model_id) == BLOB
    assert blob_count(store) == 1


@pytest.mark.parametrize("damage", ["flipped", "chunk lost", "file lost"])
def test_damage_is_noticed_and_mended_by_saving_again(store: Store, damage: str) -> None:
    model_id = models.save_model(store, "c", ["a"], "s", BLOB).model_id
    if damage == "flipped":
        store.db["blobs.chunks"].update_one({"n": 0}, {"$set": {"data": b"\xff" + BLOB[1 : 255 * 1024]}})
    elif damage == "chunk lost":
        store.db["blobs.chunks"].delete_one({"n": 1})
    else:
        store.db["blobs.files"].delete_many({})
    assert not models.is_whole(store, model_id)
    with pytest.raises(DamagedError, match="damaged"):
        models.load_model(store, model_id)
    models.save_model(store, "c", ["a"], "s", BLOB)
    assert models.load_model(store, model_id) == BLOB
    assert blob_count(store) == 1


def test_unknown_models(store: Store) -> None:
    assert not models.is_whole(store, "x")
    with pytest.raises(GodeltaError, match="no such model"):
        models.load_model(store, "x")
