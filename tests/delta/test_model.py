import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms
from dscribe.descriptors import SOAP as DscribeSOAP  # noqa: N811

from godelta.delta import regression
from godelta.delta.model import Correction, DeltaModel, train
from godelta.delta.settings import DeltaSettings
from godelta.errors import GodeltaError
from godelta.foundation.base import FoundationBatch

SPECIES = [16, 47]
SATURATED = DeltaSettings(inducing_points=60)
WIDE = DeltaSettings(soap="paper")  # a shorter cutoff takes far atoms for free ones, which it has seen


class ExactGP:
    """Dense Gaussian process on dscribe's features: the same model, written from its definition."""

    def __init__(self, correction, structures, residuals):
        self.posterior, self.l = correction.posterior, correction.kernel.length_scale
        self.settings = correction.settings
        s = self.settings.soap
        weighting = {"function": "poly", "r0": s.r_cut, "c": 1.0, "m": s.weighting_power}
        self.soap = DscribeSOAP(s.r_cut, s.n_max, s.l_max, s.sigma, weighting=weighting, species=SPECIES)
        self.training = [self.describe(a) for a in structures]
        K = np.array([[self.kernel(a, b) for b in self.training] for a in self.training])
        n = np.array([len(a) for a in structures])
        self.inverse = np.linalg.inv(K + np.diag(self.posterior.noise * n))
        means = np.array([self.counts(a[1]) @ self.posterior.mean for a in self.training])
        self.alpha = self.inverse @ (residuals - means)

    def describe(self, atoms):
        return self.soap.create(atoms), atoms.numbers

    def counts(self, numbers):
        if self.settings.species_mean:
            return np.array([np.sum(numbers == z) for z in SPECIES])
        return np.array([len(numbers)])

    def kernel(self, a, b):
        distance = np.sum((a[0][:, None, :] - b[0][None, :, :]) ** 2, axis=-1)
        k = np.exp(-0.5 * distance / self.l**2)
        if self.settings.species_kernels:
            k = k * (a[1][:, None] == b[1][None, :])
        return k.sum() + self.posterior.mean_scale**2 * float(self.counts(a[1]) @ self.counts(b[1]))

    def predict(self, atoms):
        x = self.describe(atoms)
        k = np.array([self.kernel(x, a) for a in self.training])
        energy = self.counts(x[1]) @ self.posterior.mean + k @ self.alpha
        variance = self.kernel(x, x) - k @ self.inverse @ k
        if self.settings.hyperparameters != "fixed":  # what the kernel cannot express
            variance += self.posterior.noise * len(atoms)
        return energy, self.posterior.amplitude * np.sqrt(variance)


def data(cluster, toy_energy, n, start=0):
    structures = [cluster(k, "Ag4S3" if k % 3 else "Ag3S4") for k in range(start, start + n)]
    return structures, [toy_energy(a) for a in structures], [f"id-{k:03d}" for k in range(start, start + n)]


def fit(settings, structures, energies, ids, previous=None):
    return train(settings, SPECIES, structures, np.zeros(len(ids)), energies, ids, previous=previous)


def central_difference(function, atoms, h=1e-3):
    """Fourth-order central differences (n, 3)."""
    gradient = np.zeros((len(atoms), 3))
    for index in np.ndindex(gradient.shape):
        for step, weight in ((2, -1 / 12), (1, 2 / 3), (-1, -2 / 3), (-2, 1 / 12)):
            moved = atoms.copy()
            moved.positions[index] += step * h
            gradient[index] += weight * function(moved) / h
    return gradient


