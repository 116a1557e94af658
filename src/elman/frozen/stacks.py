"""Recurrent layers as stages: each layer and direction a step of the engine, merges and residual sums between them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from elman.engine import freeze, freeze_rows
from elman.frozen.draft import Draft
from elman.nn.cell_state import leaf_names
from elman.nn.layout import Sequences
from elman.nn.stack import Stack

__all__ = ["ROWS", "example_of", "freeze_function", "freeze_stack"]

ROWS = 3  # of the examples that steps are traced with
_MERGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "concat": lambda a, b: torch.cat((a, b), dim=-1),
    "sum": operator.add,
    "mean": lambda a, b: (a + b) / 2,
    "product": operator.mul,
}


def freeze_function(
    draft: Draft, name: str, f: Callable[..., Tensor], *inputs: int, whole: bool = False
) -> int:
    """A function of rows, `f(*inputs) -> y`, as a stage; gives its output."""
    examples = [example_of(draft.shape(i), draft.dtype) for i in inputs]
    return draft.step(name, freeze_rows(f, *examples), inputs, whole=whole)[0]


def example_of(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Some rows of this shape, the same ones each time."""
    generator = torch.Generator().manual_seed(len(shape))
    return torch.randn(ROWS, *shape, dtype=dtype, generator=generator)


def freeze_stack(draft: Draft, stack: Stack, x: Any, context: Any = None, name: str = "layer") -> list[int]:
    """A stack on the arrays `x` (in the structure of its input); gives the arrays of its outputs.

    context: an example `(B, ...)` of what a `Recurrent` takes beside x.
    Raises EngineError for a step that the core does not run.
    """
    directions = stack.num_directions
    flip = bool(getattr(stack, "reverse", False))
    contexts = [
        draft.context(f"context{i}" if i else "context", c.shape[1:])
        for i, c in enumerate([] if context is None else tree_leaves(context))
    ]
    rows = tree_map(lambda i: example_of(draft.shape(i), draft.dtype), x)
    starts = _starts(stack, rows)
    inputs = x
    for layer, scans in enumerate(zip(*[iter(stack.scans())] * directions, strict=True)):
        outputs: list[list[int]] = []
        for direction, scan in enumerate(scans):
            k = layer * directions + direction
            label = f"{name}.l{layer}" + ("_reverse" if direction else "")
            example = tree_map(lambda i: example_of(draft.shape(i), draft.dtype), inputs)
            step = freeze(scan, example, starts[k], context)
            leaves = tree_leaves(starts[k])
            outputs.append(
                draft.step(
                    label, step, tree_leaves(inputs), [leaf[0] for leaf in leaves], contexts,
                    state_names=[f"{label}.{n}" for n in _state_names(stack, k, starts[k])],
                    reverse=flip != (direction == 1),
                )
            )  # fmt: skip
        merged = outputs[0]
        if directions == 2:
            merged = [
                freeze_function(
                    draft,
                    f"{name}.l{layer}.{stack.merge}",
                    _MERGES[stack.merge],
                    outputs[0][0],
                    outputs[1][0],
                )
            ]
        if stack.residual and stack._equal_widths[layer]:
            merged = [freeze_function(draft, f"{name}.l{layer}.residual", operator.add, merged[0], inputs)]
        if layer + 1 == stack.num_layers:
            return merged
        inputs = merged[0]
    raise AssertionError("a stack has a layer")


def _starts(stack: Stack, rows: Any) -> list[Any]:
    """The state that each layer and direction begins with; ValueError where it is another one for each row."""
    sequences = Sequences(tree_map(lambda v: v.unsqueeze(0), rows), None, None, False, True, None)
    with torch.no_grad():
        starts = stack._starts(None, sequences, "the state")
    for leaf in tree_leaves(starts):
        if not bool((leaf == leaf[:1]).all()):
            raise ValueError(
                f"{type(stack).__name__} begins each row with a state of its own; a frozen model has one for all rows"
            )
    return starts


def _state_names(stack: Stack, k: int, start: Any) -> Sequence[str]:
    cells = getattr(stack, "cells", None)
    if isinstance(cells, nn.ModuleList):
        return leaf_names(cells[k], start)
    known = ("h", "c") if isinstance(start, tuple) else ("h",)
    return (
        known if len(known) == len(tree_leaves(start)) else [str(i) for i in range(len(tree_leaves(start)))]
    )
