"""The repulsion that failures teach: what causes them is found, and nothing else is touched."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms

from godelta.delta.displaced import moving_atoms
from godelta.delta.failures import HIGHEST, Failures, fit_repulsion
from godelta.delta.model import DeltaModel, Learnt, train
from godelta.delta.repulsion import HEIGHT, Repulsion, closest_contacts, wall
from godelta.delta.settings import DeltaSettings
from godelta.delta.soap import SOAP
from godelta.foundation.base import FoundationBatch

SPECIES = [16, 47]
SETTINGS = DeltaSettings(inducing_points=60)
LIMIT = 2.2  # Å: what is below it between two S fails


def sulfur_distance(atoms: Atoms) -> float:
    return float(closest_contacts(atoms, [16], None)[0, 0])


def compute(soap: SOAP, _ids, structures):
    return [soap.features(atoms) for atoms in structures]


@pytest.fixture
def world(cluster):
    """Good and failed clusters of a reference that fails for S-S distances below LIMIT."""
    structures = [cluster(seed) for seed in range(60)]
    good = [atoms for atoms in structures if sulfur_distance(atoms) >= LIMIT]
    failed = [atoms for atoms in structures if sulfur_distance(atoms) < LIMIT]
    assert len(good) > 15
    assert len(failed) > 5
    return good, failed


def names(structures, letter):
    return [f"{letter}{k:03d}" for k in range(len(structures))]


def fit(good, failed, *, correction=None, raised=None, settings=SETTINGS) -> Repulsion:
    failures = Failures(failed, names(failed, "f"), np.zeros(len(failed)) if raised is None else raised)

    def energies(structures):
        return np.array([correction.predict(atoms).energy for atoms in structures])

    learnt = energies if correction else None
    repulsion = fit_repulsion(settings, SPECIES, failures, good, names(good, "g"), learnt, compute)
    assert repulsion is not None
    return repulsion


@pytest.fixture
def both(cluster, world) -> Repulsion:
    """A repulsion with a wall and bumps: one of the failures has no contact closer than the good ones."""
    good, failed = world
    calm = next(atoms for atoms in good[10:] if not (contacts(atoms) < contacts(*good[:10])).any())
    repulsion = fit(good[:10], [*failed, calm])
    assert len(repulsion.reach)
    assert len(repulsion.heights)
    return repulsion


def contacts(*structures):
    return np.min([closest_contacts(atoms, SPECIES, None) for atoms in structures], axis=0)


def central_difference(function, atoms, h=1e-4):
    gradient = np.zeros((len(atoms), 3))
    for index in np.ndindex(gradient.shape):
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[index] += sign * h
            gradient[index] += sign * function(moved) / (2 * h)
    return gradient


def test_a_wall_is_learnt_where_the_cause_is(world, cluster):
    good, failed = world
    repulsion = fit(good, failed)
    assert (repulsion.pairs == 16).all()
    largest = max(sulfur_distance(atoms) for atoms in failed)
    assert largest < repulsion.reach.max() < largest + 0.3
    others = [cluster(seed) for seed in range(100, 160)]
    never_seen = [repulsion.evaluate(atoms)[0] for atoms in others if sulfur_distance(atoms) < LIMIT - 0.1]
    harmless = [repulsion.evaluate(atoms)[0] for atoms in others if sulfur_distance(atoms) > LIMIT + 0.3]
    assert min(never_seen) > 1.0
    assert np.median(harmless) < 0.1
    assert max(harmless) < 1.0


def test_good_structures_are_hardly_lifted_and_failed_ones_are_raised(both, world):
    good, failed = world
    assert max(both.evaluate(atoms)[0] for atoms in good[:10]) < 0.5
    assert np.median([both.evaluate(atoms)[0] for atoms in failed]) > 0.6 * HEIGHT


def test_a_failure_without_a_close_contact_gets_bumps_of_its_own(world):
    good, _ = world
    failed = next(atoms for atoms in good[10:] if not (contacts(atoms) < contacts(*good[:10])).any())
    repulsion = fit(good[:10], [failed])
    assert len(repulsion.reach) == 0
    assert repulsion.evaluate(failed)[0] > 0.4 * HEIGHT
    assert max(repulsion.evaluate(atoms)[0] for atoms in good[:10]) < 0.2


def test_the_blame_is_not_shared():
    """Whatever is short in all failures could be the cause; one cause is enough."""
    generator = np.random.default_rng(0)

    def trimer(sulfurs: float, silvers: float) -> Atoms:
        positions = [[0.0, 0, 0], [sulfurs, 0, 0], [0.0, 2.6, 0], [silvers, 2.6, 0]]
        atoms = Atoms("S2Ag2", positions, cell=[15.0] * 3)
        atoms.positions += generator.normal(scale=0.02, size=(4, 3))
        return atoms

    failed = [trimer(2.05, 2.5 + 0.08 * k) for k in range(5)]
    repulsion = fit([trimer(3.4, 3.1 + 0.05 * k) for k in range(5)], failed)
    assert np.unique(repulsion.pairs).tolist() == [16]
    assert min(repulsion.evaluate(atoms)[0] for atoms in failed) > 0.6 * HEIGHT
    assert repulsion.evaluate(trimer(3.4, 2.5))[0] < 0.1


def test_one_failure_is_a_place_and_no_class(world):
    good, failed = world
    repulsion = fit(good, failed[:1])
    assert len(repulsion.reach) == 0
    assert len(repulsion.heights)


def test_what_good_structures_share_is_not_repelled(world):
    good, _ = world
    twin = good[0].copy()  # failed for no reason that lies in the structure
    repulsion = fit(good, [twin])
    assert repulsion.evaluate(twin)[0] < 0.2 * HEIGHT


def test_everything_failed(world):
    _, failed = world
    repulsion = fit([], failed)
    assert min(repulsion.evaluate(atoms)[0] for atoms in failed) > 0.5 * HEIGHT


def test_no_failure_no_repulsion(world):
    good, _ = world
    assert (
        fit_repulsion(SETTINGS, SPECIES, Failures([], [], np.empty(0)), good, names(good, "g"), None, compute)
        is None
    )


def test_what_fails_again_is_raised_higher(world):
    good, failed = world
    heights = [
        fit(good, failed[:1], raised=np.array([raised])).evaluate(failed[0])[0] for raised in (0.0, 4.0, 1e3)
    ]
    assert heights[0] == pytest.approx(HEIGHT, rel=0.1)
    assert heights[1] == pytest.approx(HEIGHT + 4.0, rel=0.1)
    assert heights[2] == pytest.approx(HIGHEST, rel=0.1)


def test_what_the_correction_raises_already_is_not_counted_twice(world, toy_energy):
    good, failed = world
    zeros = np.zeros(len(good))
    correction = train(SETTINGS, SPECIES, good, zeros, [toy_energy(a) for a in good], names(good, "g"))
    learnt = correction.predict(failed[0]).energy
    assert learnt < -0.5
    repulsion = fit(good, failed[:1], correction=correction)
    assert repulsion.evaluate(failed[0])[0] == pytest.approx(HEIGHT - learnt, rel=0.1)


def test_forces_are_the_gradient(both, world):
    atoms = world[1][0].copy()
    energy, forces = both.evaluate(atoms)
    assert energy > 1.0
    expected = -central_difference(lambda moved: both.evaluate(moved)[0], atoms)
    np.testing.assert_allclose(forces, expected, atol=1e-5 * np.abs(expected).max())


def test_forces_of_a_slab_with_fixed_atoms(slab):
    slab.set_constraint(FixAtoms(indices=range(4)))
    slab.positions[9] = slab.positions[8] + [0.4, 0.5, 1.9]
    moving = moving_atoms(slab)
    repulsion = fit([], [slab])
    energy, forces = repulsion.evaluate(slab, moving)
    assert energy > 1.0
    assert not forces[:4].any()
    expected = -central_difference(lambda moved: repulsion.evaluate(moved, moving)[0], slab)
    np.testing.assert_allclose(forces[4:], expected[4:], atol=1e-5 * np.abs(expected).max())


def test_contacts_and_walls_see_periodic_images_but_not_the_fixed_part():
    atoms = Atoms("Ag2S", [[0.2, 0, 0], [9.0, 0, 0], [5.0, 0, 0]], cell=[10.0] * 3, pbc=True)
    assert closest_contacts(atoms, [16, 47], None)[1, 1] == pytest.approx(1.2)
    energy, forces = wall(atoms, 47, 47, 1.3)
    assert energy == pytest.approx(1.0)
    np.testing.assert_allclose(forces[:, 0], [20.0, -20.0, 0.0])
    moving = np.array([False, False, True])
    assert closest_contacts(atoms, [16, 47], moving)[1, 1] == np.inf
    assert wall(atoms, 47, 47, 1.3, moving)[0] == 0.0


def test_the_order_of_arrival_changes_nothing(world):
    good, failed = world
    first = fit(good[:12], failed)
    failures = Failures(failed[::-1], names(failed, "f")[::-1], np.zeros(len(failed)))
    second = fit_repulsion(
        SETTINGS, SPECIES, failures, good[:12][::-1], names(good[:12], "g")[::-1], None, compute
    )
    assert Learnt(None, first).to_bytes() == Learnt(None, second).to_bytes()


def test_storage_keeps_every_bit(both, world, toy_energy):
    good, failed = world
    zeros = np.zeros(len(good))
    correction = train(SETTINGS, SPECIES, good, zeros, [toy_energy(a) for a in good], names(good, "g"))
    for learnt in (Learnt(correction, both), Learnt(None, both), Learnt(correction), Learnt()):
        again = Learnt.from_bytes(learnt.to_bytes())
        assert again.to_bytes() == learnt.to_bytes()
        assert (again.correction is None, again.repulsion is None) == (
            learnt.correction is None,
            learnt.repulsion is None,
        )
    again = Learnt.from_bytes(Learnt(None, both).to_bytes())
    old, new = both.evaluate(failed[0]), again.repulsion.evaluate(failed[0])
    assert old[0] == new[0]
    np.testing.assert_array_equal(old[1], new[1])
    assert str(again.repulsion) == str(both)


class Nothing:
    """A foundation of zeros."""

    identity = None

    def evaluate(self, structures):
        return FoundationBatch(np.zeros(len(structures)), [np.zeros((len(a), 3)) for a in structures])


def test_the_potential_adds_it_up(both, world, toy_energy):
    good, failed = world
    zeros = np.zeros(len(good))
    correction = train(SETTINGS, SPECIES, good, zeros, [toy_energy(a) for a in good], names(good, "g"))
    atoms = failed[0]
    energy, forces = both.evaluate(atoms)
    alone = DeltaModel(Nothing(), None, both).evaluate([atoms], uncertainty=True)
    assert alone.energies[0] == energy
    assert np.isnan(alone.uncertainties[0])
    np.testing.assert_array_equal(alone.forces[0], forces)
    prediction = correction.predict(atoms, kappa=1.0)
    batch = DeltaModel(Nothing(), correction, both).evaluate([atoms], kappa=1.0)
    assert batch.energies[0] == pytest.approx(energy + prediction.energy, rel=1e-12)
    assert batch.uncertainties[0] == prediction.uncertainty
    np.testing.assert_allclose(batch.forces[0], forces + prediction.forces)
    without = DeltaModel(Nothing(), correction).evaluate([atoms])
    assert without.energies[0] == correction.predict(atoms).energy


def test_walls_of_stiffness_zero_do_nothing(both, world):
    flat = replace(both, stiffness=np.zeros_like(both.stiffness), heights=np.zeros_like(both.heights))
    energy, forces = flat.evaluate(world[1][0])
    assert energy == 0.0
    assert not forces.any()
