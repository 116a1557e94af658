"""A step over complex x and states, as one over pairs of real ones: what the engine runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from elman.engine.call.inputs import Inputs
from elman.engine.errors import NotSupported
from elman.engine.structure import ScanResult, flatten, split_output, unflatten
from elman.engine.tracing.complexes import BECOMES, START, Pair

__all__ = ["any_complex", "on_pairs"]


class Parts(NamedTuple):
    """A complex tensor between two steps: its real and its imaginary part."""

    re: Tensor
    im: Tensor


def on_parts(step: Callable[..., Any], x: Any, state: Any, *context: Any) -> Any:
    """`(y, next_state)` of a step, with `Parts` for complex tensors; inside, the numbers are complex."""
    before = joined(state)
    out = step(joined(x), before, *map(joined, context))
    leaves, spec = flatten(before)
    y, after = split_output(out, spec)
    for was, now in zip(leaves, flatten(after)[0], strict=False):
        if isinstance(was, Tensor) and not was.is_complex() and (isinstance(now, Pair) or now.is_complex()):
            raise NotSupported(BECOMES, hint=START)
    return taken_apart(y), taken_apart(after)


def any_complex(tensors: Sequence[Tensor]) -> bool:
    """Whether one of them is complex."""
    return any(t.is_complex() for t in tensors)


def taken_apart(tree: Any) -> Any:
    """The tree with `Parts` for complex tensors; as it is where there are none."""
    leaves, spec = flatten(tree)
    if not any(isinstance(v, Pair) or (isinstance(v, Tensor) and v.is_complex()) for v in leaves):
        return tree
    return unflatten([_apart(v) for v in leaves], spec)


def _apart(leaf: Any) -> Any:
    if isinstance(leaf, Pair):
        return Parts(leaf.re, leaf.im)
    if isinstance(leaf, Tensor) and leaf.is_complex():
        return Parts(leaf.real.contiguous(), leaf.imag.contiguous())
    return leaf


def joined(tree: Any) -> Any:
    """The tree with complex tensors for `Parts`."""
    if isinstance(tree, Parts):
        return torch.complex(tree.re, tree.im)
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*map(joined, tree))
    if isinstance(tree, tuple | list):
        return type(tree)(map(joined, tree))
    if isinstance(tree, dict):
        return {key: joined(value) for key, value in tree.items()}
    return tree


def on_pairs(scan: Any, given: Inputs, every: int | None) -> ScanResult:
    """A call with complex numbers in x, states or context: by a scan over pairs of real ones, kept as `scan.pairs`."""
    step = partial(on_parts, scan.step)
    if scan.pairs is None:
        scan.pairs = type(scan)(step, owner=scan.owner, fallback=scan.fallback, backend=scan.backend)
    scan.pairs.step = step
    apart = [
        None if spec is None else taken_apart(unflatten(leaves, spec))
        for leaves, spec in (
            (given.x, given.x_spec),
            (given.s, given.s_spec),
            (given.c, given.c_spec),
            (given.initial, None if given.initial is given.s else given.s_spec),
        )
    ]
    x, state, context, initial = apart
    try:
        result = scan.pairs(
            x, state, context=context, initial_state=initial, lengths=given.lengths, reset=given.reset,
            reverse=given.reverse, return_states=given.return_states, checkpoint_every=every,
        )  # fmt: skip
    except NotSupported as reason:  # the pairs' own loop cannot, the step's can
        return scan.as_loop(given, reason.reason, reason.hint, every)
    scan.path, scan._explanation = scan.pairs.path, scan.pairs.explain()
    return ScanResult(*map(joined, result))
