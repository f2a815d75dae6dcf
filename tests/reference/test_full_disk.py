import pytest
from ase import Atoms

from godelta.errors import GodeltaError
from godelta.reference.isolated import evaluate_isolated
from godelta.reference.settings import EMTSettings

CLUSTER = Atoms("Cu3", positions=[[0, 0, 0], [2.5, 0, 0], [0, 2.5, 0]], cell=[12, 12, 12])


def test_a_result_that_finds_no_room_is_no_verdict_on_the_structure(tmpfs):
    filled = []

    def fill():
        """Called once the job is written, and while the engine runs."""
        if not filled:
            tmpfs.fill()
            filled.append(True)
        return False

    with pytest.raises(GodeltaError, match="No space left on device"):
        evaluate_isolated(CLUSTER, EMTSettings(), tmpfs.folder / "scratch", should_stop=fill)
    tmpfs.free()
    assert evaluate_isolated(CLUSTER, EMTSettings(), tmpfs.folder / "scratch").status == "ok"
