"""What decoding asks of a model: one step, and a state whose rows can be picked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_map

__all__ = ["Pick", "Step", "rows_along"]

# (tokens (R,), state) -> (logits (R, V), next state); a row depends on its own row alone
Step = Callable[[Tensor, Any], tuple[Tensor, Any]]

# (state of R rows, int64 (N,)) -> the state of those N rows, in that order, with repeats
Pick = Callable[[Any, Tensor], Any]


def rows_along(axis: int) -> Pick:
    """Pick the rows of a state, any structure of tensors, along one axis: 0, or 1 for torch's `(L, B, H)`."""

    def pick(state: Any, rows: Tensor) -> Any:
        return tree_map(
            lambda leaf: leaf.index_select(axis, rows) if isinstance(leaf, Tensor) else leaf, state
        )

    return pick
