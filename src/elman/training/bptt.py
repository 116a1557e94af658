"""Truncated backpropagation through time (Williams and Peng 1990): the state goes on, the gradient is cut.

A text is read in pieces of k steps. The state after a piece is the start of the next one, so what the network
remembers is not limited by k; the gradient reaches back to the start of the piece (k1 = k2 = k). A state may have any
structure of tuples, lists and dicts with tensors as leaves: one pair (h, c) for a stack, or one a layer.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

__all__ = ["cut", "pack", "unpack"]


def cut(state: Any) -> Any:
    """The same state without its history: no gradient flows back past it."""
    return pytree.tree_map_only(Tensor, lambda leaf: leaf.detach(), state)


def pack(state: Any) -> list[Tensor]:
    """The leaves of a state in a fixed order, as copies."""
    return [leaf.detach().clone() for leaf in pytree.tree_leaves(state)]


def unpack(leaves: list[Tensor], like: Any) -> Any:
    """A state like `like`, with these leaves. Raises ValueError unless their shapes are those of `like`."""
    old, structure = pytree.tree_flatten(like)
    if [leaf.shape for leaf in leaves] != [leaf.shape for leaf in old]:
        raise ValueError(
            f"state leaves {[tuple(leaf.shape) for leaf in leaves]}; expected {[tuple(leaf.shape) for leaf in old]}"
        )
    return pytree.tree_unflatten([new.to(a).clone() for new, a in zip(leaves, old, strict=True)], structure)
