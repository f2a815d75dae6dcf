"""Whatever a cluster does to a campaign: `godelta restart` completes it, and nothing is paid for twice."""

import os

import pytest
from faults import OTHERS, REPRESENTATIVE
from kit import NAME

SOAK = bool(os.environ.get("GODELTA_SOAK"))
MATRIX = REPRESENTATIVE | (OTHERS if SOAK else {})


@pytest.mark.slow
@pytest.mark.parametrize("name", MATRIX)
def test_fault(name, make_scene, request):
    fault = MATRIX[name]
    disk = request.getfixturevalue("tmpfs") if name == "full disk" else None
    scene = make_scene(engine=fault.engine, own_server="mongod" in name, disk=disk)
    lost = fault.happen(scene)
    scene.look()
    scene.restart(NAME, *fault.restart)
    scene.finish()
    scene.check(lost, fault.failed)
