"""The Δ-model on features, without a foundation: exact Gaussian processes, and derivatives in float64."""

from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
from embedding_toy import (
    SPECIES,
    Features,
    embedding,
    fit,
    fit_forces,
    latent,
    predict,
    true_forces,
    truth,
)
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel

from godelta.delta.embedding import train_embedding
from godelta.delta.embedding_head import batched, on_cpu
from godelta.delta.explain import atomic_corrections, environments_of, influences
from godelta.delta.gradients import directions_of
from godelta.delta.model import Learnt
from godelta.errors import GodeltaError, InputError

ALL = [
    {"aggregation": "global"},
    {"aggregation": "global", "pooling": "sum"},
    {"aggregation": "species"},
    {"aggregation": "species", "pooling": "sum"},
    {"aggregation": "atomic"},
    {"aggregation": "atomic", "species_kernels": False, "species_mean": False},
]
NAMES = ["-".join(str(value) for value in one.values()) for one in ALL]


@pytest.fixture(autouse=True)
def _torch(require):
    require("chgnet")  # it brings PyTorch


class Structures(Kernel):
    """The prior covariance of energies between structures, by its definition; X are indices into a list."""

    def __init__(self, structures, correction):
        self.structures, self.correction = structures, correction

    def covariance(self, a, b):
        settings, posterior = self.correction.settings, self.correction.posterior
        length = self.correction.kernel.length_scale
        (fa, fb) = (Features().features([one])[0] for one in (a, b))
        if settings.aggregation == "atomic":
            k = np.exp(-0.5 * np.sum((fa[:, None] - fb[None]) ** 2, axis=-1) / length**2)
            if settings.species_kernels:
                k *= a.numbers[:, None] == b.numbers[None, :]
            total = k.sum()
        else:
            difference = (self.vector(a, fa) - self.vector(b, fb)) / self.correction.feature_scale
            total = np.exp(-0.5 * difference @ difference / length**2) * len(a) * len(b)
            total /= self.correction.size_scale**2
        return posterior.amplitude**2 * (
            total + posterior.mean_scale**2 * counts(a, settings) @ counts(b, settings)
        )

    def vector(self, atoms, features):
        settings = self.correction.settings
        reduce = np.mean if settings.pooling == "mean" else np.sum
        if settings.aggregation == "global":
            return reduce(features, axis=0)
        return np.concatenate([reduce(features[atoms.numbers == z], axis=0) for z in SPECIES])

    def __call__(self, X, Y=None, eval_gradient=False):
        Y = X if Y is None else Y
        at = self.structures
        return np.array([[self.covariance(at[int(i)], at[int(j)]) for j in Y[:, 0]] for i in X[:, 0]])

    def diag(self, X):
        return np.array([self.covariance(self.structures[int(i)], self.structures[int(i)]) for i in X[:, 0]])

    def is_stationary(self):
        return False


def counts(atoms, settings):
    if settings.species_mean:
        return np.array([np.sum(atoms.numbers == z) for z in SPECIES], dtype=float)
    return np.array([float(len(atoms))])


@pytest.mark.parametrize("changes", ALL, ids=NAMES)
@pytest.mark.parametrize("hyperparameters", ["marginal_likelihood", "fixed"])
def test_it_is_an_exact_gaussian_process(data, changes, hyperparameters):
    settings = embedding(hyperparameters=hyperparameters, noise=1e-3, **changes)
    structures, energies, ids = data(12)
    probes = data(4, start=50)[0]
    correction = fit(settings, structures, energies, ids)
    posterior = correction.posterior
    mean = np.array([counts(a, settings) @ posterior.mean for a in structures + probes])
    exact = GaussianProcessRegressor(
        Structures(structures + probes, correction),
        alpha=posterior.amplitude**2 * posterior.noise * np.array([len(a) for a in structures]),
        optimizer=None,
    ).fit(np.arange(12.0)[:, None], energies - mean[:12])
    expected, deviations = exact.predict(np.arange(12.0, 16.0)[:, None], return_std=True)
    predicted, sigma = predict(correction, probes)
    # The jitter of 1e-8 in K_MM is all that differs.
    np.testing.assert_allclose(predicted, expected + mean[12:], atol=2e-5)
    beyond = posterior.amplitude**2 * posterior.discrepancy * np.array([len(a) for a in probes])
    np.testing.assert_allclose(sigma, np.sqrt(deviations**2 + beyond), rtol=1e-4)


