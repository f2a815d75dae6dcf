"""A cache of descriptors: one array of feature rows per structure and descriptor."""

from collections.abc import Iterable, Mapping

import numpy as np
from bson import Binary
from pymongo import UpdateOne

from godelta.arrays import FloatArray
from godelta.errors import GodeltaError
from godelta.store.database import Store

MAX_BYTES = 15_000_000  # MongoDB's documents end at 16 MB


def put_many(store: Store, descriptor: str, features: Mapping[str, FloatArray]) -> None:
    """Store feature rows by structure id; those that are there already stay.

    Parameters
    ----------
    descriptor
        Digest of the descriptor's settings.
    features
        (n_atoms, n_features) arrays.

    Raises
    ------
    GodeltaError
        Where an array is larger than a document can be.
    """
    operations: list[UpdateOne] = []
    for structure_id, rows in features.items():
        array = np.ascontiguousarray(rows, dtype="<f8")
        if array.nbytes > MAX_BYTES:
            raise GodeltaError(
                f"{array.nbytes / 1e6:.0f} MB of features do not fit into a document",
                where=structure_id,
                mend="use a smaller descriptor",
            )
        operations.append(
            UpdateOne(
                {"structure_id": structure_id, "descriptor": descriptor},
                {"$setOnInsert": {"shape": list(array.shape), "data": Binary(array.tobytes())}},
                upsert=True,
            )
        )
    if operations:
        store.features.bulk_write(operations, ordered=False)


def get_many(store: Store, structure_ids: Iterable[str], descriptor: str) -> dict[str, FloatArray]:
    """The feature rows that are stored, by structure id; unknown ones are left out."""
    query = {"structure_id": {"$in": list(structure_ids)}, "descriptor": descriptor}
    return {
        raw["structure_id"]: np.frombuffer(raw["data"], dtype="<f8").reshape(raw["shape"]).astype(np.float64)
        for raw in store.features.find(query)
    }
