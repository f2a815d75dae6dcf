"""GPAW in two ranks, launched as on a cluster: the same numbers, and no rank that waits for ever."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

import godelta
from godelta.reference.isolated import evaluate_isolated
from godelta.reference.settings import GPAWSettings

AGS = Atoms("AgS", positions=[[3.5, 3.5, 2.5], [3.5, 3.5, 4.9]], cell=[7, 7, 7.4])
PREFIX = ("mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "2")
# First on PYTHONPATH: the second rank fails where its energy would be asked for.
HOOK = """
import os
if os.environ.get("OMPI_COMM_WORLD_RANK") == "1":
    import sys
    sys.path.insert(0, {source!r})
    from godelta.reference import ase_calculator
    def fail(*given):
        raise ValueError("this rank alone")
    ase_calculator.evaluate_with = fail
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(require):
    require("mpi")

    def make(**overrides):
        limits = {"command_prefix": PREFIX, "wall_seconds": 300}
        return GPAWSettings(overrides=overrides, limits=limits)

    return make


def test_two_ranks_share_the_work_and_agree_with_one(settings, tmp_path):
    both = evaluate_isolated(AGS, settings(), tmp_path / "both")
    one = evaluate_isolated(AGS, GPAWSettings(), tmp_path / "one")
    assert both.status == one.status == "ok", both.message + one.message
    assert "domain: 2" in (tmp_path / "both" / "gpaw.txt").read_text()
    assert both.energy == pytest.approx(one.energy, abs=1e-4)
    np.testing.assert_allclose(both.forces, one.forces, atol=5e-3)


def test_no_convergence_is_told_by_all_ranks(settings, tmp_path):
    outcome = evaluate_isolated(AGS, settings(maxiter=2), tmp_path)
    assert outcome.reason == "not_converged"
    assert outcome.tried == ("default mixing", "continued", "mixing 0.02")


def test_a_rank_that_fails_alone_ends_the_others(settings, tmp_path, monkeypatch):
    """Without it they would wait until the wall limit, here five minutes."""
    (tmp_path / "hook").mkdir()
    source = str(Path(godelta.__file__).parents[1])
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK.format(source=source))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'hook'}:{os.environ.get('PYTHONPATH', '')}")
    start = time.monotonic()
    outcome = evaluate_isolated(AGS, settings(), tmp_path / "run")
    assert outcome.status == "failed"
    assert "this rank alone" in outcome.log_tail
    assert time.monotonic() - start < 120
