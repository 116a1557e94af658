"""The structure of a step's inputs and outputs: flattening, and which of the two cell contracts a step follows."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch.utils import _pytree as pytree

from elman.engine.errors import EngineError

__all__ = [
    "LEAF",
    "ScanResult",
    "TreeSpec",
    "check_next_state",
    "flatten",
    "leaves_of",
    "mapped",
    "split_output",
    "unflatten",
]

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


# What torch's trees say of a named tuple of any class is `namedtuple`.
_POSITIONAL: tuple[Any, ...] = (tuple, list, namedtuple)
LEAF: TreeSpec = pytree.tree_flatten(0)[1]
_TUPLES: list[TreeSpec] = [pytree.tree_flatten((0,) * n)[1] for n in range(5)]


def mapped(tree: Any, leaf: Callable[[Any], Any]) -> Any:
    """Arguments of an operation, nested lists, tuples and dicts, with `leaf` of all else in its place."""
    if isinstance(tree, list | tuple):
        return type(tree)([mapped(item, leaf) for item in tree])
    if isinstance(tree, dict):
        return {key: mapped(value, leaf) for key, value in tree.items()}
    return leaf(tree)


def leaves_of(tree: Any) -> Iterator[Any]:
    """All that is no list, tuple or dict in arguments of an operation, in order."""
    if isinstance(tree, list | tuple):
        for item in tree:
            yield from leaves_of(item)
    elif isinstance(tree, dict):
        yield from leaves_of(list(tree.values()))
    else:
        yield tree


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

    A step returns `(y_t, next_state)`, or only `next_state` (torch's own cells do): then y is its first tensor. Tuples,
    named tuples and lists are alike: a loop that goes by positions takes each for the other. What the next step and
    the caller get has the structure of the given state.
    """
    if type(out) is tuple and len(out) == 2 and isinstance(out[0], torch.Tensor):  # nearly all are so
        after = out[1]
        if state_spec is LEAF and isinstance(after, torch.Tensor):
            return out
        few = type(after) is tuple and len(after) < len(_TUPLES) and state_spec is _TUPLES[len(after)]
        if few and all(isinstance(v, torch.Tensor) for v in after):
            return out
    leaves, spec = flatten(out)
    if _alike(spec, state_spec):
        return leaves[0], out
    if isinstance(out, tuple | list) and len(out) == 2 and _alike(flatten(out[1])[1], state_spec):
        return out[0], out[1]
    raise EngineError(
        f"the step returned {_describe(out)}; expected (y_t, next_state) or next_state, where next_state has the "
        f"structure of the given state, {state_spec}"
    )


def _alike(one: TreeSpec, other: TreeSpec) -> bool:
    """Whether two structures are the same, but for tuples, named tuples and lists."""
    if one is other or one == other:
        return True
    if one.is_leaf() or other.is_leaf() or one.num_children != other.num_children:
        return False
    if not (one.type in _POSITIONAL and other.type in _POSITIONAL):
        same = one.type == other.type and one.context == other.context
        return same and all(map(_alike, one.children(), other.children()))
    return all(map(_alike, one.children(), other.children()))


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
