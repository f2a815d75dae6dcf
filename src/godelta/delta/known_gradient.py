"""Values whose gradient is known, as a node of PyTorch's graph; a module of its own, for it imports torch."""

from typing import Any

import torch
from torch import Tensor


class KnownGradient(torch.autograd.Function):
    """Values (B,) of structures with a given gradient (N, d) by the features of their atoms.

    Cheaper than the graph of all that the values were computed from, most of all for small structures.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, values: Tensor, gradient: Tensor, owners: Tensor) -> Tensor:
        """The values; owners (N,): the structure of each atom."""
        ctx.save_for_backward(gradient, owners)
        ctx.dtype = features.dtype
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *by_values: Tensor) -> tuple[Tensor, None, None, None]:
        """The derivative by the features."""
        gradient, owners = ctx.saved_tensors
        return (by_values[0][owners, None] * gradient).to(ctx.dtype), None, None, None
