import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule

from godelta.reference import xtb
from godelta.reference.engine import Task
from godelta.reference.isolated import evaluate_isolated
from godelta.reference.settings import XTBSettings


@pytest.fixture(autouse=True)
def _tblite(require):
    require("tblite")


def test_units_are_those_of_ase():
    assert units.Bohr == xtb.BOHR
    assert units.Hartree == xtb.HARTREE
    assert units.kB == xtb.BOLTZMANN


@pytest.mark.parametrize("name", ["CO", "H2O", "NO"])
def test_energy_and_forces_are_those_of_tblites_own_calculator(tmp_path, name):
    from tblite.ase import TBLite

    atoms = molecule(name)
    atoms.calc = TBLite(method="GFN1-xTB", verbosity=0)
    # A cell, as clusters carry it in a search, is of no account.
    boxed = Atoms(atoms.numbers, atoms.positions, cell=[3, 3, 3])
    outcome = evaluate_isolated(boxed, XTBSettings(), tmp_path)
    assert outcome.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-8)
    np.testing.assert_allclose(outcome.forces, atoms.get_forces(), atol=1e-7)
    assert outcome.tried == ("direct",)


def test_water_has_the_published_energy(tmp_path):
    # tblite's documentation: atoms.get_potential_energy() of molecule("H2O") with GFN1-xTB
    outcome = evaluate_isolated(molecule("H2O"), XTBSettings(), tmp_path)
    assert outcome.energy == pytest.approx(-156.9675, abs=1e-4)


def test_forces_are_the_gradient_of_the_energy(tmp_path):
    atoms = Atoms("Ag3S", positions=[[0, 0, 0], [2.8, 0, 0], [1.3, 2.5, 0], [1.2, 0.9, 1.8]])
    forces = evaluate_isolated(atoms, XTBSettings(accuracy=0.01), tmp_path / "0").forces
    energies = []
    for step in (-1e-3, 1e-3):
        moved = atoms.copy()
        moved.positions[3, 2] += step
        energies.append(evaluate_isolated(moved, XTBSettings(accuracy=0.01), tmp_path / f"{step}").energy)
    assert forces[3, 2] == pytest.approx(-(energies[1] - energies[0]) / 2e-3, abs=1e-4)


def test_no_convergence_names_what_was_tried(tmp_path):
    outcome = evaluate_isolated(molecule("CO"), XTBSettings(max_iterations=2), tmp_path)
    assert outcome.reason == "not_converged"
    assert outcome.tried == ("direct", "hot start")
    assert "2 cycles" in outcome.message


def test_periodic_structure_and_heavy_element_are_refused(tmp_path):
    periodic = Atoms("Cu", cell=[3, 3, 3], pbc=True)
    outcome = evaluate_isolated(periodic, XTBSettings(), tmp_path / "a")
    assert (outcome.reason, "clusters" in outcome.message) == ("engine_error", True)
    outcome = evaluate_isolated(Atoms("U"), XTBSettings(), tmp_path / "b")
    assert (outcome.reason, "Z >86" in outcome.message) == ("engine_error", True)


def test_evaluation_is_repeatable_to_the_last_bit(tmp_path):
    outcomes = [evaluate_isolated(molecule("H2O"), XTBSettings(), tmp_path / str(k)) for k in range(2)]
    assert outcomes[0].energy == outcomes[1].energy
    np.testing.assert_array_equal(outcomes[0].forces, outcomes[1].forces)


def test_hot_start_converges_what_fails_directly(tmp_path):
    positions = [
        [1.948, 2.747, 0.184], [0.808, 4.359, 4.207], [4.0, 2.494, 6.482],
        [6.375, 4.456, 4.228], [4.475, 2.528, 0.878], [3.158, 5.782, 6.071],
    ]  # fmt: skip
    outcome = evaluate_isolated(Atoms("Ag4S2", positions), XTBSettings(max_iterations=100), tmp_path)
    assert (outcome.status, outcome.tried) == ("ok", ("direct", "hot start"))
    assert outcome.energy == pytest.approx(-610.15073, abs=1e-4)


def test_hot_start_ends_in_the_same_state_as_the_direct_way(monkeypatch):
    atoms = Atoms("Ag3S", positions=[[0, 0, 0], [2.8, 0, 0], [1.3, 2.5, 0], [1.2, 0.9, 1.8]])
    task = Task(atoms.numbers, atoms.positions, np.zeros((3, 3)), atoms.pbc, XTBSettings().model_dump())
    direct = xtb.evaluate(task)
    monkeypatch.setattr(xtb, "LADDER", xtb.LADDER[1:])
    hot = xtb.evaluate(task)
    assert hot.tried == ("hot start",)
    assert hot.energy == pytest.approx(direct.energy, abs=1e-6)
    np.testing.assert_allclose(hot.forces, direct.forces, atol=1e-4)
