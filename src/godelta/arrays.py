"""Array types used throughout godelta, and their safe storage as bytes."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


def pack_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Store named arrays as npz bytes; object arrays are refused, so nothing is pickled."""
    if any(array.dtype.hasobject for array in arrays.values()):
        raise TypeError("object arrays cannot be stored")
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def unpack_arrays(blob: bytes) -> dict[str, NDArray[Any]]:
    """Read the arrays that `pack_arrays` stored, without executing anything."""
    with np.load(io.BytesIO(blob), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
