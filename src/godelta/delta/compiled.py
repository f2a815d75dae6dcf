"""Compilation with numba: double precision, cached on disk."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """Compile with numba, keeping the type; NaN and infinity keep their meaning."""
    decorate = numba.njit(cache=True, fastmath={"contract", "reassoc", "nsz", "arcp"})
    return cast(_Function, decorate(function))
