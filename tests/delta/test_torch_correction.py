"""The Δ-model on SOAP in PyTorch, on the CPU: the code that a GPU runs, against the compiled loops."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.constraints import FixAtoms

from godelta.delta.model import DeltaModel, train
from godelta.delta.settings import DeltaSettings, SOAPSettings
from godelta.delta.soap import SOAP
from godelta.errors import GodeltaError, InputError
from godelta.foundation.base import FoundationBatch, FoundationIdentity
from godelta.foundation.torch_graph import TorchFoundation

SPECIES = [8, 16, 47]
SETTINGS = {
    "default": DeltaSettings(force_directions=0),
    "accurate": DeltaSettings(preset="accurate", force_directions=0),
    "paper": DeltaSettings(preset="paper", noise=1e-3),
    "few points": DeltaSettings(force_directions=0, inducing_points=20),
    "one kernel": DeltaSettings(force_directions=0, species_kernels=False, species_mean=False),
    "one composition": DeltaSettings(force_directions=0),  # what the others weigh is a guess
    "other power": DeltaSettings(force_directions=0, soap=SOAPSettings(l_max=0, weighting_power=1.5)),
}


@pytest.fixture(autouse=True)
def _torch(require):
    require("chgnet")  # it brings PyTorch


@pytest.fixture
def structures(cluster, slab):
    """Sizes from 1 to 16, all kinds of periodicity, one species or two of three, some out of the cell."""
    skewed = Atoms("Ag2S", cell=[[3.0, 0.0, 0.0], [1.5, 3.2, 0.0], [0.7, -2.9, 4.0]], pbc=True)
    skewed.set_scaled_positions([[0.1, 0.2, 0.0], [0.6, 0.5, 0.4], [0.2, 0.8, 0.7]])
    periodic = slab.copy()
    periodic.pbc = True
    periodic.positions += [-11.0, 40.0, 3.0]
    wire = Atoms("Ag3S", cell=[0.0, 0.0, 4.5], pbc=(False, False, True))
    wire.positions = [[0.0, 0.3, 0.0], [1.9, 0.1, 1.1], [0.2, 2.1, 2.2], [2.3, 1.8, 3.3]]
    return [
        cluster(90, "Ag10S6", spread=2.4),
        Atoms("S", positions=[[3.0, 0.0, 0.0]]),
        slab,
        skewed,
        Atoms("AgS", positions=[[0.0, 0.0, 0.0], [0.0, 0.0, 30.0]]),  # neither feels the other
        periodic,
        bulk("Ag"),  # neighbours of its own images only
        wire,
        cluster(91, "OAg2"),
    ]


@pytest.fixture(scope="module")
def fitted():
    return {}


@pytest.fixture
def correction(request, fitted, cluster, toy_energy):
    name = getattr(request, "param", "default")
    if name not in fitted:
        formulas = ["Ag4S3"] if name == "one composition" else ["Ag4S3", "Ag3S4", "Ag2OS"]
        data = [cluster(k, formulas[k % len(formulas)]) for k in range(12)]
        energies = [toy_energy(atoms) + 20.0 * len(atoms) for atoms in data]
        ids = [f"id-{k:03d}" for k in range(len(data))]
        fitted[name] = train(SETTINGS[name], SPECIES, data, np.zeros(len(ids)), energies, ids)
    return fitted[name]


class Nothing:
    """A foundation without any energy."""

    identity = None

    def evaluate(self, structures):
        return FoundationBatch(np.zeros(len(structures)), [np.zeros((len(a), 3)) for a in structures])


def on_torch(correction):
    return DeltaModel(Nothing(), correction, device="cpu")


def assert_equal(batch, structures, correction, **asked):
    expected = DeltaModel(Nothing(), correction).evaluate(structures, **asked)
    np.testing.assert_allclose(batch.energies, expected.energies, rtol=1e-10)
    np.testing.assert_allclose(batch.uncertainties, expected.uncertainties, rtol=1e-10)
    for found, forces in zip(batch.forces, expected.forces, strict=True):
        np.testing.assert_allclose(found, forces, rtol=0, atol=1e-10 * max(np.abs(forces).max(), 1e-3))


@pytest.mark.parametrize("correction", SETTINGS, indirect=True)
def test_it_equals_the_compiled_loops(correction, structures):
    model = on_torch(correction)
    for asked in ({}, {"uncertainty": True}, {"kappa": 1.7}):
        batch = model.evaluate(structures, **asked)
        assert_equal(batch, structures, correction, **asked)
        assert np.isnan(batch.uncertainties).all() != bool(asked)
    plain, pushed = model.evaluate(structures).forces, model.evaluate(structures, kappa=1.7).forces
    assert max(np.abs(a - b).max() for a, b in zip(plain, pushed, strict=True)) > 1e-3


@pytest.mark.parametrize("preset", ["paper", "accurate"])
def test_features_equal_the_compiled_ones(preset, structures):
    from godelta.delta.torch_soap import TorchSOAP

    soap = SOAP(SOAPSettings.preset(preset), SPECIES)
    batched = TorchSOAP(soap, "cpu")
    environments = batched.environments(structures)
    features = batched.features(environments, environments.vectors).numpy()
    expected = np.concatenate([soap.features(atoms) for atoms in structures])
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("kappa", [0.0, 1.7])
def test_forces_equal_central_differences(correction, cluster, slab, kappa):
    model, step = on_torch(correction), 1e-4
    for atoms in (cluster(95, "Ag3SO"), slab):
        forces = model.evaluate([atoms], kappa=kappa).forces[0]
        for atom, axis in ((0, 0), (len(atoms) - 1, 1), (1, 2)):
            moved = []
            for shift in (step, -step):
                moved.append(atoms.copy())
                moved[-1].positions[atom, axis] += shift
            batch = model.evaluate(moved, uncertainty=True)
            up, down = batch.energies - kappa * batch.uncertainties
            assert forces[atom, axis] == pytest.approx((down - up) / (2 * step), rel=1e-6, abs=1e-8)


def test_structures_do_not_feel_their_batch(correction, structures):
    model = on_torch(correction)
    together = model.evaluate(structures, kappa=1.0)
    for chosen in ([0], [1], [4], [6], [2, 7], [8, 0, 5, 1]):
        some = model.evaluate([structures[k] for k in chosen], kappa=1.0)
        np.testing.assert_allclose(some.energies, together.energies[chosen], rtol=1e-12)
        np.testing.assert_allclose(some.uncertainties, together.uncertainties[chosen], rtol=1e-10)
        for k, forces in zip(chosen, some.forces, strict=True):
            np.testing.assert_allclose(forces, together.forces[k], atol=1e-12)
    assert len(model.evaluate([]).energies) == len(model.evaluate([]).forces) == 0


def test_the_same_batch_gives_the_same_bits(correction, structures):
    one, two = (on_torch(correction).evaluate(structures, kappa=1.0) for _ in range(2))
    np.testing.assert_array_equal(one.energies, two.energies)
    np.testing.assert_array_equal(np.concatenate(one.forces), np.concatenate(two.forces))


def test_fixed_atoms_feel_nothing(correction, slab):
    free = on_torch(correction).evaluate([slab], kappa=1.0).forces[0]
    slab.set_constraint(FixAtoms(indices=range(8)))
    held = on_torch(correction).evaluate([slab], kappa=1.0)
    assert_equal(held, [slab], correction, kappa=1.0)
    assert not held.forces[0][:8].any()
    np.testing.assert_array_equal(held.forces[0][8:], free[8:])


def test_atoms_in_one_place_give_numbers(correction):
    """A random structure may have them: it is for the search to see that the energy is absurd."""
    atoms = Atoms("Ag3", positions=[[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [2.0, 1.0, 0.5]])
    batch = on_torch(correction).evaluate([atoms], kappa=1.0)
    assert np.isfinite(batch.forces[0]).all()
    assert_equal(batch, [atoms], correction, kappa=1.0)


def test_what_it_cannot_describe_is_named(correction, cluster):
    model = on_torch(correction)
    with pytest.raises(InputError, match="contains Cu"):
        model.evaluate([cluster(0), Atoms("Cu", positions=[[0.0, 0.0, 0.0]])])
    flat = Atoms("Ag", cell=[[2.0, 0.0, 0.0], [4.0, 0.0, 0.0], [0.0, 0.0, 3.0]], pbc=True)
    with pytest.raises(InputError, match="cell vectors"):
        model.evaluate([flat])


def full_memory(monkeypatch, most):
    """A descriptor that needs more memory than there is for more than so many atoms; a list of batches."""
    import torch

    from godelta.delta.torch_soap import TorchSOAP

    seen, features = [], TorchSOAP.features

    def limited(self, environments, vectors):
        seen.append(len(environments.kinds))
        if len(environments.kinds) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return features(self, environments, vectors)

    monkeypatch.setattr(TorchSOAP, "features", limited)
    return seen


def test_batches_are_split_where_memory_is_full(monkeypatch, correction, structures, caplog):
    expected = on_torch(correction).evaluate(structures, kappa=1.0)
    seen = full_memory(monkeypatch, 20)
    model = on_torch(correction)
    for _ in range(2):
        batch = model.evaluate(structures, kappa=1.0)
        np.testing.assert_allclose(batch.energies, expected.energies, rtol=1e-12)
        np.testing.assert_allclose(np.concatenate(batch.forces), np.concatenate(expected.forces), atol=1e-12)
        failed, seen[:] = [atoms for atoms in seen if atoms > 20], []
    assert not failed  # what has been learnt is remembered
    (record,) = caplog.records
    assert "do not fit into the memory of the GPU" in record.getMessage()


def test_a_structure_too_large_for_the_memory_is_refused(monkeypatch, correction, structures):
    full_memory(monkeypatch, 12)
    with pytest.raises(GodeltaError, match="16 atoms do not fit into the memory of the GPU"):
        on_torch(correction).evaluate(structures)


class OnGPU(TorchFoundation):
    """A foundation that says that it is on a GPU."""

    feature_size = 1
    identity = FoundationIdentity(
        name="far", version="1", weights_sha256=None, dtype="float32", device="cuda", energy_scale="-"
    )

    def evaluate(self, structures):
        return Nothing().evaluate(structures)

    def _forward(self, structures, *, stress):
        raise NotImplementedError


def test_a_gpu_takes_large_batches_only(monkeypatch, correction, cluster):
    """There is no GPU in the tests: how far a call gets tells where it goes."""
    from godelta.delta import torch_soap

    def no_gpu(self, soap, device):
        raise RuntimeError(f"no {device}")

    monkeypatch.setattr(torch_soap.TorchSOAP, "__init__", no_gpu)
    large = [cluster(k, "Ag10S10", spread=2.4) for k in range(10)]
    model = DeltaModel(OnGPU(), correction)
    expected = DeltaModel(Nothing(), correction).evaluate(large[:9])
    np.testing.assert_array_equal(model.evaluate(large[:9]).energies, expected.energies)
    with pytest.raises(RuntimeError, match="no cuda"):
        model.evaluate(large)
    on_cpu = OnGPU.identity.model_copy(update={"device": "cpu"})
    monkeypatch.setattr(OnGPU, "identity", on_cpu)
    assert len(DeltaModel(OnGPU(), correction).evaluate(large).energies) == 10
