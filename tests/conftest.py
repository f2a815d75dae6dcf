"""Fixtures for all tests."""

import os
from collections.abc import Callable
from importlib.util import find_spec

import pytest


def _has_mongod() -> bool:
    import shutil

    return shutil.which("mongod") is not None or find_spec("fiftyone") is not None


OPTIONAL: dict[str, Callable[[], bool]] = {
    "chgnet": lambda: find_spec("chgnet") is not None,
    "gpaw": lambda: find_spec("gpaw") is not None,
    "mongod": _has_mongod,
    "tblite": lambda: find_spec("tblite") is not None,
}


@pytest.fixture(scope="session")
def require() -> Callable[[str], None]:
    """`require("gpaw")` skips a test where that is missing, or fails if GODELTA_REQUIRE lists it."""
    demanded = set(os.environ.get("GODELTA_REQUIRE", "").replace(",", " ").split())
    if unknown := demanded - OPTIONAL.keys():
        raise pytest.UsageError(f"GODELTA_REQUIRE: unknown {unknown}, known are {sorted(OPTIONAL)}")

    def _require(name: str) -> None:
        if OPTIONAL[name]():
            return
        if name in demanded:
            pytest.fail(f"{name} is not installed, and GODELTA_REQUIRE asks for it")
        pytest.skip(f"{name} is not installed")

    return _require
