"""A real SLURM, one node, for as long as the tests of this folder last."""

import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cluster import Cluster
from kit import CAMPAIGN, Scene

from godelta.store.mongod import PrivateMongod


@pytest.fixture(scope="session")
def slurm(require: Callable[[str], None]) -> Iterator[Cluster]:
    """The cluster; SLURM_CONF tells every command of SLURM where it is."""
    require("slurm")
    made = Cluster()
    try:
        made.start()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLURM_CONF", str(made.conf))
            yield made
    finally:
        made.stop()


@pytest.fixture
def cluster(slurm: Cluster) -> Iterator[Cluster]:
    """The cluster, mended and emptied after the test."""
    yield slurm
    slurm.mend()
    slurm.drain()


@pytest.fixture
def make_scene(
    cluster: Cluster, cheap: Callable[..., dict[str, Any]], mongod_uri: str, tmp_path: Path
) -> Iterator[Callable[..., Scene]]:
    """A campaign on the cluster, its workspace ready: `make_scene(budget=..., engine={...})`."""
    scenes: list[Scene] = []

    def make(
        *, own_server: bool = False, disk: Any = None, engine: dict[str, Any] | None = None, **changes: Any
    ) -> Scene:
        arguments = {"log": str(tmp_path / "starts"), **(engine or {})}
        reference = {
            "engine": "ase",
            "calculator": "counted_emt.CountedEMT",
            "limits": arguments.pop("limits", {}),
            "arguments": arguments,
        }
        server = PrivateMongod(tmp_path / "server", idle_minutes=None) if own_server else None
        uri = server.start() if server else mongod_uri
        if disk:
            disk.mount("remount,size=4m")
        values = cheap(**(CAMPAIGN | {"reference": reference} | changes))
        database = f"test_{uuid.uuid4().hex[:12]}"
        scenes.append(Scene(cluster, tmp_path, uri, database, values, server=server, disk=disk))
        scenes[-1].prepare()
        return scenes[-1]

    yield make
    for scene in scenes:
        scene.end()