@pytest.mark.parametrize(
    "settings",
    [
        DeltaSettings(hyperparameters="fixed", noise=1e-3),
        DeltaSettings(preset="paper", noise=1e-3),
        DeltaSettings(),
        DeltaSettings(species_kernels=False),
    ],
    ids=["fixed", "paper", "fitted", "one_kernel"],
)
def test_it_equals_the_exact_gaussian_process(cluster, toy_energy, settings):
    structures, energies, ids = data(cluster, toy_energy, 9)
    correction = fit(settings, structures, energies, ids)
    exact = ExactGP(correction, structures, energies)
    kappa = 1.7
    for atoms in (cluster(50), cluster(51, "Ag2S2")):
        energy, sigma = exact.predict(atoms)
        plain = correction.predict(atoms)
        lower = correction.predict(atoms, kappa=kappa)
        assert plain.energy == pytest.approx(energy, abs=2e-6)
        assert lower.energy == pytest.approx(plain.energy, rel=1e-12)
        assert lower.uncertainty == pytest.approx(sigma, rel=1e-5)
        forces = -central_difference(lambda a: exact.predict(a)[0], atoms)
        np.testing.assert_allclose(plain.forces, forces, atol=1e-5)
    forces = -central_difference(lambda a: np.dot([1.0, -kappa], exact.predict(a)), atoms)
    np.testing.assert_allclose(lower.forces, forces, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [SATURATED, DeltaSettings(preset="paper", inducing_points=40), DeltaSettings(inducing_points=9)],
    ids=["sparse", "paper", "more_structures_than_points"],
)
def test_gradients_of_the_sparse_model(cluster, toy_energy, settings):
    structures, energies, ids = data(cluster, toy_energy, 20)
    correction = fit(settings, structures, energies, ids)
    assert correction.kernel.size < correction.training.environments
    atoms = cluster(77)

    def lower_bound(moved, kappa):
        p = correction.predict(moved, uncertainty=True)
        return p.energy - kappa * p.uncertainty

    for kappa in (0.0, 2.0):
        forces = correction.predict(atoms, kappa=kappa).forces
        numeric = -central_difference(lambda a, k=kappa: lower_bound(a, k), atoms, h=2e-3)
        np.testing.assert_allclose(forces, numeric, atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 25, 100])
@pytest.mark.parametrize("settings", [WIDE, SATURATED], ids=["complete", "sparse"])
@pytest.mark.parametrize("spread", [0.0, 0.01])
def test_uncertainty_far_from_the_data_stays(cluster, n, settings, spread):
    structures = [cluster(k, "Ag8S4", 2.0) for k in range(n)]
    energies = -3.0 + spread * np.random.default_rng(0).normal(size=n)
    correction = fit(settings, structures, energies, [f"{k:02d}" for k in range(n)])

    def sigma(atoms):
        return correction.predict(atoms, uncertainty=True).uncertainty

    near = sigma(structures[0])
    for stretch in (0.75, 2.5):  # crowded, and nearly free atoms
        far = cluster(99, "Ag8S4", 2.0)
        far.positions = (far.positions - 7.5) * stretch
        assert sigma(far) > 0.1
        if correction.kernel.size == correction.training.environments:  # too few points know nothing well
            assert sigma(far) > 3.0 * near
    assert sigma(cluster(99, "Ag4S8", 2.0)) > 0.5  # a composition never seen


def test_derivatives_of_few_evaluations_do_not_argue_the_amplitude_up(cluster, toy_energy, monkeypatch):
    structures, energies, ids = data(cluster, toy_energy, 4)
    steep = [20.0 * e for e in energies]
    forces = [-20.0 * central_difference(toy_energy, a) for a in structures]
    zero = np.zeros(len(structures))

    def amplitude():
        correction = train(DeltaSettings(), SPECIES, structures, zero, steep, ids, residual_forces=forces)
        return correction.posterior.amplitude

    held = amplitude()
    monkeypatch.setattr(regression, "PRIOR_DERIVATIVES", 0.0)
    assert amplitude() > 1.5 * held
    assert held >= regression.AMPLITUDE_FLOOR


def test_the_order_of_the_data_does_not_matter(cluster, toy_energy):
    structures, energies, ids = data(cluster, toy_energy, 8)
    order = [5, 2, 7, 0, 1, 6, 4, 3]
    first = fit(DeltaSettings(), structures, energies, ids)
    second = fit(
        DeltaSettings(), [structures[k] for k in order], [energies[k] for k in order], [ids[k] for k in order]
    )
    assert first.to_bytes() == second.to_bytes()


