"""CHGNet's message passing with the same results from a third of the multiplications.

A message of CHGNet begins with a linear layer on rows put together from the features of an atom, of one or
two bonds and of an angle. There are many more angles than bonds and more bonds than atoms, and a linear
layer of joined rows is the sum of linear layers of their parts: each part goes through its own columns of the
weights once, before its rows are repeated for every bond or angle that has it. The layers of core and gate,
which read the same rows, are one matrix. The last update of the angles, which nothing reads, is left out.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from chgnet.model.model import CHGNet

ANGLE = 2  # the place of the angle in a joined row of two bonds, angle, atom


def factorise(model: "CHGNet") -> None:
    """Give the convolutions of a CHGNet (Deng et al., 2023) their factorised form, in place.

    The model is for evaluation only afterwards: it has no dropout any more. Energies and gradients stay the
    same but for the rounding of float32.
    """
    atom, bond = model.atom_fea_dim, model.bond_fea_dim
    angle = model.angle_embedding.out_features
    across = [bond, bond, angle, atom]  # of a message across an angle
    model.atom_conv_layers = nn.ModuleList(
        _AtomConv(layer, [atom, bond, atom]) for layer in model.atom_conv_layers
    )
    bonds = [layer and _BondConv(layer, across) for layer in model.bond_conv_layers]
    angles = [layer and _AngleUpdate(layer, across) for layer in [*model.angle_layers[:-1], None]]
    model.bond_conv_layers, model.angle_layers = nn.ModuleList(bonds), nn.ModuleList(angles)


class _GatedMLP(nn.Module):
    """CHGNet's gated MLP on rows that would be joined from parts.

    `widths` are the columns of each part, in the order in which CHGNet joins them; `own` says which part has
    a row for each message, while rows of the others are shared.
    """

    def __init__(self, mlp: Any, widths: Sequence[int], own: int | None = None) -> None:
        super().__init__()
        (core, self.core), (gate, self.gate) = _split(mlp.mlp_core), _split(mlp.mlp_gate)
        parts = torch.split(torch.cat([core.weight, gate.weight]), list(widths), dim=1)
        weights = [_constant(part.T) for part in parts]
        if own is not None:
            self.own_weight = weights.pop(own)
        self.weights = nn.ParameterList(weights)
        self.bias = _constant(torch.cat([core.bias, gate.bias]))
        self.core_norm, self.gate_norm = mlp.bn1 or nn.Identity(), mlp.bn2 or nn.Identity()
        self.activation = mlp.activation

    def forward(self, shared: Sequence[tuple[Tensor, Tensor]], own: Tensor | None = None) -> Tensor:
        """Messages (m, width), from rows (k, columns) of each shared part and which (m,) of them each has."""
        first, *others = (
            torch.index_select(rows @ weight, 0, which)
            for (rows, which), weight in zip(shared, self.weights, strict=True)
        )
        joined = first + self.bias
        for term in others:
            joined += term
        if own is not None:
            joined = torch.addmm(joined, own, self.own_weight)
        core, gate = joined.chunk(2, dim=1)
        core = self.activation(self.core_norm(self.core(core)))
        messages: Tensor = core * torch.sigmoid(self.gate_norm(self.gate(gate)))
        return messages


def _split(mlp: Any) -> tuple[Any, nn.Sequential]:
    """The first linear layer of an MLP, and the rest of it."""
    first, *rest = (layer for layer in mlp.layers if not isinstance(layer, nn.Dropout))
    return first, nn.Sequential(*rest)


def _constant(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach().contiguous(), requires_grad=False)


class _AtomConv(nn.Module):
    """CHGNet's `AtomConv`: messages along directed bonds, summed at their first atom."""

    def __init__(self, layer: Any, widths: Sequence[int]) -> None:
        super().__init__()
        self.messages = _GatedMLP(layer.twoBody_atom, widths)
        self.out, self.norm = layer.mlp_out, layer.atom_norm or nn.Identity()

    def forward(
        self,
        atom_feas: Tensor,
        bond_feas: Tensor,
        bond_weights: Tensor,
        atom_graph: Tensor,
        directed2undirected: Tensor,
    ) -> Tensor:
        centre, neighbour = atom_graph[:, 0], atom_graph[:, 1]
        shared = [(atom_feas, centre), (bond_feas, directed2undirected), (atom_feas, neighbour)]
        messages = self.messages(shared) * torch.index_select(bond_weights, 0, directed2undirected)
        new: Tensor = self.norm(self.out(_sums(messages, centre, len(atom_feas))) + atom_feas)
        return new


class _BondConv(nn.Module):
    """CHGNet's `BondConv`: messages across angles, summed at their first bond."""

    def __init__(self, layer: Any, widths: Sequence[int]) -> None:
        super().__init__()
        self.messages = _GatedMLP(layer.twoBody_bond, widths, own=ANGLE)
        self.out, self.norm = layer.mlp_out, layer.bond_norm or nn.Identity()

    def forward(
        self,
        atom_feas: Tensor,
        bond_feas: Tensor,
        bond_weights: Tensor,
        angle_feas: Tensor,
        bond_graph: Tensor,
    ) -> Tensor:
        first, second = bond_graph[:, 1], bond_graph[:, 2]
        messages = self.messages(_of_angles(atom_feas, bond_feas, bond_graph), angle_feas)
        messages = messages * torch.index_select(bond_weights, 0, second)
        # The weight of the first bond is the same for all that is summed.
        summed = _sums(messages, first, len(bond_feas)) * bond_weights
        new: Tensor = self.norm(self.out(summed) + bond_feas)
        return new


class _AngleUpdate(nn.Module):
    """CHGNet's `AngleUpdate`."""

    def __init__(self, layer: Any, widths: Sequence[int]) -> None:
        super().__init__()
        self.messages = _GatedMLP(layer.twoBody_bond, widths, own=ANGLE)
        self.norm = layer.angle_norm or nn.Identity()

    def forward(self, atom_feas: Tensor, bond_feas: Tensor, angle_feas: Tensor, bond_graph: Tensor) -> Tensor:
        update = self.messages(_of_angles(atom_feas, bond_feas, bond_graph), angle_feas)
        new: Tensor = self.norm(update + angle_feas)
        return new


def _of_angles(atom_feas: Tensor, bond_feas: Tensor, bond_graph: Tensor) -> list[tuple[Tensor, Tensor]]:
    """What messages across angles share: the first bond, the second, the atom between them."""
    return [(bond_feas, bond_graph[:, 1]), (bond_feas, bond_graph[:, 2]), (atom_feas, bond_graph[:, 0])]


def _sums(messages: Tensor, owners: Tensor, n_owners: int) -> Tensor:
    return messages.new_zeros(n_owners, messages.shape[1]).index_add_(0, owners, messages)
