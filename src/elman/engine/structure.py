"""The structure of a step's inputs and outputs: flattening, and which of the two cell contracts a step follows."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.utils import _pytree as pytree

from elman.engine.errors import EngineError

__all__ = ["LEAF", "ScanResult", "TreeSpec", "check_next_state", "flatten", "split_output", "unflatten"]

TreeSpec = pytree.TreeSpec


class ScanResult(NamedTuple):
    """What a scan over T steps gives.

    y: the step's outputs, in its own structure, each leaf `(T, B, ...)`; zero where a row has ended.
    state: the state after each row's last step, in the cell's own structure, leaves `(B, ...)`.
    states: the states after every step, leaves `(T, B, ...)`, or None where they were not asked for.
    """

    y: Any
    state: Any
    states: Any


LEAF: TreeSpec = pytree.tree_flatten(0)[1]
_TUPLES: list[TreeSpec] = [pytree.tree_flatten((0,) * n)[1] for n in range(5)]


def flatten(tree: Any) -> tuple[list[Any], TreeSpec]:
    """Leaves of a (named) tuple, list or dict of tensors, and its structure."""
    if (
        not torch.compiler.is_compiling()
    ):  # nearly all trees are a tensor or a tuple of two; a walk takes 5 us
        if isinstance(tree, torch.Tensor):
            return [tree], LEAF
        if (
            type(tree) is tuple
            and len(tree) < len(_TUPLES)
            and all(isinstance(v, torch.Tensor) for v in tree)
        ):
            return list(tree), _TUPLES[len(tree)]
    leaves, spec = pytree.tree_flatten(tree)
    return leaves, spec


def unflatten(leaves: list[Any], spec: TreeSpec) -> Any:
    """The inverse of `flatten`."""
    if not torch.compiler.is_compiling():
        if spec is LEAF:
            return leaves[0]
        if len(leaves) < len(_TUPLES) and spec is _TUPLES[len(leaves)]:
            return tuple(leaves)
    return pytree.tree_unflatten(leaves, spec)


def split_output(out: Any, state_spec: TreeSpec) -> tuple[Any, Any]:
    """`(y, next_state)` of what a step returned, by the structure of the given state.

    A step returns `(y_t, next_state)`, or only `next_state` (torch's own cells do): then y is its first tensor.
    """
    leaves, spec = flatten(out)
    if spec == state_spec:
        return leaves[0], out
    if isinstance(out, tuple | list) and len(out) == 2 and flatten(out[1])[1] == state_spec:
        return out[0], out[1]
    raise EngineError(
        f"the step returned {_describe(out)}; expected (y_t, next_state) or next_state, where next_state has the "
        f"structure of the given state, {state_spec}"
    )


def check_next_state(old: list[torch.Tensor], new: list[Any], rows: int) -> None:
    """Each next-state leaf must be a tensor of the shape of the state it replaces."""
    for i, (a, b) in enumerate(zip(old, new, strict=True)):
        if not isinstance(b, torch.Tensor):
            raise EngineError(
                f"state leaf {i} became {_describe(b)} after a step; expected a tensor {tuple(a.shape)}"
            )
        if b.shape != a.shape:
            raise EngineError(
                f"state leaf {i} has shape {tuple(a.shape)} before a step of {rows} rows and {tuple(b.shape)} after; "
                f"a state keeps its shape"
            )


def _describe(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__}({', '.join(_describe(v) for v in value)})"
    return type(value).__name__
