"""What `group` calls equivalent: beside another implementation, homometric pairs, symmetries of slabs."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc100, fcc111
from ase.constraints import FixAtoms
from pymatgen.analysis.molecule_matcher import GeneticOrderMatcher
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.io.ase import AseAtomsAdaptor
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from godelta.analysis.duplicates import distinct, group

TOLERANCE = 0.15


def _environments(atoms):
    """Each moving atom's distances to every class of atoms, sorted; and its class."""
    fixed = np.zeros(len(atoms), dtype=bool)
    for constraint in atoms.constraints:
        fixed[constraint.index] = True
    classes = np.where(fixed, -1, 1) * atoms.numbers
    distances = atoms.get_all_distances(mic=True)[~fixed]
    blocks = [np.sort(distances[:, classes == c], axis=1) for c in np.unique(classes)]
    return np.concatenate(blocks, axis=1), classes[~fixed]


def _same_lists(one, other):
    (a, own), (b, others) = _environments(one), _environments(other)
    worst = np.abs(a[:, None] - b[None]).max(axis=2)
    possible = (worst < TOLERANCE) & (own[:, None] == others[None])
    return bool((maximum_bipartite_matching(csr_array(possible)) >= 0).all())


def _by_lists(structures, energies, energy_tolerance=0.02):
    firsts, labels = [], []
    for i, atoms in enumerate(structures):
        for label, k in enumerate(firsts):
            if abs(energies[k] - energies[i]) < energy_tolerance and _same_lists(structures[k], atoms):
                labels.append(label)
                break
        else:
            labels.append(len(firsts))
            firsts.append(i)
    return labels


def _on_slab(slab, positions, symbols="S2Ag2"):
    fixed = len(slab)
    both = slab + Atoms(symbols, positions)
    both.set_constraint(FixAtoms(indices=range(fixed)))
    return both


def _random_clusters(rng, noise):
    kinds = [rng.uniform(-2.5, 2.5, (7, 3)) for _ in range(5)]
    for _ in range(40):
        axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        order = np.r_[rng.permutation(4), 4 + rng.permutation(3)]
        positions = (kinds[rng.integers(5)] @ axes)[order]
        yield Atoms("Ag4S3", positions + rng.normal(scale=noise, size=(7, 3)))


def _random_slabs(rng, noise):
    slab = fcc111("Ag", (3, 3, 2), vacuum=8.0)
    cell, top = slab.cell.array, slab.positions[:, 2].max()
    kinds = [rng.uniform(size=(4, 3)) for _ in range(5)]
    for _ in range(40):
        kind = kinds[rng.integers(5)]
        positions = kind @ np.diag([1, 1, 0]) @ cell + rng.integers(3, size=2) / 3 @ cell[:2]
        positions[:, 2] = top + 1 + 2 * kind[:, 2]
        yield _on_slab(slab, positions + rng.normal(scale=noise, size=(4, 3)))


@pytest.mark.parametrize("draw", [_random_clusters, _random_slabs])
@pytest.mark.parametrize("noise", [0.01, 0.03, 0.06, 0.1])
def test_labels_are_those_of_comparing_every_pair(draw, noise):
    rng = np.random.default_rng(int(1000 * noise))
    structures = list(draw(rng, noise))
    energies = rng.choice([0.0, 0.015, 0.03], size=len(structures))
    labels = group(structures, energies).tolist()
    assert labels == _by_lists(structures, energies)
    assert len(set(labels)) < len(structures) or noise > 0.05
    alike = _by_lists(structures, np.zeros(len(structures)))
    assert group(structures, np.zeros(len(structures))).tolist() == alike
    assert distinct(structures, 99) == [alike.index(label) for label in range(max(alike) + 1)]


HOMOMETRIC = [  # points of a cubic lattice: every point has a partner with the same list of distances
    (
        [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 0], [1, 2, 1]],
        [[0, 0, 0], [0, 0, 1], [1, 2, 0], [1, 2, 1], [2, 1, 0]],
    ),
    (
        [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1], [1, 0, 2], [1, 1, 2]],
        [[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 1], [1, 0, 2], [1, 1, 2]],
    ),
    (
        [[0, 0, 1], [0, 1, 0], [0, 1, 2], [0, 2, 0], [1, 1, 1], [2, 1, 2], [2, 2, 1]],
        [[0, 0, 2], [0, 1, 0], [0, 1, 2], [1, 0, 0], [1, 1, 1], [1, 2, 2], [2, 1, 0]],
    ),
]


