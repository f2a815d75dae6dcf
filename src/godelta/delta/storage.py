"""What a campaign has learnt, as bytes: npz with a JSON header; nothing in it is ever executed."""

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from godelta.arrays import pack_arrays, unpack_arrays
from godelta.delta.embedding_storage import KIND, embedding_from_arrays
from godelta.delta.embedding_storage import SCHEMA_VERSION as EMBEDDING_SCHEMA_VERSION
from godelta.delta.gp_storage import gp_from_arrays, gp_to_arrays
from godelta.delta.local_kernel import LocalKernel
from godelta.delta.repulsion import Repulsion
from godelta.delta.settings import SOAPSettings
from godelta.errors import GodeltaError

if TYPE_CHECKING:
    from godelta.delta.embedding import EmbeddingCorrection
    from godelta.delta.model import Correction, Learnt

SCHEMA_VERSION = 1


def correction_to_bytes(correction: "Correction") -> bytes:
    """Pack a correction: numbers and settings in JSON, arrays in float64 without loss."""
    header, arrays = gp_to_arrays(correction)
    header |= {
        "schema_version": SCHEMA_VERSION,
        "selected_environments": correction.selected_environments,
    }
    packed = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    # Derivatives of 500 slabs would be some 100 MB in each model; who continues from it computes them again.
    rows = correction.rows[correction.training.counts.any(axis=1)]
    return pack_arrays({"header": packed, "rows": rows, **arrays})


def correction_from_bytes(blob: bytes) -> "Correction":
    """Unpack `correction_to_bytes`.

    Raises
    ------
    GodeltaError
        If the bytes were written by a newer version of godelta.
    """
    from godelta.delta.model import Correction

    arrays = unpack_arrays(blob)
    header = _checked_header(arrays["header"])
    common = gp_from_arrays(header, arrays)
    stored = common["training"].counts.any(axis=1)
    rows = np.full((len(stored), arrays["rows"].shape[1]), np.nan)
    rows[stored] = arrays["rows"]
    return Correction(
        **common,
        rows=rows,
        selected_environments=header["selected_environments"],
    )


def learnt_to_bytes(learnt: "Learnt") -> bytes:
    """Pack a correction and a repulsion, as far as there are any."""
    parts: dict[str, bytes] = {}
    if learnt.correction is not None:
        parts["correction"] = learnt.correction.to_bytes()
    if learnt.repulsion is not None:
        parts["repulsion"] = _repulsion_to_bytes(learnt.repulsion)
    return pack_arrays({name: np.frombuffer(part, dtype=np.uint8) for name, part in parts.items()})


def learnt_from_bytes(blob: bytes) -> "Learnt":
    """Unpack `learnt_to_bytes`.

    Raises
    ------
    GodeltaError
        If the bytes were written by a newer version of godelta.
    """
    from godelta.delta.model import Learnt

    parts = {name: array.tobytes() for name, array in unpack_arrays(blob).items()}
    return Learnt(
        _any_from_bytes(parts["correction"]) if "correction" in parts else None,
        _repulsion_from_bytes(parts["repulsion"]) if "repulsion" in parts else None,
    )


def _any_from_bytes(blob: bytes) -> "Correction | EmbeddingCorrection":
    arrays = unpack_arrays(blob)
    header = _checked_header(arrays["header"])
    return embedding_from_arrays(header, arrays) if _of_embedding(header) else correction_from_bytes(blob)


def _of_embedding(header: dict[str, Any]) -> bool:
    return bool(header.get("kind") == KIND)


def _repulsion_to_bytes(repulsion: Repulsion) -> bytes:
    header = {
        "schema_version": SCHEMA_VERSION,
        "soap": repulsion.soap.model_dump(mode="json"),
        "species": repulsion.species,
        "length_scale": repulsion.kernel.length_scale,
        "blocks": len(repulsion.kernel.inducing),
    }
    arrays: dict[str, NDArray[Any]] = {
        "header": np.frombuffer(json.dumps(header).encode(), dtype=np.uint8),
        "pairs": repulsion.pairs,
        "reach": repulsion.reach,
        "stiffness": repulsion.stiffness,
        "heights": repulsion.heights,
    }
    arrays.update({f"centres_{k}": points for k, points in enumerate(repulsion.kernel.inducing)})
    return pack_arrays(arrays)


def _repulsion_from_bytes(blob: bytes) -> Repulsion:
    arrays = unpack_arrays(blob)
    header = _checked_header(arrays["header"])
    centres = tuple(arrays[f"centres_{k}"] for k in range(header["blocks"]))
    return Repulsion(
        pairs=arrays["pairs"],
        reach=arrays["reach"],
        stiffness=arrays["stiffness"],
        soap=SOAPSettings.model_validate(header["soap"]),
        species=tuple(header["species"]),
        kernel=LocalKernel(centres, header["length_scale"]),
        heights=arrays["heights"],
    )


def _checked_header(packed: NDArray[Any]) -> dict[str, Any]:
    header = dict(json.loads(packed.tobytes()))
    newest = EMBEDDING_SCHEMA_VERSION if _of_embedding(header) else SCHEMA_VERSION
    if header["schema_version"] > newest:
        raise GodeltaError(
            f"the Δ-model has schema version {header['schema_version']}, this godelta reads {newest}",
            mend="upgrade godelta",
        )
    return header
