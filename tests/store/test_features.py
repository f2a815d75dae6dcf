"""The cache of features: exact, per descriptor, and first come first kept."""

import numpy as np
import pytest

from godelta.errors import GodeltaError
from godelta.store import features
from godelta.store.database import Store


def test_rows_come_back_exactly_and_writable(store: Store) -> None:
    rng = np.random.default_rng(3)
    rows = {name: rng.normal(size=(n, 7)) for name, n in [("a", 4), ("b", 1), ("c", 0)]}
    rows["b"][0, 0] = -0.0
    rows["d"] = np.asfortranarray(rng.normal(size=(5, 3)))[::2]
    features.put_many(store, "soap", rows)
    features.put_many(store, "soap", {"a": np.zeros((4, 7))})
    features.put_many(store, "other", {"a": np.ones((2, 2))})
    features.put_many(store, "other", {})
    found = features.get_many(store, ["a", "b", "c", "d", "unknown"], "soap")
    assert found.keys() == rows.keys()
    for name, array in rows.items():
        assert found[name].dtype == np.float64
        assert found[name].shape == array.shape
        assert found[name].tobytes() == np.ascontiguousarray(array).tobytes()
    found["a"][0, 0] = 1.0
    assert np.array_equal(features.get_many(store, ["a"], "other")["a"], np.ones((2, 2)))


def test_what_fits_into_no_document_is_refused(store: Store) -> None:
    with pytest.raises(GodeltaError, match="MB of features"):
        features.put_many(store, "soap", {"a": np.zeros((2, features.MAX_BYTES // 16 + 1))})