@pytest.mark.parametrize("changes", ALL, ids=NAMES)
@pytest.mark.parametrize("kappa", [0.0, 1.7])
def test_derivatives_by_the_features_are_exact(data, changes, kappa):
    """Against central differences, of the fourth order."""
    structures, energies, ids = data(10)
    correction = fit(embedding(**changes), structures, energies, ids)
    probe, step = latent(data(3, start=70)[0]), 1e-3
    gradient = correction.head([], kappa=kappa)(probe).gradient.numpy()
    rng = np.random.default_rng(0)
    for _ in range(10):
        direction = rng.normal(size=probe.features.shape)
        slope = 0.0
        for factor, weight in ((-2, 1 / 12), (-1, -2 / 3), (1, 2 / 3), (2, -1 / 12)):
            moved = replace(probe, features=probe.features + factor * step * direction)
            slope += weight / step * correction.head([], kappa=kappa)(moved).energies.sum()
        assert np.sum(gradient * direction) == pytest.approx(slope, rel=1e-6, abs=1e-8)
    assert np.abs(gradient).max() > 1e-3


@pytest.mark.parametrize("changes", ALL, ids=NAMES)
@pytest.mark.parametrize("kappa", [0.0, 1.7])
def test_compiled_loops_are_the_products_that_a_gpu_is_given(data, changes, kappa):
    structures, energies, ids = data(10)
    correction = fit(embedding(**changes), structures, energies, ids)
    shown = latent(data(4, start=30, formulas=("Ag4S3", "Ag", "S2", "Ag3"))[0])
    loops = on_cpu(correction, shown, kappa, uncertainty=False)
    products = batched(correction, shown, kappa, uncertainty=False)
    assert (loops[1] is None) == (products[1] is None) == (kappa == 0)
    for one, other in zip(loops, products, strict=True):
        if one is not None:
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("changes", ALL, ids=NAMES)
def test_a_batch_is_its_structures_one_by_one(data, changes):
    structures, energies, ids = data(8)
    correction = fit(embedding(**changes), structures, energies, ids)
    probes = data(4, start=30, formulas=("Ag4S3", "Ag", "S2", "Ag3"))[0]
    together = predict(correction, probes)
    alone = [predict(correction, [one]) for one in probes]
    np.testing.assert_allclose(together[0], [energy[0] for energy, _ in alone], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(together[1], [sigma[0] for _, sigma in alone], rtol=1e-9)
    assert (together[1] > 0).all()


@pytest.mark.parametrize("changes", ALL, ids=NAMES)
def test_more_structures_than_inducing_points(data, changes):
    structures, energies, ids = data(40)
    correction = fit(embedding(inducing_points=12, **changes), structures, energies, ids)
    assert correction.kernel.size <= 13
    predicted, _ = predict(correction, structures)
    assert np.sqrt(np.mean((predicted - energies) ** 2)) < np.std(energies)


@pytest.mark.parametrize("changes", ALL[:5], ids=NAMES[:5])
def test_a_constant_per_atom_of_a_species_shifts_another_stoichiometry_by_exactly_that(data, changes):
    structures, energies, ids = data(15)
    probes = data(3, start=80, formulas=("Ag6S2", "Ag1S5"))[0]
    shift = np.array([3.0, -1.2])
    before = predict(fit(embedding(**changes), structures, energies, ids), probes)
    moved = energies + np.array([counts(a, embedding()) for a in structures]) @ shift
    after = predict(fit(embedding(**changes), structures, moved, ids), probes)
    expected = [counts(a, embedding()) @ shift for a in probes]
    np.testing.assert_allclose(after[0] - before[0], expected, atol=1e-6)
    np.testing.assert_allclose(after[1], before[1], rtol=1e-6)


@pytest.mark.parametrize("changes", ALL, ids=NAMES)
def test_bytes_round_trip(data, changes):
    structures, energies, ids = data(6)
    correction = fit(embedding(**changes), structures, energies, ids)
    again = Learnt.from_bytes(Learnt(correction).to_bytes()).correction
    assert again.to_bytes() == correction.to_bytes()
    assert (again.metrics, again.hyperparameters) == (correction.metrics, correction.hyperparameters)
    for first, second in zip(predict(correction, structures), predict(again, structures), strict=True):
        np.testing.assert_array_equal(first, second)


def test_bytes_of_a_newer_version_are_refused(data, monkeypatch):
    correction = fit(embedding(), *data(3))
    Learnt(correction).to_bytes()  # what reads is imported, and knows the version of today
    monkeypatch.setattr("godelta.delta.embedding_storage.SCHEMA_VERSION", 3)
    blob = Learnt(correction).to_bytes()
    monkeypatch.undo()
    with pytest.raises(GodeltaError, match="schema version 3, this godelta reads 2"):
        Learnt.from_bytes(blob)


def test_the_order_of_the_data_does_not_matter(data):
    structures, energies, ids = data(9)
    order = np.random.default_rng(1).permutation(9)
    first = fit(embedding(), structures, energies, ids)
    shuffled = [structures[k] for k in order], energies[order], [ids[k] for k in order]
    assert fit(embedding(), *shuffled).to_bytes() == first.to_bytes()


@pytest.mark.parametrize("aggregation", ["global", "atomic"])
def test_forces_are_learnt_along_directions(cluster, aggregation):
    structures, probes = [cluster(k) for k in range(6)], [cluster(k) for k in range(100, 130)]
    target = np.array([truth(a) for a in probes])

    def error(**changes):
        correction = fit_forces(structures, aggregation=aggregation, **changes)
        assert len(correction.training.ids) == 6 * (1 + min(changes["force_directions"], 21))
        assert correction.metrics["n_structures"] == 6
        return np.sqrt(np.mean((predict(correction, probes)[0] - target) ** 2))

    energies, copies = (error(force_directions=k, forces_as="copies") for k in (0, 1))
    assert copies < energies
    if aggregation == "atomic":
        assert error(force_directions=100, forces_as="gradients") < 0.9 * copies


def test_rows_of_derivatives_are_differences_of_rows(cluster):
    """Of the kernel with the inducing points, along each direction that was learnt."""
    structures = [cluster(k) for k in range(3)]
    correction = fit_forces(
        structures, aggregation="atomic", forces_as="gradients", force_directions=4, inducing_points=12
    )
    training, data = correction.training, {}
    for k, atoms in enumerate(structures):
        name = f"{k:03d}"
        for u in directions_of(atoms, name, true_forces(atoms), None, 4):
            moved = []
            for sign in (1, -1):
                copy = atoms.copy()
                copy.positions += sign * 1e-4 * u
                moved.append(correction.row(environments_of(correction, Features(), copy)))
            data[f"{name}~{sha256(u.tobytes()).hexdigest()[:16]}"] = (moved[0] - moved[1]) / 2e-4
    slopes = np.flatnonzero(~training.counts.any(axis=1))
    assert len(slopes) == len(data) == 12
    for k in slopes:
        row = data[training.ids[k]]
        np.testing.assert_allclose(correction.rows[k], row, atol=2e-3 * np.abs(row).max())


def test_a_continued_fit_describes_only_new_structures(cluster):
    """Derivatives of the others are kept, too."""
    seen = []

    class Counted(Features):
        def features(self, structures):
            seen.extend(structures)
            return super().features(structures)

    changes = {
        "aggregation": "atomic",
        "forces_as": "gradients",
        "force_directions": 3,
        "inducing_points": 20,
    }
    structures = [cluster(k) for k in range(7)]
    previous = fit_forces(structures[:6], **changes)
    continued = fit_forces(structures, previous=previous, foundation=Counted(), **changes)
    assert len(seen) == 1 + 2 * 3
    assert continued.kernel is previous.kernel
    kept = [name in previous.training.ids for name in continued.training.ids]
    np.testing.assert_array_equal(continued.rows[kept], previous.rows)


def test_a_wild_residual_does_not_wreck_the_amplitude(data):
    structures, energies, ids = data(12)
    clean = fit(embedding(), structures, energies, ids)
    energies[0] += 50.0
    spoilt = fit(embedding(), structures, energies, ids)
    assert spoilt.posterior.amplitude == pytest.approx(clean.posterior.amplitude, rel=0.2)
    assert spoilt.metrics["n_inside_window"] == 11
    change = predict(spoilt, structures[1:])[0] - predict(clean, structures[1:])[0]
    assert np.abs(change).max() < 2.0


def test_what_cannot_be_used_is_refused(data, cluster):
    structures, energies, ids = data(3)
    with pytest.raises(InputError, match="covers S, Ag, but the structure contains Au"):
        fit(embedding(), [*structures[:2], cluster(0, "Ag3Au")], energies, ids)
    correction = fit(embedding(), structures, energies, ids)
    with pytest.raises(InputError, match="contains Cu"):
        correction.head([cluster(0, "Ag3Cu")])
    features = Features().features(structures)
    features[1][2, 0] = np.nan
    with pytest.raises(GodeltaError, match="evaluation id-001"):
        train_embedding(
            embedding(), SPECIES, structures, np.zeros(3), energies, ids, foundation=Features(),
            embed=lambda _ids, _structures: features,
        )  # fmt: skip
    with pytest.raises(GodeltaError, match="no evaluated structure"):
        fit(embedding(), [], np.empty(0), [])


def test_a_species_that_no_evaluation_holds_is_uncertain(data, cluster):
    structures, energies, ids = data(8)
    for changes in ALL[:5]:
        correction = fit(embedding(**changes), structures, energies, ids, species=(16, 47, 79))
        known, new = predict(correction, [cluster(40, "Ag3S2"), cluster(40, "Ag2AuS2")])[1]
        assert new > known


@pytest.mark.parametrize("changes", ALL, ids=NAMES)
def test_energies_of_atoms_add_up_where_atoms_are_compared(data, changes):
    structures, energies, ids = data(10)
    correction = fit(embedding(**changes), structures, energies, ids)
    for atoms in data(3, start=40, formulas=("Ag4S3", "Ag", "S5"))[0]:
        parts = atomic_corrections(correction, environments_of(correction, Features(), atoms))
        if changes["aggregation"] != "atomic":
            assert parts is None
            continue
        assert parts.shape == (len(atoms),)
        assert parts.sum() == pytest.approx(predict(correction, [atoms])[0][0], abs=1e-9)


@pytest.mark.parametrize("changes", ALL, ids=NAMES)
def test_an_influence_is_what_the_process_without_the_evaluation_predicts(data, changes):
    """Against scikit-learn's exact process, with the hyper-parameters and the mean kept."""
    structures, energies, ids = data(9)
    atoms = data(1, start=60)[0][0]
    correction = fit(embedding(noise=1e-3, hyperparameters="fixed", **changes), structures, energies, ids)
    settings, posterior = correction.settings, correction.posterior
    mean = np.array([counts(a, settings) @ posterior.mean for a in structures])

    def predicted(kept):
        noise = posterior.amplitude**2 * posterior.noise * np.array([len(structures[k]) for k in kept])
        process = GaussianProcessRegressor(
            Structures([*structures, atoms], correction), alpha=noise, optimizer=None
        ).fit(np.array(kept, dtype=float)[:, None], (energies - mean)[kept])
        return float(process.predict([[9.0]])[0])

    found = influences(correction, environments_of(correction, Features(), atoms))
    assert sorted(one.structure_id for one in found) == ids
    for one in found[:3]:
        without = [k for k in range(9) if ids[k] != one.structure_id]
        assert one.shift == pytest.approx(predicted(list(range(9))) - predicted(without), abs=5e-5)
    assert abs(found[0].shift) > 1e-3


def test_a_model_stored_before_influences_has_none(data):
    structures, energies, ids = data(5)
    correction = replace(fit(embedding(), structures, energies, ids), left_out=None)
    again = Learnt.from_bytes(Learnt(correction).to_bytes()).correction
    assert influences(again, environments_of(again, Features(), structures[0])) == []


def test_a_batch_may_be_shown_in_pieces_and_again_in_smaller_ones(data):
    from dataclasses import replace

    correction = fit(embedding(aggregation="atomic"), *data(8))
    probes = data(5, start=50)[0]
    expected = predict(correction, probes)
    head = correction.head(probes, uncertainty=True)
    for first, stop in ((0, 2), (2, 5), (2, 3), (3, 5)):  # the second piece did not fit into the memory
        head(replace(latent(probes[first:stop]), first=first))
    for found, one_pass in zip(head.results(len(probes)), expected, strict=True):
        np.testing.assert_allclose(found, one_pass, rtol=1e-10)
    with pytest.raises(GodeltaError, match="5 of 6 structures"):
        head.results(6)
