import numpy as np
import pytest

from godelta.systems.confinement import WALL_MARGIN, Confinement

SKEWED = Confinement(
    np.array([[6.0, 0, 0], [1.0, 5, 0], [0.5, 1, 7]]), np.array([1.0, 2, 3]), (True, False, True)
)
FLAT = Confinement(np.array([[6.0, 0, 0], [1.0, 5, 2]]), np.array([1.0, 2, 3]), (True, True))


@pytest.mark.parametrize("region", [SKEWED, FLAT], ids=["skewed", "flat"])
def test_samples_lie_inside_and_fill_the_region(region):
    points = region.sample(np.random.default_rng(0), 4000)
    assert region.contains(points).all()
    f = region.fractional(points)
    np.testing.assert_allclose(region.corner + f @ region.cell, points, atol=1e-10)
    np.testing.assert_allclose(f.mean(axis=0), 0.5, atol=0.02)
    np.testing.assert_allclose(f.var(axis=0), 1 / 12, atol=0.006)


def test_only_walls_keep_out():
    outside = SKEWED.corner + np.array([[0.5, 1.5, 0.5], [1.5, 0.5, 0.5], [0.5, 0.5, -0.1]]) @ SKEWED.cell
    np.testing.assert_array_equal(SKEWED.contains(outside), [True, False, False])


@pytest.mark.parametrize("region", [SKEWED, FLAT], ids=["skewed", "flat"])
def test_wall_forces_are_the_gradient(region):
    rng = np.random.default_rng(1)
    x = region.corner + rng.uniform(-0.3, 1.3, size=(12, len(region.cell))) @ region.cell
    energy, forces = region.wall_energy(x)
    assert energy > 0
    numeric = np.zeros_like(x)
    for i, k in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i, k] = 1e-5
        numeric[i, k] = -(region.wall_energy(x + step)[0] - region.wall_energy(x - step)[0]) / 2e-5
    np.testing.assert_allclose(forces, numeric, atol=1e-5)


def test_there_is_no_wall_well_inside():
    middle = SKEWED.corner + np.full((1, 3), 0.5) @ SKEWED.cell
    assert SKEWED.wall_energy(middle)[0] == 0.0
    assert WALL_MARGIN < 1.0
