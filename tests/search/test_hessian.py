import numpy as np
from ase import Atoms

from godelta.search.hessian import BASE, SPRING, model_hessian
from godelta.systems.geometry import MinimumImage, radii_of


def test_it_is_the_second_derivative_of_springs_at_rest(surface):
    """Springs at their natural length have exactly this Hessian."""
    problem = surface("AgO2")
    rng = np.random.default_rng(0)
    atoms = problem.structure(problem.confinement.sample(rng, 3))
    image = MinimumImage.of(atoms.cell.array, atoms.pbc)
    radii = radii_of(atoms.numbers)
    rest = image.distances(atoms.positions, atoms.positions)
    k = SPRING * np.exp(-4.0 * (rest / (radii[:, None] + radii) - 1.0))

    def energy(x):
        d = image.distances(x, x)
        return 0.25 * (k * (d - rest) ** 2).sum()

    moving = np.flatnonzero(problem.moving)
    ours = model_hessian(atoms, problem.moving, image)
    assert ours.shape == (3 * len(moving),) * 2
    np.testing.assert_allclose(ours, ours.T, atol=1e-12)
    v = rng.normal(size=(len(moving), 3))
    h = 1e-4
    x = atoms.positions.copy()
    x[moving] += h * v
    up = energy(x)
    x[moving] -= 2 * h * v
    curvature = (up + energy(x)) / h**2
    quadratic = v.ravel() @ (ours - BASE * np.eye(len(ours))) @ v.ravel()
    np.testing.assert_allclose(quadratic, curvature, rtol=1e-4)


def test_it_is_positive_even_for_atoms_on_top_of_each_other():
    atoms = Atoms("Ag2", np.zeros((2, 3)), cell=np.eye(3) * 20)
    hessian = model_hessian(atoms, np.ones(2, dtype=bool), MinimumImage.of(atoms.cell.array, atoms.pbc))
    assert np.linalg.eigvalsh(hessian).min() >= BASE - 1e-9
