"""A Δ-model on an embedding as bytes: npz with a JSON header, as `storage` has it."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from godelta.arrays import pack_arrays
from godelta.delta.embedding import EmbeddingCorrection
from godelta.delta.gp_storage import gp_from_arrays, gp_to_arrays

KIND = "embedding"
SCHEMA_VERSION = 2  # those that know version 1 only would take it for a model on SOAP


def embedding_to_bytes(correction: EmbeddingCorrection) -> bytes:
    """Pack a correction: numbers and settings in JSON, arrays in float64 without loss."""
    header, arrays = gp_to_arrays(correction)
    header |= {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "foundation": correction.foundation,
        "size_scale": correction.size_scale,
        "selected_environments": correction.selected_environments,
    }
    if correction.rows is not None:
        arrays["rows"] = correction.rows
    packed = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    return pack_arrays({"header": packed, "feature_scale": correction.feature_scale, **arrays})


def embedding_from_arrays(header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> EmbeddingCorrection:
    """Unpack `embedding_to_bytes`; the header's version has been checked."""
    return EmbeddingCorrection(
        **gp_from_arrays(header, arrays),
        foundation=header["foundation"],
        feature_scale=arrays["feature_scale"],
        size_scale=header["size_scale"],
        rows=arrays.get("rows"),
        selected_environments=header.get("selected_environments", 0),
    )
