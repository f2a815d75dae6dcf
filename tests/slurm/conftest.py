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
    """A campaign on the cluster, its workspace ready: `make_scene(budget=..., engine={...}, uri=...)`."""
    scenes: list[Scene] = []

    def make(
        *, uri: str = mongod_uri, elsewhere: bool = True, engine: dict[str, Any] | None = None, **changes: Any
    ) -> Scene:
        arguments = {"log": str(tmp_path / "starts"), **(engine or {})}
        limits = arguments.pop("limits", {})
        reference = {
            "engine": "ase",
            "calculator": "counted_emt.CountedEMT",
            "arguments": arguments,
            "limits": limits,
        }
        values = cheap(**(CAMPAIGN | {"reference": reference} | changes))
        scenes.append(Scene(cluster, tmp_path, uri, f"test_{uuid.uuid4().hex[:12]}", values, elsewhere))
        scenes[-1].prepare()
        return scenes[-1]

    yield make
    for scene in scenes:
        scene.end()