def test_bytes_round_trip(cluster, toy_energy):
    structures, energies, ids = data(cluster, toy_energy, 6)
    correction = fit(DeltaSettings(preset="paper"), structures, energies, ids)
    again = Correction.from_bytes(correction.to_bytes())
    assert again.settings == correction.settings
    assert again.metrics == correction.metrics
    assert again.hyperparameters == correction.hyperparameters
    assert again.to_bytes() == correction.to_bytes()
    first, second = (c.predict(cluster(40), kappa=1.0) for c in (correction, again))
    assert (first.energy, first.uncertainty) == (second.energy, second.uncertainty)
    np.testing.assert_array_equal(first.forces, second.forces)


def test_bytes_of_a_newer_version_are_refused(cluster, monkeypatch):
    correction = fit(DeltaSettings(), [cluster(0)], [1.0], ["a"])
    monkeypatch.setattr("godelta.delta.storage.SCHEMA_VERSION", 2)
    blob = correction.to_bytes()
    monkeypatch.undo()
    with pytest.raises(GodeltaError, match="schema version 2"):
        Correction.from_bytes(blob)


def test_a_refit_from_cached_rows_equals_a_full_one(cluster, toy_energy):
    structures, energies, ids = data(cluster, toy_energy, 16)
    previous = fit(SATURATED, structures[:15], energies[:15], ids[:15])
    reloaded = Correction.from_bytes(previous.to_bytes())
    first = fit(SATURATED, structures, energies, ids, previous=previous)
    second = fit(SATURATED, structures, energies, ids, reloaded)
    assert first.kernel is previous.kernel
    assert first.to_bytes() == second.to_bytes()
    # The truth: the same inducing points and length scale, every row anew.
    emptied = Correction(
        **{**vars_of(previous), "training": previous.training, "rows": previous.rows * np.nan}
    )
    fresh = fit(SATURATED, structures, energies, ids, with_no_ids(emptied))
    np.testing.assert_array_equal(np.isfinite(fresh.rows), True)
    for atoms in (cluster(60), cluster(61)):
        a, b = first.predict(atoms, kappa=1.0), fresh.predict(atoms, kappa=1.0)
        assert a.energy == pytest.approx(b.energy, abs=1e-9)
        assert a.uncertainty == pytest.approx(b.uncertainty, abs=1e-9)
        np.testing.assert_allclose(a.forces, b.forces, atol=1e-8)
    assert first.predict(structures[15]).energy == pytest.approx(energies[15], abs=0.2)


def vars_of(correction):
    return {name: getattr(correction, name) for name in correction.__dataclass_fields__}


def with_no_ids(correction):
    """The same model that remembers no structure, so that all rows are computed again."""
    training = correction.training
    forgotten = type(training)(
        (), training.counts[:0], training.reference_energies[:0], training.foundation_energies[:0]
    )
    return Correction(**{**vars_of(correction), "training": forgotten})


def test_inducing_points_are_chosen_again_when_needed(cluster, toy_energy):
    structures, energies, ids = data(cluster, toy_energy, 20)
    small = fit(SATURATED, structures[:4], energies[:4], ids[:4])
    assert small.kernel.size == 28  # every atom
    grown = fit(SATURATED, structures[:10], energies[:10], ids[:10], small)
    assert grown.kernel.size == 60
    kept = fit(SATURATED, structures[:19], energies[:19], ids[:19], grown)
    assert kept.kernel is grown.kernel
    doubled = fit(SATURATED, structures, energies, ids, kept)
    assert doubled.kernel is not kept.kernel
    assert doubled.selected_environments == 140
    other = fit(DeltaSettings(inducing_points=59), structures, energies, ids, kept)
    assert other.kernel.size == 59
    without_first = fit(SATURATED, structures[1:19], energies[1:19], ids[1:19], kept)
    assert without_first.kernel is not kept.kernel


