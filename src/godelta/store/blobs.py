"""Large binary values in GridFS; the documents that point to them hold their ids."""

import hashlib
from typing import Any

from bson import ObjectId
from gridfs.errors import CorruptGridFile, NoFile

from godelta.errors import GodeltaError
from godelta.store.database import Store


class DamagedError(GodeltaError):
    """Stored bytes are missing, or are not what was stored."""


def save_blob(store: Store, name: str, data: bytes, **metadata: Any) -> ObjectId:
    """Store bytes; they are complete and durable when this returns."""
    metadata["sha256"] = hashlib.sha256(data).hexdigest()
    return store.blobs.upload_from_stream(name, data, metadata=metadata)


def read_blob(store: Store, blob_id: ObjectId) -> bytes | None:
    """The bytes, None where they are not there as they were stored, perhaps being deleted right now."""
    try:
        stream = store.blobs.open_download_stream(blob_id)
        data = stream.read()
    except (NoFile, CorruptGridFile):
        return None
    stored = (stream.metadata or {}).get("sha256")
    return data if stored in (None, hashlib.sha256(data).hexdigest()) else None


def delete_blob(store: Store, blob_id: ObjectId | None) -> None:
    """Delete the bytes; that they are gone already is no error."""
    if blob_id is None:
        return
    try:
        store.blobs.delete(blob_id)
    except NoFile:
        return
