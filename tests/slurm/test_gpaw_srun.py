"""GPAW in two ranks that srun starts within a batch job."""

import json
import sys

import pytest

PROGRAM = """
import json
from pathlib import Path
from ase import Atoms
from godelta.reference.isolated import evaluate_isolated
from godelta.reference.settings import GPAWSettings

atoms = Atoms("AgS", positions=[[3.5, 3.5, 2.5], [3.5, 3.5, 4.9]], cell=[7, 7, 7.4])
srun = ("srun", "--exact", "--overlap", "-n", "2", "--mpi=pmix")
found = {}
for name, limits in (("ranks", {"command_prefix": srun, "wall_seconds": 300}), ("alone", {})):
    outcome = evaluate_isolated(atoms, GPAWSettings(limits=limits), Path(name))
    found[name] = [outcome.status, outcome.energy, outcome.message]
Path("found.json").write_text(json.dumps(found))
"""


@pytest.mark.slow
def test_two_ranks_of_srun(cluster, require, tmp_path):
    require("mpi")
    (tmp_path / "program.py").write_text(PROGRAM)
    script = f"#!/bin/bash\nexport OMPI_ALLOW_RUN_AS_ROOT=1\nexec {sys.executable} program.py\n"
    job = cluster.submit(script, "--ntasks=2", "--output=out.txt", folder=tmp_path)
    cluster.wait_for(job, "COMPLETED", seconds=300.0)
    found = json.loads((tmp_path / "found.json").read_text())
    assert [found[name][0] for name in ("ranks", "alone")] == ["ok", "ok"], found
    assert found["ranks"][1] == pytest.approx(found["alone"][1], abs=1e-4)
    assert "domain: 2" in (tmp_path / "ranks" / "gpaw.txt").read_text()
