"""Large binary values in GridFS; the documents that point to them hold their ids."""

from typing import Any

from bson import ObjectId
from gridfs.errors import CorruptGridFile, NoFile

from godelta.store.database import Store


def save_blob(store: Store, name: str, data: bytes, **metadata: Any) -> ObjectId:
    """Store bytes; they are complete and durable when this returns."""
    return store.blobs.upload_from_stream(name, data, metadata=metadata)


def read_blob(store: Store, blob_id: ObjectId) -> bytes | None:
    """The bytes, None where they are not there as a whole, perhaps being deleted right now."""
    try:
        return store.blobs.open_download_stream(blob_id).read()
    except (NoFile, CorruptGridFile):
        return None


def delete_blob(store: Store, blob_id: ObjectId | None) -> None:
    """Delete the bytes; that they are gone already is no error."""
    if blob_id is None:
        return
    try:
        store.blobs.delete(blob_id)
    except NoFile:
        return