@pytest.mark.parametrize("pair", HOMOMETRIC)
def test_homometric_structures_are_told_apart(pair):
    rng = np.random.default_rng(3)
    one, other = (Atoms(f"Ag{len(points)}", 2.7 * np.array(points)) for points in pair)
    assert _same_lists(one, other)
    turned = one.copy()
    turned.positions = one.positions @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turned = turned[rng.permutation(len(one))]
    turned.rattle(0.02, rng=rng)
    assert group([one, other, turned], np.zeros(3)).tolist() == [0, 1, 0]


def test_pairs_of_sites_that_only_together_differ():
    """Two adatoms on sites of one kind, at one distance: over a bridge and over a hollow."""
    slab = fcc100("Ag", (4, 4, 2), vacuum=8.0)
    step, height = slab.cell.array[0] / 4, slab.positions[:, 2].max() + 1.8
    across = slab.cell.array[1] / 4

    def pair(a, b):
        return _on_slab(slab, np.array([a, b]) + np.array([0, 0, height]), "Cu2")

    hollow = (step + across) / 2
    side, other_side, corner = (
        pair(hollow, hollow + step),
        pair(hollow, hollow + across),
        pair(hollow, hollow + step + across),
    )
    assert group([side, other_side, corner], np.zeros(3)).tolist() == [0, 0, 1]


def test_operations_of_a_slab_are_no_difference():
    slab = fcc111("Ag", (3, 3, 2), vacuum=8.0)
    rng = np.random.default_rng(8)
    cell, top = slab.cell.array, slab.positions[slab.positions[:, 2].argmax()]
    positions = top + rng.uniform([-2, -2, 1], [2, 2, 3], (4, 3))
    angle = 2 * np.pi / 3
    turn = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    images = [
        positions,
        (positions - top) @ turn + top,  # threefold axis through an atom of the top layer
        (positions - top) * [-1, 1, 1] + top,  # mirror plane
        positions + cell[0] / 3 - 2 * cell[1] / 3,
        positions[[1, 0, 3, 2]] - cell[1],
    ]
    sixfold = (positions - top) * [-1, -1, 1] + top  # of the top layer alone
    labels = group([_on_slab(slab, image) for image in [*images, sixfold]], np.zeros(6))
    assert labels.tolist() == [0, 0, 0, 0, 0, 1]


def test_pymatgen_agrees_about_clusters():
    structures = list(_random_clusters(np.random.default_rng(5), 0.01))[:12]
    labels = group(structures, np.zeros(12))
    adaptor = AseAtomsAdaptor()
    for i in range(12):
        matcher = GeneticOrderMatcher(adaptor.get_molecule(structures[i]), threshold=0.1)
        for j in range(i):
            mirrored = structures[j].copy()
            mirrored.positions *= -1
            found = [matcher.fit(adaptor.get_molecule(atoms)) for atoms in (structures[j], mirrored)]
            assert any(found) == (labels[i] == labels[j])


def test_pymatgen_agrees_about_slabs():
    structures = list(_random_slabs(np.random.default_rng(6), 0.01))[:16]
    labels = group(structures, np.zeros(16))
    assert 1 < len(set(labels.tolist())) < 16
    matcher = StructureMatcher(primitive_cell=False, scale=False, stol=0.05, attempt_supercell=False)
    for atoms in structures:
        atoms.pbc = True
    found = [AseAtomsAdaptor.get_structure(atoms) for atoms in structures]
    for i in range(16):
        for j in range(i):
            assert matcher.fit(found[i], found[j]) == (labels[i] == labels[j])


def test_highly_symmetric_structures_end_soon():
    ring = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = Atoms("Ag24", np.transpose([8 * np.cos(ring), 8 * np.sin(ring), 0 * ring]))
    rng = np.random.default_rng(2)
    copies = [circle[rng.permutation(24)] for _ in range(5)]
    for copy in copies:
        copy.rattle(0.02, rng=rng)
    assert group([circle, *copies], np.zeros(6)).tolist() == [0] * 6
