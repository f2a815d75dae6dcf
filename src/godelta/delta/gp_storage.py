"""What both Δ-models store of their Gaussian process: numbers and settings for a JSON header, and arrays."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from godelta.delta.left_out import Diagnostics, LeftOut
from godelta.delta.local_kernel import LocalKernel
from godelta.delta.settings import DeltaSettings
from godelta.delta.sparse_gp import Posterior
from godelta.delta.training import TrainingSet

if TYPE_CHECKING:
    from godelta.delta.model import AnyCorrection

Header = dict[str, Any]
Arrays = dict[str, NDArray[Any]]
_LEFT_OUT = ("errors", "deviations", "inside", "influence")


def gp_to_arrays(fitted: "AnyCorrection") -> tuple[Header, Arrays]:
    """The common part of a model's header, and of its arrays in float64 without loss."""
    training, kernel, posterior = fitted.training, fitted.kernel, fitted.posterior
    header: Header = {
        "settings": fitted.settings.model_dump(mode="json"),
        "species": fitted.species,
        "length_scale": kernel.length_scale,
        "blocks": len(kernel.inducing),
        "mean_scale": posterior.mean_scale,
        "amplitude": posterior.amplitude,
        "noise": posterior.noise,
        "scale": posterior.scale,
        "discrepancy": posterior.discrepancy,
        "diagnostics": asdict(fitted.diagnostics),
    }
    arrays: Arrays = {
        "ids": np.array(training.ids, dtype=np.str_),
        "counts": training.counts,
        "reference_energies": training.reference_energies,
        "foundation_energies": training.foundation_energies,
        "mean": posterior.mean,
        "weights": posterior.weights,
        "projection": posterior.projection,
    }
    if posterior.unseen is not None:
        arrays["unseen"] = posterior.unseen
    if (left_out := fitted.left_out) is not None:
        arrays |= {f"left_out_{name}": getattr(left_out, name) for name in _LEFT_OUT}
    arrays.update({f"inducing_{k}": points for k, points in enumerate(kernel.inducing)})
    return header, arrays


def gp_from_arrays(header: Header, arrays: Arrays) -> dict[str, Any]:
    """Arguments of a model's class that `gp_to_arrays` has stored."""
    return {
        "settings": DeltaSettings.model_validate(header["settings"]),
        "species": tuple(header["species"]),
        "training": TrainingSet(
            ids=tuple(str(name) for name in arrays["ids"]),
            counts=arrays["counts"],
            reference_energies=arrays["reference_energies"],
            foundation_energies=arrays["foundation_energies"],
        ),
        "kernel": LocalKernel(
            tuple(arrays[f"inducing_{k}"] for k in range(header["blocks"])), header["length_scale"]
        ),
        "posterior": Posterior(
            mean=arrays["mean"],
            mean_scale=header["mean_scale"],
            amplitude=header["amplitude"],
            noise=header["noise"],
            weights=arrays["weights"],
            projection=arrays["projection"],
            unseen=arrays.get("unseen"),
            scale=header.get("scale", 1.0),
            discrepancy=header.get("discrepancy", 0.0),
        ),
        "diagnostics": Diagnostics(**header["diagnostics"]),
        "left_out": _left_out(arrays),
    }


def _left_out(arrays: Arrays) -> LeftOut | None:
    if "left_out_errors" not in arrays:
        return None
    return LeftOut(**{name: arrays[f"left_out_{name}"] for name in _LEFT_OUT})