def test_metrics_are_plain_numbers(cluster, toy_energy):
    structures, energies, ids = data(cluster, toy_energy, 12)
    correction = fit(DeltaSettings(), structures, energies, ids)
    assert correction.metrics["n_structures"] == 12
    for value in {**correction.metrics, **correction.hyperparameters}.values():
        assert type(value) in (float, int)
    assert fit(DeltaSettings(), structures[:1], energies[:1], ids[:1]).metrics["loo_rmse_ev"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": []}, "no evaluated structure"),
        ({"ids": ["a", "a"]}, "given twice"),
        ({"ids": ["a"]}, "differ in number"),
        ({"reference_energies": [0.0, np.nan]}, "evaluation b"),
    ],
)
def test_bad_data_are_refused(cluster, change, message):
    arguments = {
        "structures": [cluster(0), cluster(1)],
        "foundation_energies": [0.0, 0.0],
        "reference_energies": [0.0, 1.0],
        "ids": ["a", "b"],
    }
    with pytest.raises(GodeltaError, match=message):
        train(DeltaSettings(), SPECIES, **{**arguments, **change})


class Springs:
    """A foundation that pulls atoms to the origin."""

    identity = None

    def evaluate(self, structures):
        energies = np.array([0.05 * np.sum(a.positions**2) for a in structures])
        return FoundationBatch(energies, [-0.1 * a.positions for a in structures])


def test_the_potential_adds_the_correction(cluster, toy_energy):
    structures, energies, ids = data(cluster, toy_energy, 5)
    foundation = Springs()
    base = foundation.evaluate(structures)
    correction = train(DeltaSettings(), SPECIES, structures, base.energies, base.energies + energies, ids)
    model = DeltaModel(foundation, correction)
    probes = [cluster(70), cluster(71, "Ag2S2")]
    for kappa in (0.0, 1.3):
        batch = model.evaluate(probes, kappa=kappa, uncertainty=True)
        for k, atoms in enumerate(probes):
            delta = correction.predict(atoms, kappa=kappa, uncertainty=True)
            alone = foundation.evaluate([atoms])
            assert batch.energies[k] == alone.energies[0] + delta.energy
            assert batch.foundation_energies[k] == alone.energies[0]
            assert batch.uncertainties[k] == delta.uncertainty > 0
            np.testing.assert_array_equal(batch.forces[k], alone.forces[0] + delta.forces)
    assert np.isnan(model.evaluate(probes).uncertainties).all()


def test_without_a_correction_the_foundation_is_left(cluster):
    batch = DeltaModel(Springs()).evaluate([cluster(0), cluster(1)], kappa=1.0, uncertainty=True)
    alone = Springs().evaluate([cluster(0), cluster(1)])
    np.testing.assert_array_equal(batch.energies, alone.energies)
    np.testing.assert_array_equal(batch.foundation_energies, alone.energies)
    np.testing.assert_array_equal(batch.forces[1], alone.forces[1])
    assert np.isnan(batch.uncertainties).all()
    empty = DeltaModel(Springs()).evaluate([])
    assert len(empty.energies) == len(empty.forces) == 0


def test_fixed_atoms_get_no_correction(cluster, toy_energy):
    structures, energies, ids = data(cluster, toy_energy, 5)
    model = DeltaModel(Springs(), fit(DeltaSettings(), structures, energies, ids))
    atoms: Atoms = cluster(80)
    free = model.evaluate([atoms], kappa=1.0)
    atoms.set_constraint(FixAtoms(indices=[0, 3]))
    held = model.evaluate([atoms], kappa=1.0)
    moving = np.array([1, 2, 4, 5, 6])
    np.testing.assert_allclose(held.forces[0][moving], free.forces[0][moving], atol=1e-12)
    np.testing.assert_array_equal(held.forces[0][[0, 3]], -0.1 * atoms.positions[[0, 3]])
