"""A Δ-model on an embedding as bytes: npz with a JSON header, as `storage` has it."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from godelta.arrays import pack_arrays
from godelta.delta.embedding import EmbeddingCorrection
from godelta.delta.local_kernel import LocalKernel
from godelta.delta.settings import DeltaSettings
from godelta.delta.sparse_gp import Diagnostics, Posterior
from godelta.delta.training import TrainingSet

KIND = "embedding"
SCHEMA_VERSION = 2  # those that know version 1 only would take it for a model on SOAP


def embedding_to_bytes(correction: EmbeddingCorrection) -> bytes:
    """Pack a correction: numbers and settings in JSON, arrays in float64 without loss."""
    posterior = correction.posterior
    header = {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "settings": correction.settings.model_dump(mode="json"),
        "species": correction.species,
        "foundation": correction.foundation,
        "size_scale": correction.size_scale,
        "length_scale": correction.kernel.length_scale,
        "blocks": len(correction.kernel.inducing),
        "mean_scale": posterior.mean_scale,
        "amplitude": posterior.amplitude,
        "noise": posterior.noise,
        "diagnostics": asdict(correction.diagnostics),
    }
    arrays: dict[str, NDArray[Any]] = {
        "header": np.frombuffer(json.dumps(header).encode(), dtype=np.uint8),
        "ids": np.array(correction.training.ids, dtype=np.str_),
        "counts": correction.training.counts,
        "reference_energies": correction.training.reference_energies,
        "foundation_energies": correction.training.foundation_energies,
        "mean": posterior.mean,
        "weights": posterior.weights,
        "projection": posterior.projection,
        "feature_scale": correction.feature_scale,
    }
    if posterior.unseen is not None:
        arrays["unseen"] = posterior.unseen
    arrays.update({f"inducing_{k}": points for k, points in enumerate(correction.kernel.inducing)})
    return pack_arrays(arrays)


def embedding_from_arrays(header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> EmbeddingCorrection:
    """Unpack `embedding_to_bytes`; the header's version has been checked."""
    return EmbeddingCorrection(
        settings=DeltaSettings.model_validate(header["settings"]),
        species=tuple(header["species"]),
        foundation=header["foundation"],
        training=TrainingSet(
            ids=tuple(str(name) for name in arrays["ids"]),
            counts=arrays["counts"],
            reference_energies=arrays["reference_energies"],
            foundation_energies=arrays["foundation_energies"],
        ),
        kernel=LocalKernel(
            tuple(arrays[f"inducing_{k}"] for k in range(header["blocks"])), header["length_scale"]
        ),
        posterior=Posterior(
            mean=arrays["mean"],
            mean_scale=header["mean_scale"],
            amplitude=header["amplitude"],
            noise=header["noise"],
            weights=arrays["weights"],
            projection=arrays["projection"],
            unseen=arrays.get("unseen"),
        ),
        diagnostics=Diagnostics(**header["diagnostics"]),
        feature_scale=arrays["feature_scale"],
        size_scale=header["size_scale"],
    )
