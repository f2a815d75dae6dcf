"""Compilation with numba: double precision, cached on disk."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

_Function = TypeVar("_Function", bound=Callable[..., Any])
_FASTMATH = {"contract", "reassoc", "nsz", "arcp"}


def compiled(function: _Function) -> _Function:
    """Compile with numba, keeping the type; NaN and infinity keep their meaning."""
    return cast(_Function, numba.njit(cache=True, fastmath=_FASTMATH)(function))


def inlined(function: _Function) -> _Function:
    """As `compiled`, for what compiled functions call: it becomes part of each of them.

    A process that compiles would otherwise call another copy than one that reads the cache, with its sums
    in another order: two workers would differ in the last bits, and so in what they find.
    """
    return cast(_Function, numba.njit(fastmath=_FASTMATH, inline="always")(function))
