import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc100, fcc111

from godelta.systems.symmetry import PLANE_GROUPS, POINT_GROUPS, point_group, template_operations

# International Tables A, 2016, table 3.2.1.4 and chapter 3.2.
ORDERS = {
    "Cs": 2, "Ci": 2, "S4": 4, "C6": 6, "C3v": 6, "C4h": 8, "D3": 6, "D5h": 20, "D2d": 8, "D3d": 12,
    "T": 12, "Td": 24, "Th": 24, "O": 24, "Oh": 48, "I": 60, "Ih": 120,
}  # fmt: skip
HEXAGON = Atoms("C6", [[np.cos(t), np.sin(t), 0] for t in np.arange(6) * np.pi / 3])


def _slab(build, size=(3, 3, 2)):
    slab = build("Cu", size, vacuum=8.0)
    slab.pbc = (True, True, False)
    return slab


@pytest.mark.parametrize("name", list(POINT_GROUPS))
def test_point_groups_are_groups_of_isometries(name):
    rng = np.random.default_rng(0)
    axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    centre = np.array([1.0, 2.0, 3.0])
    group = point_group(name, axes, centre)
    every = np.arange(len(group))
    assert len(group) == ORDERS.get(name, len(group))
    np.testing.assert_allclose(group.rotations[0], np.eye(3), atol=1e-12)
    product = group.rotations @ group.rotations.transpose(0, 2, 1)
    np.testing.assert_allclose(product, [np.eye(3)] * len(group), atol=1e-12)
    np.testing.assert_array_equal(group.generated(every, 200), every)
    np.testing.assert_allclose(group.images(centre[None])[0], [centre] * len(group))
    distinct = np.unique(group.images(rng.normal(size=(1, 3)))[0].round(6), axis=0)
    assert len(distinct) == len(group)
    assert group.cyclic[:-1].sum(axis=1).max() <= 12
    assert (len(group) % group.cyclic.sum(axis=1) == 0).all()  # Lagrange


def test_the_symbols_mean_what_they_say():
    pymatgen = pytest.importorskip("pymatgen.symmetry.analyzer")
    from pymatgen.core import Molecule

    rng = np.random.default_rng(1)
    for name in POINT_GROUPS:
        group = point_group(name, np.eye(3), np.zeros(3))
        points = group.images(rng.uniform(1.0, 4.0, size=(3, 3)) * rng.choice([-1, 1], size=(3, 3)))
        species = np.repeat(["H", "He", "Li"], len(group))
        molecule = Molecule(species, points.reshape(-1, 3))
        # With its own tolerance it takes a symmetric top for a spherical one.
        found = pymatgen.PointGroupAnalyzer(molecule, tolerance=0.01, eigen_tolerance=1e-4)
        assert str(found.sch_symbol).lower() == name.lower()


@pytest.mark.parametrize("name", list(PLANE_GROUPS))
def test_plane_groups_keep_the_plane(name):
    group = point_group(name, np.eye(3), np.zeros(3), flat=True)
    np.testing.assert_allclose(group.rotations[:, 2], [[0, 0, 1]] * len(group), atol=1e-12)
    np.testing.assert_array_equal(group.generated(np.arange(len(group)), 200), np.arange(len(group)))


@pytest.mark.parametrize(("build", "order"), [(fcc111, 9 * 6), (fcc100, 9 * 8)])
def test_a_slab_leaves_its_wallpaper_group_and_its_translations(build, order):
    slab = _slab(build)
    group = template_operations(slab, np.zeros(len(slab), dtype=bool))
    assert len(group) == order
    images = group.images(slab.positions)
    np.testing.assert_allclose(images[..., 2], np.tile(slab.positions[:, 2:], (1, order)))
    for k in range(order):
        assert group.image.distances(images[:, k], slab.positions).min(axis=1).max() < 1e-6


def test_a_skewed_third_vector_changes_nothing():
    slab = _slab(fcc111)
    slab.cell[2] += [3.0, 1.0, 0.0]
    assert len(template_operations(slab, np.zeros(len(slab), dtype=bool))) == 54


def test_only_fixed_atoms_decide():
    slab = _slab(fcc100)
    fixed = slab.get_tags() == 2
    slab.positions[~fixed] += np.random.default_rng(0).uniform(-0.3, 0.3, size=((~fixed).sum(), 3))
    assert len(template_operations(slab, fixed)) == 72
    assert len(template_operations(slab, np.zeros(len(slab), dtype=bool))) == 1


def test_a_solid_has_its_space_group():
    assert len(template_operations(bulk("Cu", cubic=True), np.ones(4, dtype=bool))) == 192


def test_free_atoms_and_molecules_leave_nothing_to_obey():
    assert template_operations(Atoms(cell=np.eye(3) * 20), np.zeros(0, dtype=bool)) is None
    assert template_operations(HEXAGON, np.ones(6, dtype=bool)) is None


@pytest.mark.parametrize("old", [True, False])
def test_a_template_that_spglib_refuses_has_no_symmetry(old, monkeypatch):
    monkeypatch.setattr("spglib.error.OLD_ERROR_HANDLING", old)
    slab = _slab(fcc111)
    slab.positions[1] = slab.positions[0]
    assert template_operations(slab, np.zeros(len(slab), dtype=bool)) is None
