import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from dscribe.descriptors import SOAP as DscribeSOAP  # noqa: N811

from godelta.delta.settings import SOAPSettings
from godelta.delta.soap import SOAP
from godelta.errors import InputError

PRESETS = ["paper", "accurate"]
SYSTEMS = ["cluster", "slab", "slab_3d", "skewed", "primitive", "wire"]


@pytest.fixture
def system(request, cluster, slab):
    rng = np.random.default_rng(1)
    if request.param == "cluster":
        return cluster(0, "Ag5S3")
    if request.param == "slab":
        return slab
    if request.param == "slab_3d":
        slab.pbc = True
        slab.positions += [-11.0, 40.0, 3.0]  # outside the cell
        return slab
    if request.param == "skewed":
        cell = [[3.0, 0.0, 0.0], [1.5, 3.2, 0.0], [0.7, -2.9, 4.0]]
        return Atoms("Ag2S", cell=cell, scaled_positions=rng.random((3, 3)), pbc=True)
    if request.param == "primitive":
        return bulk("Ag")
    wire = Atoms("Ag3S", cell=[0.0, 0.0, 4.5], pbc=(False, False, True))
    wire.positions = np.column_stack([rng.random((4, 2)) * 3.0, np.arange(4) * 1.1])
    return wire


def central_difference(function, atoms, atom, axis, h=1e-4):
    """Fourth-order central difference."""
    total = 0.0
    for step, weight in ((2, -1 / 12), (1, 2 / 3), (-1, -2 / 3), (-2, 1 / 12)):
        moved = atoms.copy()
        moved.positions[atom, axis] += step * h
        total += weight * function(moved)
    return total / h


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("system", SYSTEMS, indirect=True)
def test_features_equal_dscribe(system, preset):
    settings = SOAPSettings.preset(preset)
    weighting = {"function": "poly", "r0": settings.r_cut, "c": 1.0, "m": settings.weighting_power}
    theirs = DscribeSOAP(
        species=[16, 47],
        r_cut=settings.r_cut,
        n_max=settings.n_max,
        l_max=settings.l_max,
        sigma=settings.sigma,
        rbf="gto",
        periodic=bool(system.pbc.any()),
        weighting=weighting,
    )
    if system.cell.rank < 3 and system.pbc.any():
        system.cell = system.cell.complete() + np.diag([40.0, 40.0, 0.0])  # dscribe wants a full cell
    soap = SOAP(settings, [47, 16])
    expected = theirs.create(system)
    assert soap.n_features == expected.shape[1]
    np.testing.assert_allclose(soap.features(system), expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("system", SYSTEMS, indirect=True)
def test_gradient_equals_finite_differences(system, preset):
    soap = SOAP(SOAPSettings.preset(preset), [16, 47])
    features, context = soap.describe(system)
    G = np.random.default_rng(2).normal(size=features.shape)
    gradient = soap.vjp(context, G)
    scale = max(np.abs(gradient).max(), 1e-3 * np.abs(G * features).sum())
    for atom in range(min(3, len(system))):
        for axis in range(3):
            numeric = central_difference(lambda a: np.sum(G * soap.features(a)), system, atom, axis)
            assert abs(numeric - gradient[atom, axis]) < 1e-8 * scale


@pytest.mark.parametrize("power", [1.0, 2.0, 3.5])
def test_weighting_power(cluster, power):
    settings = SOAPSettings(r_cut=4.0, n_max=3, l_max=2, sigma=1.0, weighting_power=power)
    weighting = {"function": "poly", "r0": 4.0, "c": 1.0, "m": power}
    theirs = DscribeSOAP(species=[16, 47], r_cut=4.0, n_max=3, l_max=2, sigma=1.0, weighting=weighting)
    soap, atoms = SOAP(settings, [16, 47]), cluster(4)
    features, context = soap.describe(atoms)
    np.testing.assert_allclose(features, theirs.create(atoms), rtol=0, atol=1e-10 * features.max())
    gradient = soap.vjp(context, features)
    numeric = central_difference(lambda a: 0.5 * np.sum(soap.features(a) ** 2), atoms, 1, 2)
    assert numeric == pytest.approx(gradient[1, 2], rel=1e-7)


def test_features_are_continuous_at_the_cutoff():
    soap = SOAP(SOAPSettings(r_cut=5.0), [47])
    alone = soap.features(Atoms("Ag"))[0]
    for distance, most in ((4.999, 1e-9), (5.0, 0.0), (5.001, 0.0)):
        pair = Atoms("Ag2", positions=[[0, 0, 0], [distance, 0, 0]])
        assert np.abs(soap.features(pair)[0] - alone).max() <= most


def test_moving_atoms_have_the_full_gradient_and_others_none(slab):
    soap = SOAP(SOAPSettings(), [16, 47])
    features, context = soap.describe(slab)
    G = np.random.default_rng(5).normal(size=features.shape)
    moving = np.arange(len(slab)) >= 6
    full, part = soap.vjp(context, G), soap.vjp(context, G, moving)
    np.testing.assert_allclose(part[moving], full[moving], rtol=1e-12, atol=1e-9)
    assert not part[~moving].any()


def test_digest_tells_what_changes_features():
    one = SOAP(SOAPSettings(), [16, 47])
    assert one.digest == SOAP(SOAPSettings(), [47, 16]).digest
    assert one.digest != SOAP(SOAPSettings(r_cut=6.5), [16, 47]).digest
    assert one.digest != SOAP(SOAPSettings(), [16, 79]).digest


def test_unknown_species_are_named():
    with pytest.raises(InputError, match="contains Cu"):
        SOAP(SOAPSettings(), [16, 47]).features(Atoms("AgCu", positions=[[0, 0, 0], [2.5, 0, 0]]))


@pytest.mark.parametrize("cell", [None, [[3, 0, 0], [6, 0, 0], [0, 0, 5]]])
def test_periodic_directions_need_independent_cell_vectors(cell):
    with pytest.raises(InputError, match="missing or not independent"):
        SOAP(SOAPSettings(), [47]).features(Atoms("Ag", cell=cell, pbc=(True, True, False)))


def test_vectors_in_open_directions_do_not_matter(cluster, slab):
    soap = SOAP(SOAPSettings(), [16, 47])
    for atoms in (cluster(0), slab):
        other = atoms.copy()
        other.cell[2] = [0.0, 0.0, 0.0] if atoms is slab else [1.0, 2.0, 3.0]
        np.testing.assert_allclose(soap.features(other), soap.features(atoms), rtol=1e-12, atol=1e-12)


def test_no_species_is_refused():
    with pytest.raises(InputError, match="at least one species"):
        SOAP(SOAPSettings(), [])
