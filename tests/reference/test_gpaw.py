from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from godelta.errors import InputError
from godelta.reference.gpaw import arguments, parameters
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
def test_too_few_iterations_are_continued_from_the_last_density(require, tmp_path):
    require("gpaw")
    whole = evaluate_isolated(AGS, GPAWSettings(), tmp_path / "whole")
    halved = evaluate_isolated(AGS, GPAWSettings(overrides={"maxiter": 9}), tmp_path / "halved")
    assert whole.tried == ("default mixing",)
    assert halved.tried == ("default mixing", "continued")
    assert halved.energy == pytest.approx(whole.energy, abs=1e-4)
    np.testing.assert_allclose(halved.forces, whole.forces, atol=0.01)
    assert not (tmp_path / "halved" / "gpaw-2.txt").exists()


SLAB = Atoms("CuO", positions=[[0, 0, 6.0], [0, 0, 7.7]], cell=[2.8, 2.8, 14.0], pbc=(True, True, False))


def test_the_dipole_correction_is_for_slabs():
    production = GPAWSettings(settings="pbe-production").model_dump()
    assert arguments(production, SLAB.pbc)["poissonsolver"] == {"dipolelayer": "xy"}
    assert "poissonsolver" not in arguments(production, (False, False, False))
    assert "poissonsolver" not in arguments(production, (True, True, True))
    assert "poissonsolver" in parameters(production)  # it belongs to the level whatever the structure
    own = GPAWSettings(settings="pbe-production", overrides={"poissonsolver": {"name": "fft"}}).model_dump()
    assert arguments(own, (True, True, True))["poissonsolver"] == {"name": "fft"}
    assert "poissonsolver" not in arguments(GPAWSettings().model_dump(), SLAB.pbc)


@pytest.mark.slow
def test_what_images_of_a_slabs_dipole_do_is_taken_away(require, tmp_path):
    """An energy that is positive and falls off as one over the height of the cell."""
    require("gpaw")
    coarse = {"mode": {"name": "pw", "ecut": 350.0}, "kpts": {"size": [2, 2, 1], "gamma": True}}
    corrections = {}
    for height in (12.0, 16.0):
        slab = SLAB.copy()
        slab.cell[2, 2] = height
        energies = []
        for overrides in (coarse, coarse | {"poissonsolver": {}}):
            settings = GPAWSettings(
                settings="pbe-production", overrides=overrides, limits={"max_net_force": 1.0}
            )
            outcome = evaluate_isolated(slab, settings, tmp_path / f"{height:g}-{len(overrides)}")
            assert outcome.status == "ok", outcome.message
            energies.append(outcome.energy)
        corrections[height] = energies[0] - energies[1]
    assert corrections[16.0] > 0.01
    assert 1.2 < corrections[12.0] / corrections[16.0] < 1.7


@pytest.mark.slow
def test_no_convergence_has_a_reason_although_gpaw_gives_no_text(require, tmp_path):
    require("gpaw")
    outcome = evaluate_isolated(AGS, GPAWSettings(overrides={"maxiter": 3}), tmp_path)
    assert outcome.reason == "not_converged"
    assert "KohnShamConvergenceError" in outcome.message
    assert outcome.tried == ("default mixing", "continued", "mixing 0.02")
    assert outcome.log_tail
    assert {path.name for path in Path(tmp_path).glob("gpaw*.txt")} == {"gpaw.txt", "gpaw-2.txt"}


def test_elements_and_hash(require):
    require("gpaw")
    check_engine(GPAWSettings(), [47, 16])
    with pytest.raises(InputError, match="cannot do O"):
        check_engine(GPAWSettings(), [47, 8])
    check_engine(GPAWSettings(settings="pbe-production"), [47, 8])
    with pytest.raises(InputError, match="cannot do U"):
        check_engine(GPAWSettings(settings="pbe-production"), [92])
    assert reference_hash(GPAWSettings()) != reference_hash(GPAWSettings(overrides={"kpts": [2, 2, 1]}))
