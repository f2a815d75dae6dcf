"""Fixtures for all tests."""

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from godelta.campaign import CampaignConfig
from godelta.store.database import Store, connect
from godelta.store.workspace import Workspace


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


# Rounds that take a second: four atoms, a foundation that is wrong on purpose, an empirical reference.
CHEAP: dict[str, Any] = {
    "name": "cheap",
    "system": {"kind": "cluster", "formula": "Cu3Ag", "box": 14.0, "confinement": 6.0},
    "foundation": {"name": "ase", "calculator": "godelta.examples.exchanged_emt.ExchangedEMT"},
    "delta": {"inducing_points": 40},
    "search": {
        "method": "rss",
        "structures_per_round": 4,
        "batch": 2,
        "relax": {"steps": 8},
        "selection": {"evaluations_per_round": 2},
    },
    "reference": {"engine": "emt"},
    "budget": {"chains": 1, "rounds": 2, "evaluations": 10},
    "resources": {"workers": 1},
    "seed": 3,
}
REX: dict[str, Any] = {
    "method": "rex",
    "walkers": 3,
    "iterations_per_round": 3,
    "swap_every": 2,
    "relax": {"steps": 6},
    "selection": {"evaluations_per_round": 2},
}


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values with changes; a mapping that names another kind of thing replaces the old one."""
    values = dict(base)
    for key, change in changes.items():
        old = values.get(key)
        tags = ("kind", "name", "method", "engine")
        keeps = isinstance(old, Mapping) and isinstance(change, Mapping)
        if keeps and not any(tag in change and change[tag] != old.get(tag) for tag in tags):
            values[key] = merged(old, change)
        else:
            values[key] = change
    return values


@pytest.fixture(scope="session")
def cheap() -> Callable[..., dict[str, Any]]:
    """Plain values of a cheap campaign: `cheap(seed=2)`, `cheap(rex=True, budget={"chains": 2})`."""

    def values(*, rex: bool = False, **changes: Any) -> dict[str, Any]:
        return merged(merged(CHEAP, {"search": REX} if rex else {}), changes)

    return values


@pytest.fixture(scope="session")
def cheap_config(cheap: Callable[..., dict[str, Any]]) -> Callable[..., CampaignConfig]:
    """The same as a configuration."""
    return lambda **changes: CampaignConfig.model_validate(cheap(**changes))


@pytest.fixture
def workspace(tmp_path: Path, mongod_uri: str) -> Iterator[Workspace]:
    """A workspace with a database of its own on the tests' server."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    folder = tmp_path / "workspace"
    folder.mkdir()
    (folder / "godelta.yaml").write_text(f"database: {{uri: '{mongod_uri}', name: {name}}}\n")
    made = Workspace(folder)
    made.prepare()
    yield made
    with connect(mongod_uri, timeout_ms=20_000).db.client as client:
        client.drop_database(name)


@pytest.fixture
def opened(workspace: Workspace) -> Iterator[Store]:
    """The workspace's database."""
    store = workspace.connect()
    yield store
    store.close()
