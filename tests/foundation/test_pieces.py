"""Batches in pieces: where they are cut, that results do not depend on it, and what a full GPU does."""

import logging

import numpy as np
import pytest
from ase import Atoms
from probes import squares

from godelta.errors import GodeltaError
from godelta.foundation import CHGNetSettings
from godelta.foundation.base import FoundationIdentity
from godelta.foundation.device import resolve_device
from godelta.foundation.pieces import Pieces
from godelta.foundation.torch_graph import Latent, Pass, TorchFoundation

SIZES = [3, 5, 1, 8, 2, 2, 13, 1]


@pytest.fixture(autouse=True)
def _torch(require):
    require("chgnet")  # it brings PyTorch


def cluster(n: int) -> Atoms:
    positions = 4.0 + 4.0 * np.random.default_rng(n).random((n, 3))
    return Atoms(f"Ag{n}", positions=positions, cell=[12.0] * 3, pbc=True)


@pytest.fixture
def structures():
    return [cluster(n) for n in SIZES]


class Springs(TorchFoundation):
    """Every atom on a spring, in the memory of a GPU that holds so many atoms' backward passes.

    passes: how many atoms each pass forward had.
    """

    feature_size = 2

    def __init__(self, memory=10**9, device="cpu", knows_sites=True):
        self.memory, self.passes, self.knows_sites = memory, [], knows_sites
        self.identity_ = FoundationIdentity(
            name="springs", version="1", weights_sha256=None, dtype="float64", device=device, energy_scale="-"
        )

    @property
    def identity(self):
        return self.identity_

    def _forward(self, structures, *, stress):
        import torch

        counts = torch.tensor([len(atoms) for atoms in structures])
        self.passes.append(int(counts.sum()))
        owners = torch.repeat_interleave(torch.arange(len(counts)), counts)
        positions = torch.tensor(np.concatenate([a.positions for a in structures]), requires_grad=True)
        strains = torch.zeros(len(counts), 3, 3, dtype=torch.float64, requires_grad=stress)
        moved = positions + torch.einsum("ni,nij->nj", positions, strains[owners])
        if len(owners) > self.memory:
            moved.register_hook(full)
        each = (moved**2).sum(1)
        return Pass(
            energies=each.new_zeros(len(counts)).index_add(0, owners, each),
            latent=Latent(moved[:, :2], torch.full_like(owners, 47), owners, len(counts)),
            positions=[positions],
            strains=[strains] if stress else [],
            volumes=torch.tensor([a.get_volume() for a in structures]),
            site_energies=each if self.knows_sites else None,
        )


class Cut(Springs):
    cpu_atoms = 10


def full(gradient):
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


class Squares:
    """Added energies, and which structures were shown to it last under each number."""

    def __init__(self):
        self.shown = {}

    def __call__(self, latent):
        self.shown[latent.first] = latent.count
        return squares(latent)


def assert_same(found, expected):
    for name in ("energies", "added", "stresses"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-12)
    assert [len(forces) for forces in found.forces] == SIZES
    np.testing.assert_allclose(np.concatenate(found.forces), np.concatenate(expected.forces), rtol=1e-12)


def test_pieces_follow_each_other_and_hold_no_more_atoms_than_allowed(structures):
    pieces = Pieces("springs", 10).evaluate(structures, lambda piece: (piece.start, piece.stop))
    assert pieces == [(0, 3), (3, 5), (5, 6), (6, 7), (7, 8)]
    assert Pieces("springs").evaluate(structures, lambda piece: piece) == [slice(0, 8)]
    assert Pieces("springs", 10).evaluate([], lambda piece: piece) == []


def test_results_do_not_depend_on_the_pieces(structures):
    whole, cut = Springs(), Cut()
    heads = Squares(), Squares()
    assert_same(
        *(f.evaluate_with(structures, head, stress=True) for f, head in zip((cut, whole), heads, strict=True))
    )
    assert (whole.passes, cut.passes) == ([35], [9, 10, 2, 13, 1])
    assert heads[1].shown == {0: 8}
    assert heads[0].shown == {0: 3, 3: 2, 5: 1, 6: 1, 7: 1}
    for ask in (cut.features, cut.site_energies):
        other = getattr(whole, ask.__name__)(structures)
        assert all(np.array_equal(a, b) for a, b in zip(ask(structures), other, strict=True))
    assert cut.features([]) == cut.site_energies([]) == []
    assert Springs(knows_sites=False).site_energies(structures) is None


def test_on_a_gpu_batches_are_not_cut(structures):
    foundation = Cut(device="cuda")
    foundation.evaluate(structures)
    assert foundation.passes == [35]


def test_a_batch_that_does_not_fit_is_split_with_one_warning(structures, caplog):
    foundation, head = Springs(memory=15, device="cuda"), Squares()
    expected = Springs().evaluate_with(structures, Squares(), stress=True)
    assert_same(foundation.evaluate_with(structures, head, stress=True), expected)
    # Neither 35 nor 17 atoms fit: from then on 8, or a single structure.
    assert foundation.passes == [35, 17, 8, 1, 8, 4, 13, 1]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "springs: 35 atoms at once do not fit" in caplog.text
    foundation.passes.clear()
    assert_same(foundation.evaluate_with(structures, Squares(), stress=True), expected)
    assert max(foundation.passes) <= 15
    assert len(caplog.records) == 1


def test_a_structure_that_does_not_fit_is_refused(structures):
    with pytest.raises(GodeltaError, match="13 atoms do not fit into the memory of the GPU") as refused:
        Springs(memory=12, device="cuda").evaluate(structures)
    assert "device: cpu" in str(refused.value)


def test_other_errors_pass_through(structures):
    def fail(piece):
        raise RuntimeError("size mismatch")

    with pytest.raises(RuntimeError, match="size mismatch"):
        Pieces("springs").evaluate(structures, fail)


def test_a_matrix_library_without_memory_is_the_same(structures):
    def work(piece):
        if piece.stop - piece.start > 2:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
        return piece

    assert len(Pieces("springs").evaluate(structures, work)) > 3


def test_without_a_gpu_cuda_is_the_cpu_with_one_warning(monkeypatch, caplog):
    import torch

    from godelta.foundation.chgnet import CHGNetFoundation

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert CHGNetFoundation(CHGNetSettings(device="auto")).identity.device == "cpu"
    assert not caplog.records
    foundation = CHGNetFoundation(CHGNetSettings(device="cuda"))
    assert foundation.identity.device == "cpu"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "sees no GPU here: the foundation runs on the CPU" in caplog.text
    assert np.isfinite(foundation.evaluate([cluster(3)]).energies).all()


def test_with_a_gpu_auto_takes_it(monkeypatch, caplog):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [resolve_device(asked) for asked in ("auto", "cuda", "cpu")] == ["cuda", "cuda", "cpu"]
    assert not caplog.records
