"""From a vector to the state that recurrent layers of any structure start from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from elman.nn.networks.stacks import start_of

__all__ = ["Bridge", "StateRows"]


class StateRows:
    """The state of recurrent layers as one vector `(B, size)` for each sequence, there and back.

    Where the batch axis of each tensor lies is found from the layers' own starts for two batch sizes. Tensors that are
    not floating point stay as they start.
    """

    def __init__(self, recurrent: nn.Module) -> None:
        two, three = (tree_leaves(start_of(recurrent, batch)) for batch in (2, 3))
        self._axes = [_batch_axis(a, b) for a, b in zip(two, three, strict=True)]
        self._sizes = [leaf.numel() // 2 if leaf.is_floating_point() else 0 for leaf in two]
        self.size = sum(self._sizes)

    def flat(self, state: Any) -> Tensor:
        """`(B, size)`."""
        leaves = zip(tree_leaves(state), self._axes, self._sizes, strict=True)
        return torch.cat([leaf.movedim(axis, 0).flatten(1) for leaf, axis, size in leaves if size], dim=1)

    def build(self, flat: Tensor, start: Any) -> Any:
        """The inverse; start: a state for as many sequences, which gives the structure and what is no number."""
        leaves, structure = tree_flatten(start)
        parts = flat.split(self._sizes, dim=1)
        made = [
            part.reshape(leaf.movedim(axis, 0).shape).movedim(0, axis) if size else leaf
            for part, leaf, axis, size in zip(parts, leaves, self._axes, self._sizes, strict=True)
        ]
        return tree_unflatten(made, structure)


def _batch_axis(two: Tensor, three: Tensor) -> int:
    return next(axis for axis, (a, b) in enumerate(zip(two.shape, three.shape, strict=True)) if a != b)


class Bridge(nn.Module):
    r"""A vector `(B, F)` as the start of recurrent layers: s_0 = f(W v + b), W `(S, F)` for the S numbers of a state.

    bounded: f is tanh, as in Bahdanau et al. 2015 (appendix A.2.2); else the identity.
    """

    def __init__(self, features: int, recurrent: nn.Module, *, bounded: bool = True) -> None:
        super().__init__()
        self.rows = StateRows(recurrent)
        self.dense = nn.Linear(features, self.rows.size)
        self.bounded = bounded

    def forward(self, vector: Tensor, start: Any) -> Any:
        """The state for the vectors `(B, F)`; start: a state of the layers for B sequences, for its structure."""
        flat = self.dense(vector)
        return self.rows.build(torch.tanh(flat) if self.bounded else flat, start)
