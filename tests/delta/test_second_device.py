"""Nothing is left behind on the CPU when potential and Δ are on a GPU, checked without one.

What PyTorch makes on `cuda`, or moves there, is marked and computed on the CPU. Where marked numbers meet
others, or are read as an array, a GPU would refuse. What TorchScript has compiled is not looked into.
"""

import numpy as np
import pytest
from ase import Atoms

from godelta.delta.embedding import train_embedding
from godelta.delta.model import DeltaModel, train
from godelta.delta.settings import DeltaSettings
from godelta.foundation import CHGNetSettings, SevenNetSettings
from godelta.foundation.registry import _load

SPECIES = [16, 47]
FOUNDATIONS = {"chgnet": CHGNetSettings, "sevennet": SevenNetSettings}
FREE = {"to", "cpu", "as_tensor", "tensor", "copy_", "_has_compatible_shallow_copy_type"}  # take any two


@pytest.fixture
def second_device(require):
    require("chgnet")  # it brings PyTorch
    import torch
    from torch import Tensor
    from torch.overrides import TorchFunctionMode
    from torch.utils._pytree import tree_flatten

    def tensors_in(values):
        return [value for value in tree_flatten(values)[0] if isinstance(value, Tensor)]

    def elsewhere(value):
        named = isinstance(value, torch.device) or (isinstance(value, str) and value.startswith("cuda"))
        return torch.device("cpu") if named else value

    class SecondDevice(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            kwargs, name = dict(kwargs or {}), function.__name__
            given = tensors_in((args, kwargs))
            marks = [getattr(tensor, "marked", False) for tensor in given]
            if function == Tensor.device.__get__:
                return torch.device("cuda" if marks[0] else "cpu")
            if name == "_parse_to":  # how a module reads what it is asked
                return function(*args, **kwargs)
            if function == Tensor.data.__set__:
                args[0].marked = marks[1]
                return function(*args)
            self.refuse(name, args, given, marks)
            asked = kwargs.get("device")
            if name == "to" and asked is None:
                asked = next((value for value in args[1:] if isinstance(value, str | torch.device)), None)
            kwargs = {key: elsewhere(value) for key, value in kwargs.items()}
            result = function(*map(elsewhere, args), **kwargs)
            if name in {"to", "cpu"} and result is args[0]:
                result = result.view_as(result)  # not the object that keeps its mark
            marked = any(marks) and name != "cpu" if asked is None else torch.device(asked).type == "cuda"
            for tensor in tensors_in(result):
                tensor.marked = marked
            return result

        @staticmethod
        def refuse(name, args, given, marks):
            if name in {"numpy", "__array__"} and any(marks):
                raise RuntimeError("can't convert cuda tensor to numpy")
            if name == "__setitem__" and isinstance(args[2], Tensor) and args[2].numel() == 1:
                return
            whole = {mark for mark, tensor in zip(marks, given, strict=True) if tensor.dim()}
            if len(whole) > 1 and name not in FREE:
                raise RuntimeError(f"{name}: expected all tensors to be on the same device")

    return SecondDevice()


@pytest.fixture
def structures(cluster, slab):
    slab.pbc = True
    return [cluster(0), slab, cluster(1, "Ag2S2"), Atoms("S", positions=[[2, 2, 2]], cell=[12.0] * 3)]


@pytest.fixture
def data(cluster, toy_energy):
    structures = [cluster(k, "Ag4S3" if k % 2 else "Ag3S4") for k in range(10, 18)]
    energies = [toy_energy(atoms) for atoms in structures]
    return SPECIES, structures, np.zeros(8), energies, [f"id-{k}" for k in range(8)]


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.sevennet) for name in FOUNDATIONS])
def foundations(request, require, monkeypatch, second_device):
    """The same potential on the CPU, and on the device that there is not."""
    require(request.param)
    import torch

    settings = FOUNDATIONS[request.param]
    on_cpu = _load.__wrapped__(settings(device="cpu").model_dump_json())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with second_device:
        on_gpu = _load.__wrapped__(settings(device="cuda").model_dump_json())
    assert on_gpu.identity.device == "cuda"
    return on_cpu, on_gpu


def assert_same(found, expected):
    for name in ("energies", "foundation_energies", "uncertainties"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-9)
    # What CHGNet and SevenNet round in float32 depends on the batch.
    np.testing.assert_allclose(np.concatenate(found.forces), np.concatenate(expected.forces), atol=1e-4)


def test_numbers_left_behind_are_noticed(second_device):
    import torch

    with second_device:
        far, near = torch.ones(3, device="cuda"), torch.ones(3)
        assert (far.device.type, near.device.type, far.cpu().device.type) == ("cuda", "cpu", "cpu")
        assert near.to("cuda").device.type == (2 * far).device.type == "cuda"
        for mistake in (
            lambda: far + near,
            lambda: far[near.long()],
            lambda: torch.cat([far, near]),
            far.numpy,
        ):
            with pytest.raises(RuntimeError, match=r"same device|cuda tensor"):
                mistake()


@pytest.mark.slow
def test_potential_and_correction_on_soap(foundations, second_device, structures, data, monkeypatch):
    monkeypatch.setattr("godelta.delta.model.GPU_ATOMS", 0)
    correction = train(DeltaSettings(), *data)
    on_cpu, on_gpu = (DeltaModel(foundation, correction) for foundation in foundations)
    for kappa in (0.0, 1.3):
        expected = on_cpu.evaluate(structures, kappa=kappa)
        with second_device:
            assert_same(on_gpu.evaluate(structures, kappa=kappa), expected)


@pytest.mark.slow
@pytest.mark.parametrize("aggregation", ["atomic", "species", "global"])
def test_potential_and_correction_on_its_features(foundations, second_device, structures, data, aggregation):
    settings = DeltaSettings(descriptor="embedding", aggregation=aggregation, force_directions=0)
    correction = train_embedding(settings, *data, foundation=foundations[0])
    on_cpu, on_gpu = (DeltaModel(foundation, correction) for foundation in foundations)
    expected = on_cpu.evaluate(structures, kappa=1.3, stress=True)
    with second_device:
        found = on_gpu.evaluate(structures, kappa=1.3, stress=True)
        features = foundations[1].features(structures)
    assert_same(found, expected)
    np.testing.assert_allclose(found.stresses, expected.stresses, atol=1e-5)
    assert [array.shape for array in features] == [(len(a), foundations[0].feature_size) for a in structures]
