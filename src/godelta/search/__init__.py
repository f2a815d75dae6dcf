"""Search methods on foundation + Δ."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from godelta.search.registry import make_method
    from godelta.search.state import Candidate, SearchMethod, SearchState, Statistics, StepResult

__all__ = ["Candidate", "SearchMethod", "SearchState", "Statistics", "StepResult", "make_method"]


def __getattr__(name: str) -> Any:
    # Settings are imported by every command; the methods, with numpy and ASE, only where one runs.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "make_method":
        from godelta.search.registry import make_method

        return make_method
    from godelta.search import state

    return getattr(state, name)
