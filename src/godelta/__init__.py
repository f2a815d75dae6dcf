"""godelta: global structure optimisation with active Δ-learning on foundation potentials."""

from typing import Any


def __getattr__(name: str) -> Any:
    # Looking the version up takes 40 ms, in every process of every evaluation.
    if name == "__version__":
        from importlib.metadata import version

        return version("godelta")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
