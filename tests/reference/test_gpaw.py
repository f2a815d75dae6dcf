from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from godelta.errors import InputError
from godelta.reference.gpaw import parameters
from godelta.reference.isolated import evaluate_isolated
from godelta.reference.registry import check_engine, reference_hash
from godelta.reference.settings import GPAWSettings

AGS = Atoms("AgS", positions=[[3.5, 3.5, 2.5], [3.5, 3.5, 4.9]], cell=[7, 7, 7.4])


def test_overrides_lie_on_top_of_the_preset():
    light = parameters(GPAWSettings(overrides={"maxiter": 5}).model_dump())
    assert light["mode"] == {"name": "pw", "ecut": 300.0}
    assert light["convergence"] == {"energy": 1e-5}
    assert light["maxiter"] == 5


@pytest.mark.slow
def test_light_preset_energy_and_logs(require, tmp_path):
    require("gpaw")
    from gpaw import GPAW

    outcome = evaluate_isolated(AGS, GPAWSettings(), tmp_path)
    assert outcome.status == "ok", outcome.message
    assert "Extrapolated" in (tmp_path / "gpaw.txt").read_text()
    atoms = AGS.copy()
    atoms.calc = GPAW(
        mode={"name": "pw", "ecut": 300.0},
        xc="PBE",
        setups={"Ag": "11"},
        symmetry={"point_group": False},
        occupations={"name": "fermi-dirac", "width": 0.1},
        convergence={"energy": 1e-5},
        txt=None,
    )
    assert outcome.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-4)
    np.testing.assert_allclose(outcome.forces, atoms.get_forces(), atol=0.01)


@pytest.mark.slow
def test_no_convergence_has_a_reason_although_gpaw_gives_no_text(require, tmp_path):
    require("gpaw")
    outcome = evaluate_isolated(AGS, GPAWSettings(overrides={"maxiter": 3}), tmp_path)
    assert outcome.reason == "not_converged"
    assert "KohnShamConvergenceError" in outcome.message
    assert outcome.tried == ("default mixing", "mixing 0.02")
    assert outcome.log_tail
    assert {path.name for path in Path(tmp_path).glob("gpaw*.txt")} == {"gpaw.txt", "gpaw-2.txt"}


def test_elements_and_hash(require):
    require("gpaw")
    check_engine(GPAWSettings(), [47, 16])
    with pytest.raises(InputError, match="cannot do O"):
        check_engine(GPAWSettings(), [47, 8])
    check_engine(GPAWSettings(settings="pbe"), [47, 8])
    with pytest.raises(InputError, match="cannot do U"):
        check_engine(GPAWSettings(settings="pbe"), [92])
    assert reference_hash(GPAWSettings()) != reference_hash(GPAWSettings(overrides={"kpts": [2, 2, 1]}))
