import itertools

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111

from godelta.systems.geometry import MinimumImage

CELLS = {
    "cubic": np.eye(3) * 5.0,
    "hexagonal": np.array([[5.0, 0, 0], [2.5, 4.330127, 0], [0, 0, 12.0]]),
    "very skewed": np.array([[5.0, 0, 0], [14.0, 4.0, 0], [-9.0, 7.0, 6.0]]),
}


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS.keys())
@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, True, False), (False,) * 3])
def test_vectors_are_the_shortest_of_all_images(cell, pbc):
    vectors = np.random.default_rng(0).normal(scale=6.0, size=(50, 3))
    ours = MinimumImage.of(cell, np.array(pbc)).vectors(vectors)
    ranges = [range(-n, n + 1) if flag else (0,) for flag, n in zip(pbc, (45, 12, 5), strict=True)]
    shifts = np.array(list(itertools.product(*ranges))) @ cell
    lengths = np.array([np.linalg.norm(v + shifts, axis=1).min() for v in vectors])
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), lengths, atol=1e-10)
    shift = (ours - vectors) @ np.linalg.inv(cell)
    np.testing.assert_allclose(shift, np.round(shift), atol=1e-8)


def test_a_vanishing_vector_of_a_direction_without_period_is_no_hindrance():
    image = MinimumImage.of(np.diag([4.0, 4.0, 0.0]), np.array([True, True, False]))
    np.testing.assert_allclose(image.vectors(np.array([3.0, 0.0, 9.0])), [-1.0, 0.0, 9.0])


def test_distances_on_a_slab_are_ases():
    slab = fcc111("Ag", (3, 3, 2), vacuum=6.0, orthogonal=False)
    slab += Atoms("S3", np.random.default_rng(1).uniform(0, 25, size=(3, 3)))
    ours = MinimumImage.of(slab.cell.array, slab.pbc).distances(slab.positions, slab.positions)
    np.testing.assert_allclose(ours, slab.get_all_distances(mic=True), atol=1e-10)


@pytest.mark.parametrize("pbc", [(False,) * 3, (True, True, False), (True,) * 3])
@pytest.mark.parametrize("skew", [0.0, 0.9])
def test_quick_distances_are_the_same(pbc, skew):
    rng = np.random.default_rng(0)
    cell = 5.0 * np.array([[1, 0, 0], [skew, 1, 0], [0.3 * skew, skew, 2]])
    a, b = rng.normal(size=(20, 3)) * 9, rng.normal(size=(30, 3)) * 9
    image = MinimumImage.of(cell, np.array(pbc))
    np.testing.assert_allclose(image.quick_distances(a, b), image.distances(a, b), atol=1e-9)
