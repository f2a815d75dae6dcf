"""Trained Δ-models: a document and a verified blob each."""

import hashlib
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from pymongo.errors import DuplicateKeyError

from godelta.errors import GodeltaError
from godelta.store.blobs import DamagedError, delete_blob, read_blob, save_blob
from godelta.store.database import Store
from godelta.store.documents import ModelDocument

_NAMESPACE = uuid.UUID("6f2a1c52-53f0-5a0e-9d8e-0c4a7e1b7d11")


def model_id_for(
    campaign_id: str,
    evaluation_ids: Iterable[str],
    settings_digest: str,
    failed_ids: Iterable[str] = (),
) -> str:
    """Id of the model that these evaluations, failures and settings give, in whatever order they come."""
    failed = [f"failed {name}" for name in sorted(failed_ids)]
    parts = [campaign_id, settings_digest, *sorted(evaluation_ids), *failed]
    return str(uuid.uuid5(_NAMESPACE, "\n".join(parts)))


def is_whole(store: Store, model_id: str) -> bool:
    """Whether the model is stored, with its arrays undamaged."""
    raw = store.models.find_one({"model_id": model_id})
    return raw is not None and _whole_blob(store, ModelDocument.from_mongo(raw)) is not None


def get_model(store: Store, model_id: str) -> ModelDocument:
    """The document of a model.

    Raises
    ------
    GodeltaError
        Where there is none with this id.
    """
    raw = store.models.find_one({"model_id": model_id})
    if raw is None:
        raise GodeltaError(
            "there is no such model", where=model_id, mend="restore a backup: `godelta db restore`"
        )
    return ModelDocument.from_mongo(raw)


def save_model(  # noqa: PLR0913 - what a model is, and what people may want to know of it
    store: Store,
    campaign_id: str,
    evaluation_ids: Iterable[str],
    settings_digest: str,
    blob: bytes,
    *,
    failed_ids: Iterable[str] = (),
    hyperparameters: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> ModelDocument:
    """Store a trained model; the one that is there already, if whole, is returned as it is.

    Parameters
    ----------
    evaluation_ids
        What identifies the training set, in any order.
    settings_digest
        Digest of the settings of the Δ-model.
    blob
        The model's arrays.
    failed_ids
        What identifies the failures that it knows, in any order.
    hyperparameters, metrics
        Plain numbers for people, plots and the selection of candidates.
    """
    ids, failed = tuple(sorted(evaluation_ids)), tuple(sorted(failed_ids))
    model_id = model_id_for(campaign_id, ids, settings_digest, failed)
    raw = store.models.find_one({"model_id": model_id})
    if raw is not None and _whole_blob(store, ModelDocument.from_mongo(raw)) is not None:
        return ModelDocument.from_mongo(raw)
    # Blob first, document after: a document never points to a blob that is not complete.
    blob_id = save_blob(store, f"model/{model_id}", blob, kind="model", campaign_id=campaign_id)
    document = ModelDocument(
        model_id=model_id,
        campaign_id=campaign_id,
        evaluation_ids=ids,
        failed_ids=failed,
        settings_digest=settings_digest,
        hyperparameters=dict(hyperparameters or {}),
        metrics=dict(metrics or {}),
        blob=blob_id,
        sha256=hashlib.sha256(blob).hexdigest(),
        created_at=store.now(),
    )
    if raw is not None:
        damaged = {"model_id": model_id, "blob": raw["blob"]}
        if store.models.replace_one(damaged, document.to_mongo()).matched_count:
            delete_blob(store, raw["blob"])
            return document
    else:
        try:
            store.models.insert_one(document.to_mongo())
            return document
        except DuplicateKeyError:
            # Another process stored the same model a moment ago: theirs holds, ours goes below.
            pass
    delete_blob(store, blob_id)
    return get_model(store, model_id)


def load_model(store: Store, model_id: str) -> bytes:
    """The model's arrays, verified.

    Raises
    ------
    DamagedError
        Where its arrays are missing or damaged.
    GodeltaError
        Where there is no such model.
    """
    blob = _whole_blob(store, get_model(store, model_id))
    if blob is None:
        raise DamagedError(
            "the arrays of this model are missing or damaged in the database",
            where=model_id,
            mend="run its campaign again: the model is trained anew from its evaluations, which are kept",
        )
    return blob


def _whole_blob(store: Store, document: ModelDocument) -> bytes | None:
    blob = read_blob(store, document.blob)
    if blob is None or hashlib.sha256(blob).hexdigest() != document.sha256:
        return None
    return blob
