"""A real SLURM, one node, for as long as the tests of this folder last."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cluster import Cluster


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
