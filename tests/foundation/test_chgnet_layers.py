"""The factorised CHGNet against the package's own layers: energies, forces, features."""

import numpy as np
import pytest
from ase.build import bulk, fcc111
from probes import cluster

SHAPES = {
    "as published": {},
    "other widths": {"atom_fea_dim": 12, "bond_fea_dim": 20, "angle_fea_dim": 28},
    "hidden layers everywhere": {"angle_layer_hidden_dim": 16, "bond_conv_hidden_dim": [24, 8]},
    "no hidden layers": {"atom_conv_hidden_dim": 0, "bond_conv_hidden_dim": 0},
    "no norms": {"gMLP_norm": None},
    "norms of batches": {"gMLP_norm": "batch"},
    "norms after convolutions": {"conv_norm": "layer", "mlp_out_bias": True},
    "bonds are not updated": {"update_bond": False},
    "angles are not updated": {"update_angle": False},
    "another activation": {"non_linearity": "gelu"},
    "two convolutions": {"n_conv": 2},
}


def _small(shape):
    """A CHGNet with random weights, in float32 as CHGNet's own tensors."""
    import torch
    from chgnet.model.model import CHGNet

    torch.manual_seed(1)
    args = {"num_radial": 9, "num_angular": 9, "mlp_hidden_dims": (16,), "gMLP_norm": "layer"} | shape
    model = CHGNet(**args).eval()
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm1d):
            norm.running_mean.uniform_(-0.5, 0.5)
            norm.running_var.uniform_(0.5, 2.0)
    return model.requires_grad_(False)


def _results(model, structures):
    import torch
    from chgnet.model.model import BatchedGraph
    from pymatgen.io.ase import AseAtomsAdaptor

    model.graph_converter.set_isolated_atom_response("ignore")
    graphs = [model.graph_converter(AseAtomsAdaptor.get_structure(atoms)) for atoms in structures]
    batch = BatchedGraph.from_graphs(graphs, model.bond_basis_expansion, model.angle_basis_expansion)
    output = model._compute(batch, return_crystal_feas=True)
    energies = output["e"]
    forces = torch.autograd.grad(energies.sum(), batch.atom_positions)
    parts = [energies, torch.cat(forces), output["crystal_fea"]]
    return [part.detach().numpy() for part in parts]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_same_numbers_as_the_packages_own_layers(require, shape):
    require("chgnet")
    from godelta.foundation.chgnet_layers import factorise

    slab = fcc111("Ag", (2, 2, 2), vacuum=6.0, periodic=True)
    slab.rattle(0.1, seed=1)
    structures = [cluster(0), slab, bulk("Cu", "fcc", a=3.6)]
    for atoms in structures:
        atoms.pbc = True
    model = _small(shape)
    own = _results(model, structures)
    assert np.abs(own[1]).max() > 1e-3
    factorise(model)
    for found, expected in zip(_results(model, structures), own, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_structures_without_angles(require):
    require("chgnet")
    from ase import Atoms

    from godelta.foundation.chgnet_layers import factorise

    far = Atoms("Ag2", [[0, 0, 0], [0, 0, 4.5]], cell=[20, 20, 20], pbc=True)
    model = _small({})
    own = _results(model, [far])
    factorise(model)
    np.testing.assert_allclose(_results(model, [far])[0], own[0], rtol=1e-5)
