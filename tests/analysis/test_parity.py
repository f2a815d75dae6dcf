"""Errors, ranks and classes, against what can be counted by hand."""

import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms
from scipy.stats import kendalltau, spearmanr

from godelta.analysis import parity
from godelta.analysis.bonds import error_per_bond, surroundings
from godelta.analysis.parity import Level, Truth
from godelta.analysis.parity_plot import comparison

LENGTHS = (2.6, 2.8, 3.0, 3.6, 4.4)


def dimers(energies, symbols="Ag2", lengths=LENGTHS, start=0):
    """Dimers of different lengths, so that none is a duplicate."""
    structures = [Atoms(symbols, [[0, 0, 0], [0, 0, length]], cell=[12] * 3) for length in lengths]
    ids = [f"{symbols}{start + k}" for k in range(len(lengths))]
    return ids, structures, np.array(energies, dtype=float), [np.zeros((2, 3)) for _ in lengths]


def both(first, second):
    ids, structures, energies, forces = (list(a) + list(b) for a, b in zip(first, second, strict=True))
    return Truth.of(ids, structures, np.array(energies), forces)


@pytest.fixture
def truth():
    """Five dimers of silver, three of copper, and a single one of gold."""
    copper = dimers([0.0, 0.3, 0.9], "Cu2", LENGTHS[:3])
    gold = dimers([-3.0], "Au2", LENGTHS[:1])
    silver = dimers([0.0, 0.1, 0.2, 1.0, 2.0])
    pair = [list(a) + list(b) for a, b in zip(copper, gold, strict=True)]
    return both(silver, pair)


def level(energies, forces=None):
    return Level("one", np.array(energies, dtype=float), forces)


def test_a_constant_for_each_composition_is_no_error(truth):
    shift = np.array([5.0] * 5 + [-2.0] * 3 + [9.0])
    perfect = parity.summarise(truth, level(truth.energies + shift))
    assert perfect.energy == parity.Errors(8, pytest.approx(0, abs=1e-12), pytest.approx(0, abs=1e-12))
    assert perfect.spearman == perfect.kendall == pytest.approx(1.0)
    assert (perfect.n, perfect.forces) == (9, None)


def test_errors_by_hand(truth):
    energies = truth.energies + np.array([1.0, 1.0, 1.0, 1.0, 2.0, 0.0, 0.0, 0.3, 4.0])
    errors = parity.energy_errors(truth, level(energies))
    assert errors[:8] == pytest.approx([-0.2] * 4 + [0.8] + [-0.1] * 2 + [0.2])
    assert np.isnan(errors[8])
    per_atom = np.array([0.2] * 4 + [0.8] + [0.1] * 2 + [0.2]) / 2
    found = parity.summarise(truth, level(energies)).energy
    assert found.mae == pytest.approx(per_atom.mean())
    assert found.rmse == pytest.approx(np.sqrt((per_atom**2).mean()))


def test_unknown_energies_are_left_out(truth):
    energies = truth.energies.copy()
    energies[[0, 5, 6]] = np.nan  # of copper one is left, which says nothing
    energies[1] += 0.4
    one = level(energies)
    assert parity.energy_errors(truth, one)[1:5] == pytest.approx([0.3, -0.1, -0.1, -0.1])
    assert np.isnan(parity.energy_errors(truth, one)[[0, 5, 6, 7]]).all()
    assert parity.summarise(truth, one).n == 6
    label = int(truth.compositions[0])
    assert parity.ranks(truth, one, label) == {2: 1, 1: 2, 3: 3, 4: 4}
    assert parity.choice(truth, one, label) == parity.Choice(2, pytest.approx(0.2))
    nothing = level(np.full(9, np.nan))
    assert parity.choice(truth, nothing, label) is None
    assert parity.summarise(truth, nothing).energy is None
    assert parity.summarise(truth, nothing).spearman is None


