import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms

from godelta.reference.checks import check_after, check_before
from godelta.reference.settings import Limits
from godelta.systems import Confinement, SearchProblem

LIMITS = Limits()


def test_close_atoms_are_found_also_across_the_boundary():
    # The covalent radius of copper is 1.32 Å: half the sum is 1.32 Å.
    atoms = Atoms("Cu2", positions=[[0.1, 0, 0], [5.0, 0, 0]], cell=[6, 6, 6])
    assert check_before(atoms, LIMITS) is None
    atoms.pbc = True
    found = check_before(atoms, LIMITS)
    assert found.reason == "too_close"
    assert "Cu0 and Cu1 are 1.10 Å apart" in found.message


@pytest.mark.parametrize(("distance", "good"), [(1.31, False), (1.33, True)])
def test_closest_distance_is_a_part_of_the_covalent_radii(distance, good):
    atoms = Atoms("Cu2", positions=[[0, 0, 0], [distance, 0, 0]])
    assert (check_before(atoms, LIMITS) is None) is good


def test_structure_without_numbers_or_atoms_is_invalid():
    assert check_before(Atoms("Cu", positions=[[0, 0, np.nan]]), LIMITS).reason == "invalid_structure"
    assert check_before(Atoms(), LIMITS).reason == "invalid_structure"


def test_escape_from_the_confinement_is_found():
    oblique = np.array([[6.0, 0, 0], [3.0, 5.0, 0], [0, 0, 4.0]])
    confinement = Confinement(oblique, np.array([1.0, 1.0, 1.0]), (False, False, True))
    template = Atoms("Cu", positions=[[0, 0, 0]], cell=[20, 20, 20])
    problem = SearchProblem(template, np.array([True]), np.array([29]), confinement)
    heights = {4.9: None, 5.4: None, 5.6: "outside_confinement", 0.6: None, 0.4: "outside_confinement"}
    for z, reason in heights.items():
        found = check_before(problem.structure(np.array([[50.0, 3.0, z]])), LIMITS, problem)
        assert (found.reason if found else None) == reason


def test_results_are_checked():
    atoms = Atoms("Cu2", positions=[[0, 0, 0], [2.5, 0, 0]])
    good = np.array([[49.0, 0, 0], [-49.0, 0, 0]])
    assert check_after(-1.0, good, atoms, LIMITS) is None
    assert check_after(np.inf, good, atoms, LIMITS).reason == "invalid_result"
    assert check_after(-1.0, good * np.nan, atoms, LIMITS).reason == "invalid_result"
    assert check_after(-1.0, good[:1], atoms, LIMITS).reason == "invalid_result"
    assert check_after(-1.0, good * 1.1, atoms, LIMITS).reason == "force_limit"


def test_net_force_counts_only_without_fixed_atoms():
    atoms = Atoms("Cu2", positions=[[0, 0, 0], [2.5, 0, 0]])
    forces = np.array([[1.0, 0, 0], [0, 0, 0]])
    assert check_after(0.0, forces, atoms, LIMITS).reason == "net_force"
    atoms.set_constraint(FixAtoms([0]))
    assert check_after(0.0, forces, atoms, LIMITS) is None
