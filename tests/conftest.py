"""Fixtures for all tests."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from godelta.campaign import CampaignConfig
from godelta.store.database import Store, connect
from godelta.store.workspace import Workspace

ROOT = Path(__file__).parents[1]
ESPRESSO_PSEUDO = Path("/usr/share/espresso/pseudo")


def _has_mongod() -> bool:
    return shutil.which("mongod") is not None or find_spec("fiftyone") is not None


def _can_mount() -> bool:
    """Whether small file systems of one's own can be mounted, to fill them up."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return False
        subprocess.run(["umount", folder], check=True)
        return True


def _has_slurm() -> bool:
    """Whether a cluster of one's own can be brought up: its daemons run as several users."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    daemons = "munged slurmctld slurmd slurmdbd mariadbd mariadb-install-db setpriv"
    return os.geteuid() == 0 and all(shutil.which(daemon, path=path) for daemon in daemons.split())


def _has_mpi() -> bool:
    """Whether GPAW was built with MPI, and there is something to launch it."""
    if find_spec("gpaw") is None or shutil.which("mpirun") is None:
        return False
    from gpaw import cgpaw

    return bool(cgpaw.have_mpi)


def _has_espresso() -> bool:
    """Whether pw.x and Debian's pseudopotentials are there."""
    files = (ESPRESSO_PSEUDO / name for name in ("Cu.pbe-kjpaw.UPF", "O.pbe-rrkjus.UPF"))
    return shutil.which("pw.x") is not None and all(file.is_file() for file in files)


def _has_chromium() -> bool:
    """Whether pages can be looked at as people do."""
    return find_spec("selenium") is not None and all(map(shutil.which, ("chromium", "chromedriver")))


OPTIONAL: dict[str, Callable[[], bool]] = {
    "chgnet": lambda: find_spec("chgnet") is not None,
    "chromium": _has_chromium,
    "espresso": _has_espresso,
    "gpaw": lambda: find_spec("gpaw") is not None,
    "mace": lambda: find_spec("mace") is not None,
    "mkdocs": lambda: find_spec("material") is not None and find_spec("mkdocs") is not None,
    "mongod": _has_mongod,
    "mpi": _has_mpi,
    "notebook": lambda: find_spec("nbclient") is not None and find_spec("ipykernel") is not None,
    "openssl": lambda: shutil.which("openssl") is not None,
    "orb": lambda: find_spec("orb_models") is not None,
    "sevennet": lambda: find_spec("sevenn") is not None,
    "sevennet-environment": (ROOT / ".venv-sevennet" / "bin" / "python").exists,
    "slurm": _has_slurm,
    "tmpfs": _can_mount,
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
            pytest.fail(f"{name} is not to be had here, and GODELTA_REQUIRE asks for it")
        pytest.skip(f"{name} is not to be had here")

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
def tmpfs(require: Callable[[str], None], tmp_path: Path) -> Iterator["SmallDisk"]:
    """A file system of a few hundred kilobytes."""
    require("tmpfs")
    disk = SmallDisk(tmp_path / "disk")
    disk.folder.mkdir()
    disk.mount("size=400k")
    yield disk
    disk.unmount()


@dataclass(frozen=True)
class SmallDisk:
    """A file system that can be filled, emptied, and made read-only."""

    folder: Path

    def mount(self, options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.folder], check=True)

    def read_only(self) -> None:
        subprocess.run(["mount", "-o", "remount,ro", self.folder], check=True)

    def fill(self) -> None:
        with contextlib.suppress(OSError), (self.folder / "filler").open("wb", buffering=0) as stream:
            while True:
                stream.write(bytes(4096))

    def free(self) -> None:
        (self.folder / "filler").unlink()

    def unmount(self) -> None:
        subprocess.run(["umount", "-l", self.folder], check=True)


@pytest.fixture
def workspace(tmp_path: Path, mongod_uri: str) -> Iterator[Workspace]:
    """A workspace with a database of its own on the tests' server."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    folder = tmp_path / "workspace"
    folder.mkdir()
    (folder / "godelta.yaml").write_text(f"database: {{uri: '{mongod_uri}', name: {name}}}\n")
    (folder / "godelta.yaml").chmod(0o600)
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