def test_ranks_are_compared_within_compositions(truth):
    said = np.array([0.3, 0.1, 0.2, 0.9, 0.8, 7.2, 7.1, 7.3, 0.0])
    found = parity.summarise(truth, level(said))
    for name, by_hand in (("spearman", spearmanr), ("kendall", kendalltau)):
        silver = by_hand(truth.energies[:5], said[:5]).statistic
        copper = by_hand(truth.energies[5:8], said[5:8]).statistic
        assert getattr(found, name) == pytest.approx((5 * silver + 3 * copper) / 8)
    label = int(truth.compositions[0])
    assert parity.ranks(truth, level(said), label) == {1: 1, 2: 2, 0: 3, 4: 4, 3: 5}
    assert parity.choice(truth, level(said), label) == parity.Choice(1, pytest.approx(0.1))
    assert parity.lowest(truth, label, 3).tolist() == [0, 1, 2]


def test_duplicates_count_once_in_ranks_and_the_lowest_stands_for_them():
    ids, structures, energies, forces = dimers([0.5, 0.0, 1.0], lengths=(2.8, 2.6, 3.2))
    turned = structures[1].copy()
    turned.rotate(70, "x", center="COM")
    truth = Truth.of(
        [*ids, "again"], [*structures, turned], np.append(energies, -0.01), [*forces, np.zeros((2, 3))]
    )
    assert truth.leaders.tolist() == [0, 2, 3]
    label = int(truth.compositions[0])
    assert parity.lowest(truth, label, 5).tolist() == [3, 0, 2]
    assert parity.ranks(truth, level([1.0, 0.0, 2.0, 3.0]), label) == {0: 1, 2: 2, 3: 3}


def test_forces_by_surroundings_of_atoms_that_may_move():
    """One sulfur bonded to silver, one alone; the silver atom is fixed and counts as a neighbour only."""
    atoms = Atoms("AgS2", [[0, 0, 0], [0, 0, 2.5], [6, 6, 6]], cell=[14] * 3)
    atoms.set_constraint(FixAtoms([0]))
    truth = Truth.of(["a"], [atoms], np.zeros(1), [np.zeros((3, 3))])
    off = np.array([[9.0, 9, 9], [0.3, 0, 0], [0, 0, -0.6]])
    one = level([0.0], [off])
    rows = {
        (row.element, row.surroundings): row
        for row in parity.forces_by_surroundings(truth, [one], surroundings([atoms]))
    }
    assert set(rows) == {
        ("S", "all"),
        ("S", "bonded to Ag"),
        ("S", "alone"),
        ("S", "coordination 0"),
        ("S", "coordination 1"),
    }
    assert rows["S", "all"].errors["one"].mae == pytest.approx(0.15)
    assert rows["S", "all"].errors["one"].rmse == pytest.approx(np.sqrt(0.45 / 6))
    assert rows["S", "bonded to Ag"].errors["one"].mae == pytest.approx(0.1)
    assert rows["S", "alone"].errors["one"].mae == pytest.approx(0.2)
    assert parity.summarise(truth, one).forces.mae == pytest.approx(0.15)


def test_the_picture(truth, tmp_path):
    from PIL import Image

    levels = [
        Level("near", truth.energies + 0.1 * np.arange(9), [np.full((2, 3), 0.1)] * 9),
        Level("far", np.full(9, np.nan), None),
    ]
    around = surroundings(truth.structures)
    forces = parity.forces_by_surroundings(truth, levels, around)
    errors = parity.energy_errors(truth, levels[0])
    known = np.isfinite(errors)
    fit = error_per_bond(errors[known], around.bonds[known], truth.compositions[known], around.pairs)
    figure = comparison(truth, levels, forces, {"near": fit})
    figure.savefig(tmp_path / "a.png", dpi=60)
    with Image.open(tmp_path / "a.png") as image:
        assert np.asarray(image.convert("L")).std() > 10
    titles = [axes.get_title(loc="left") for part in figure.subfigs for axes in part.axes]
    assert titles[:2] == ["near", "far"]
