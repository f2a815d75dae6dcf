import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, fcc111
from ase.calculators.emt import EMT
from ase.cluster import Icosahedron, Octahedron
from ase.constraints import FixAtoms
from ase.optimize import BFGS

from godelta.analysis.duplicates import distinct, equivalents, group

RNG = np.random.default_rng


def _labels(*structures, energies=None):
    return group(structures, np.zeros(len(structures)) if energies is None else np.array(energies)).tolist()


def _cluster(seed=0):
    """A structure without any symmetry."""
    atoms = Atoms("Ag6S3", RNG(seed).uniform(-3.5, 3.5, size=(9, 3)), cell=np.eye(3) * 20)
    atoms.center()
    return atoms


def _rotation(rng):
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    return q * np.sign(np.diag(r))


@pytest.mark.parametrize("seed", range(4))
def test_rotated_mirrored_permuted_shifted_and_noisy_copies_are_the_same(seed):
    rng, original = RNG(seed + 100), _cluster(seed)
    turned = original.copy()
    turned.positions = (turned.positions - 10.0) @ _rotation(rng) + rng.normal(size=3) + 10.0
    mirrored = original.copy()
    mirrored.positions[:, 0] *= -1
    permuted = turned[rng.permutation(len(turned))]
    noisy = permuted.copy()
    noisy.positions += rng.normal(scale=0.015, size=(9, 3))
    assert _labels(original, turned, mirrored, permuted, noisy) == [0] * 5


def test_different_structures_differ():
    others = [_cluster(seed) for seed in range(6)]
    assert _labels(*others) == list(range(6))
    moved = _cluster(0)
    moved.positions[4] += [0.5, 0.5, 0.0]
    assert _labels(_cluster(0), moved) == [0, 1]


def test_energies_tell_apart():
    one = _cluster()
    assert _labels(one, one, one, energies=[0.0, 0.03, 0.01]) == [0, 1, 0]


def test_homotops_and_isomers_are_different():
    ico = Icosahedron("Cu", 2)
    inside, outside, again = ico.copy(), ico.copy(), ico.copy()
    centre = int(np.linalg.norm(ico.positions - ico.positions.mean(axis=0), axis=1).argmin())
    inside.symbols[centre] = "Ag"
    shell = [i for i in range(13) if i != centre]
    outside.symbols[shell[0]] = "Ag"
    again.symbols[shell[7]] = "Ag"  # all sites of the shell are equivalent
    cubo = Octahedron("Cu", 3, cutoff=1)
    cubo.symbols[0] = "Ag"
    assert len(cubo) == 13
    assert _labels(inside, outside, again, cubo) == [0, 1, 1, 2]


def test_composition_counts():
    assert _labels(Atoms("Ag2", [[0, 0, 0], [0, 0, 2.5]]), Atoms("AgCu", [[0, 0, 0], [0, 0, 2.5]])) == [0, 1]


def _on_slab(site, offset=(0, 0), height=1.8):
    slab = fcc111("Ag", (4, 4, 3), vacuum=8.0)
    slab.set_constraint(FixAtoms(indices=list(range(len(slab)))))
    add_adsorbate(slab, "Cu", height, site, offset=offset)
    return slab


def test_sites_of_a_surface():
    fcc, hcp, bridge = _on_slab("fcc"), _on_slab("hcp"), _on_slab("bridge")
    elsewhere = _on_slab("fcc", offset=(3, 2))
    wrapped = _on_slab("fcc", offset=(3, 3))
    wrapped.positions[-1] += wrapped.cell[0] - 2 * wrapped.cell[1]
    assert _labels(fcc, hcp, elsewhere, bridge, wrapped) == [0, 1, 0, 2, 0]


def test_a_pair_on_a_surface_at_another_distance_or_angle():
    def pair(a, b):
        slab = _on_slab("fcc", offset=a)
        add_adsorbate(slab, "Cu", 1.8, "fcc", offset=b)
        return slab

    near, turned, far = pair((0, 0), (1, 0)), pair((1, 1), (1, 2)), pair((0, 0), (2, 0))
    assert _labels(near, turned, far) == [0, 0, 1]


