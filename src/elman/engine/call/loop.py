"""The plain loop: one Python call of the user's step per time step, differentiated by autograd.

It is what every other path is measured against (the oracle), and what runs where a cell is outside the fast path's
rules. It is written to be read: only the rows that are still going are ever handed to the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from elman.engine.structure import (
    LEAF,
    ScanResult,
    TreeSpec,
    check_next_state,
    flatten,
    split_output,
    unflatten,
)

__all__ = ["all_rows", "plain_loop"]


def plain_loop(
    step: Callable[..., Any],
    x: Any,
    state: Any,
    *,
    context: Any = None,
    initial_state: Any = None,
    lengths: Tensor | None = None,
    reset: Tensor | None = None,
    reverse: bool = False,
    return_states: bool = False,
) -> ScanResult:
    """Unfold `step` over the T steps of `x`, one Python call each.

    x: tensor `(T, B, ...)` or a tuple of such; state: `(B, ...)` leaves; context: `(B, ...)` leaves, the same at each
    step; initial_state: where a reset leads to (default zeros); lengths `(B,)`: a row that has ended holds its state
    and gives zeros; reverse: each row from its own last step to its first; reset `(T, B)`: true where the state goes
    back to the initial one before that step (in reverse: when crossing from that step to the one before it).
    """
    xs, x_spec = flatten(x)
    states, spec = flatten(state)
    initial = [torch.zeros_like(s) for s in states] if initial_state is None else flatten(initial_state)[0]
    ctx, ctx_spec = flatten(context)
    T, B = xs[0].shape[:2]
    if lengths is None and reset is None and T > 0:
        extra = () if context is None else (context,)
        return all_rows(step, xs, x_spec, states, spec, extra, reverse, return_states)
    ends = [T] * B if lengths is None else [int(n) for n in lengths.tolist()]

    ys: list[list[Tensor] | None] = [None] * T
    y_spec: TreeSpec | None = None
    history: list[list[Tensor] | None] = [None] * T
    index: Tensor | None = None
    going: list[int] | None = None
    for t, rows in _schedule(T, ends, reverse):
        if rows != going:
            index = None if len(rows) == B else torch.tensor(rows, dtype=torch.long, device=xs[0].device)
            going = rows
        states = _apply_reset(states, initial, reset, t, ends, reverse)
        inputs = unflatten([_take(v[t], index) for v in xs], x_spec)
        before = [_take(s, index) for s in states]
        extra = () if context is None else (unflatten([_take(c, index) for c in ctx], ctx_spec),)
        y, after = split_output(step(inputs, unflatten(before, spec), *extra), spec)
        new = flatten(after)[0]
        check_next_state(before, new, len(rows))
        states = [_put(s, n, index) for s, n in zip(states, new, strict=True)]
        y_leaves, y_spec = flatten(y)
        ys[t] = [_spread(v, index, B) for v in y_leaves]
        if return_states:
            history[t] = [_spread(n, index, B) for n in new]
    y_out = unflatten(_stack(ys), y_spec) if y_spec is not None else None
    states = [s.clone() for s in states]  # a step may hand on what it was given: results alias nothing
    return ScanResult(
        y_out, unflatten(states, spec), unflatten(_stack(history), spec) if return_states else None
    )


def all_rows(
    step: Callable[..., Any], xs: list[Tensor], x_spec: TreeSpec, states: list[Tensor], spec: TreeSpec,
    extra: tuple[Any, ...], reverse: bool, return_states: bool,
) -> ScanResult:  # fmt: skip
    """All rows take all steps: the loop as one writes it by hand, with little beside the step."""
    B, y_spec = xs[0].shape[1], LEAF
    call, like_before = _called(step), _comparison(states, spec)
    ys, history = list[Any](), list[list[Tensor] | None]()
    state = unflatten(states, spec)
    for some in _inputs(xs, x_spec, reverse):
        for x_t in some:
            out = call(x_t, state, *extra)
            if type(out) is tuple and len(out) == 2 and type(out[0]) is Tensor and like_before(out[1]):
                y, state = out  # the commonest form
            else:
                y, after = split_output(out, spec)
                new, kind = flatten(after)
                check_next_state(states, new, B)
                state = after if kind is spec else unflatten(new, spec)
                leaves, y_spec = flatten(y)
                y = tuple(leaves)
            ys.append(y)
            if return_states:
                history.append(flatten(state)[0])
    if reverse:
        ys.reverse()
        history.reverse()
    last = [
        s.clone() for s in flatten(state)[0]
    ]  # a step may hand on what it was given: results alias nothing
    several = any(type(y) is tuple for y in ys)
    y_all = _stack([list(y) if type(y) is tuple else [y] for y in ys]) if several else [torch.stack(ys)]
    states_all = unflatten(_stack(history), spec) if return_states else None
    return ScanResult(unflatten(y_all, y_spec), unflatten(last, spec), states_all)


def _called(step: Callable[..., Any]) -> Callable[..., Any]:
    """The step; of a module what its call comes to, which looks at hooks each time."""
    if not isinstance(step, nn.Module) or type(step).__call__ is not nn.Module._wrapped_call_impl:
        return step
    compiled = step._compiled_call_impl is not None or torch.compiler.is_compiling()
    return step if compiled else step._call_impl


def _inputs(xs: list[Tensor], spec: TreeSpec, reverse: bool) -> Iterator[list[Any]]:
    """x_t of the steps in the order of processing, in lists.

    All slices are taken at once, which is faster, and whose gradient is one tensor. A step that writes in its x_t,
    which autograd does not take in such a slice, gets them one by one: the first step shows it.
    """
    T = xs[0].shape[0]
    order = list(range(T - 1, -1, -1) if reverse else range(T))

    def one_by_one(times: list[int]) -> list[Any]:
        return [unflatten([v[t] for v in xs], spec) for t in times]

    if torch.compiler.is_compiling() or any(
        v.is_inference() for v in xs
    ):  # these have no versions to look at
        yield one_by_one(order)
        return
    if torch.is_grad_enabled():
        before = [v._version for v in xs]
        yield one_by_one(order[:1])
        order = order[1:]
        if before != [v._version for v in xs]:
            yield one_by_one(order)
            return
    slices = [v.unbind(0) for v in xs]
    if spec is LEAF:
        (own,) = slices
        yield [own[t] for t in order]
    else:
        yield [unflatten([v[t] for v in slices], spec) for t in order]


def _comparison(states: list[Tensor], spec: TreeSpec) -> Callable[[Any], bool]:
    """Whether a next state is of tensors like these, alone or in a tuple, found out in half a microsecond."""
    shapes = [s.shape for s in states]
    if spec is LEAF:
        (shape,) = shapes
        return lambda after: type(after) is Tensor and after.shape == shape
    if spec.type is not tuple or not all(child.is_leaf() for child in spec.children()):
        return lambda after: False
    if len(states) == 2:
        one, other = shapes

        def pair(after: Any) -> bool:
            if type(after) is not tuple or len(after) != 2:
                return False
            a, b = after
            return type(a) is Tensor and type(b) is Tensor and a.shape == one and b.shape == other

        return pair

    def several(after: Any) -> bool:
        if type(after) is not tuple or len(after) != len(shapes):
            return False
        return False not in [type(s) is Tensor and s.shape == n for s, n in zip(after, shapes, strict=True)]

    return several


def _schedule(T: int, ends: list[int], reverse: bool) -> Iterator[tuple[int, list[int]]]:
    """(t, rows still going at t) in the order of processing; the first step always, to learn the structure of y."""
    order = range(T - 1, -1, -1) if reverse else range(T)
    changes = set(ends)  # between two of them the rows are the same
    rows: list[int] | None = None
    some = []
    for t in order:
        if rows is None or (t + 1 if reverse else t) in changes:
            rows = [b for b, n in enumerate(ends) if t < n]
        if rows:
            some.append((t, rows))
    return iter(some or [(0, [])])


def _apply_reset(
    states: list[Tensor], initial: list[Tensor], reset: Tensor | None, t: int, ends: list[int], reverse: bool
) -> list[Tensor]:
    if reset is None or (reverse and t + 1 >= reset.shape[0]):
        return states
    flags = reset[t + 1 if reverse else t].to(torch.bool)
    going = torch.tensor([t + (1 if reverse else 0) < n for n in ends], device=flags.device)
    flags = flags & going
    return [
        torch.where(flags.view(-1, *[1] * (s.dim() - 1)).to(s.device), i.to(s.dtype), s)
        for s, i in zip(states, initial, strict=True)
    ]


def _take(v: Tensor, index: Tensor | None) -> Tensor:
    return v if index is None else v.index_select(0, index)


def _put(old: Tensor, new: Tensor, index: Tensor | None) -> Tensor:
    if index is None:
        return new
    dtype = torch.promote_types(old.dtype, new.dtype)
    return old.to(dtype).index_copy(0, index, new.to(dtype))


def _spread(v: Tensor, index: Tensor | None, B: int) -> Tensor:
    """Rows put back at their places in the batch; zeros for the rows that have ended."""
    if index is None:
        return v
    return v.new_zeros(B, *v.shape[1:]).index_copy(0, index, v)


def _stack(steps: list[list[Tensor] | None]) -> list[Tensor]:
    """Leaves `(T, B, ...)` of the leaves of each step; zeros for a step that no row took."""
    some = next(s for s in steps if s is not None)
    blank = [torch.zeros_like(v) for v in some]
    columns = zip(*[s if s is not None else blank for s in steps], strict=True)
    return [torch.stack(list(column)) for column in columns]