def test_relaxations_of_one_basin_end_in_one_group():
    minimum = Icosahedron("Cu", 2)
    minimum.symbols[3] = "Ag"
    ends, energies = [], []
    for seed in range(5):
        atoms = minimum.copy()
        atoms.rattle(0.1, seed=seed)
        atoms.calc = EMT()
        BFGS(atoms, logfile=None).run(fmax=0.05, steps=200)
        ends.append(atoms)
        energies.append(atoms.get_potential_energy())
    assert _labels(*ends, energies=energies) == [0] * 5


@pytest.mark.parametrize("noise", [0.02, 0.05, 0.08, 0.2])
def test_no_pair_within_the_tolerance_is_missed(noise):
    from godelta.analysis.duplicates import _equivalent, _fingerprint

    rng = RNG(5)
    many = []
    for seed in range(4):
        for _ in range(8):
            atoms = _cluster(seed)[rng.permutation(9)]
            atoms.positions += rng.normal(scale=noise, size=(9, 3))
            many.append(atoms)
    prints = [_fingerprint(atoms) for atoms in many]
    firsts: list[int] = []
    for i, print_ in enumerate(prints):
        if not any(_equivalent(prints[j], print_, 0.15) for j in firsts):
            firsts.append(i)
    assert distinct(many, 99) == firsts
    labels = _labels(*many)
    assert [labels.index(label) for label in sorted(set(labels))] == firsts
    assert (len(firsts) > 4) == (noise > 0.02)


def test_nothing_and_fixed_atoms_only():
    assert group([], np.empty(0)).tolist() == []
    slab = fcc111("Ag", (2, 2, 2), vacuum=6.0)
    slab.set_constraint(FixAtoms(indices=list(range(8))))
    assert _labels(slab, slab.copy()) == [0, 0]


def test_distinct_compares_every_pair_and_stops_at_the_count():
    def dimer(length: float) -> Atoms:
        return Atoms("Ag2", [[0.0, 0, 0], [length, 0, 0]])

    chain = [dimer(2.0), dimer(2.1), dimer(2.2), dimer(2.32), Atoms("Au2", [[0.0, 0, 0], [2.0, 0, 0]])]
    assert distinct(chain, 9) == [0, 2, 4]
    assert distinct(chain, 2) == [0, 2]
    assert distinct(chain, 0) == []
    assert distinct(chain, 9, known=[dimer(2.1)]) == [3, 4]
    assert distinct(chain, 9, distance_tolerance=0.05) == [0, 1, 2, 3, 4]


def test_equivalents_are_all_known_ones_pair_by_pair():
    def dimer(distance):
        return Atoms("Ag2", [[5, 5, 5], [5 + distance, 5, 5]], cell=np.eye(3) * 15.0)

    known = [
        dimer(2.6),
        Atoms("Ag3", RNG(1).uniform(0, 9, (3, 3)), cell=np.eye(3) * 15.0),
        dimer(2.5),
        dimer(2.7),
    ]
    assert equivalents([dimer(2.5), dimer(2.6), dimer(3.0)], known) == [[0, 2], [0, 2, 3], []]
    assert equivalents([], known) == []
    assert equivalents([dimer(2.5)], []) == [[]]


def test_equivalents_agree_with_each_pair_by_itself():
    rng = RNG(5)
    base = [_cluster(seed) for seed in range(3)]
    shaken = [atoms.copy() for atoms in base for _ in range(6)]
    for atoms in shaken:
        atoms.positions += rng.normal(0, 0.06, atoms.positions.shape)
    pairwise = [
        [j for j, other in enumerate(base + shaken) if not distinct([atoms], 1, known=[other])]
        for atoms in shaken
    ]
    assert equivalents(shaken, base + shaken) == pairwise
    assert any(len(found) > 1 for found in pairwise)
