"""The battery's own oracle: the recurrence written out step by step and row by row. It knows nothing of the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree


class Unfolded(NamedTuple):
    """y, final state and all-step states, as `elman.engine.ScanResult`."""

    y: Any
    state: Any
    states: Any


def unfold(
    step: Callable[..., Any],
    x: Any,
    state: Any,
    *,
    context: Any = None,
    initial_state: Any = None,
    lengths: Tensor | None = None,
    reset: Tensor | None = None,
    reverse: bool = False,
) -> Unfolded:
    """The definition. At step t the rows with t < length are put together and handed to `step`; the others hold."""
    T, B = pytree.tree_leaves(x)[0].shape[:2]
    ends = [T] * B if lengths is None else lengths.tolist()
    if initial_state is None:
        initial_state = pytree.tree_map(torch.zeros_like, state)
    ys: list[Any] = [None] * T
    states: list[Any] = [None] * T
    for t in reversed(range(T)) if reverse else range(T):
        rows = [b for b in range(B) if t < ends[b]]
        if not rows:
            continue
        state = _reset(state, initial_state, _flagged(reset, t + 1 if reverse else t, ends))
        x_t = pytree.tree_map(lambda leaf: _pick(leaf[t], rows), x)  # noqa: B023 - used at once
        given = [x_t, pytree.tree_map(lambda leaf: _pick(leaf, rows), state)]  # noqa: B023
        if context is not None:
            given.append(pytree.tree_map(lambda leaf: _pick(leaf, rows), context))  # noqa: B023
        y, new = _both(step(*given), state)
        ys[t] = pytree.tree_map(lambda leaf: _spread(leaf, rows, [None] * B), y)  # noqa: B023
        states[t] = pytree.tree_map(lambda leaf: _spread(leaf, rows, [None] * B), new)  # noqa: B023
        state = pytree.tree_map(lambda leaf, old: _spread(leaf, rows, list(old)), new, state)  # noqa: B023
    return Unfolded(_stack(ys), state, _stack(states))


def _flagged(reset: Tensor | None, t: int, ends: list[int]) -> list[int]:
    if reset is None or t >= reset.shape[0]:
        return []
    return [b for b, end in enumerate(ends) if t < end and bool(reset[t, b])]


def _reset(state: Any, initial: Any, rows: list[int]) -> Any:
    if not rows:
        return state
    return pytree.tree_map(
        lambda s, i: torch.stack([i[b].to(s.dtype) if b in rows else s[b] for b in range(s.shape[0])]),
        state,
        initial,
    )


def _pick(leaf: Tensor, rows: list[int]) -> Tensor:
    return leaf if len(rows) == leaf.shape[0] else torch.stack([leaf[b] for b in rows])


def _both(out: Any, state: Any) -> tuple[Any, Any]:
    """(y, next state): a step that returns only the state gives its first tensor as y."""
    if pytree.tree_structure(out) == pytree.tree_structure(state):
        return pytree.tree_leaves(out)[0], out
    y, new = out
    return y, new


def _spread(leaf: Tensor, rows: list[int], others: list[Tensor | None]) -> Tensor:
    """Each row at its place in the batch; the others: what they were, or zero."""
    B = len(others)
    if len(rows) == B:
        return leaf
    zero = torch.zeros_like(leaf[0])
    return torch.stack(
        [leaf[rows.index(b)] if b in rows else (zero if others[b] is None else others[b]) for b in range(B)]
    )


def _stack(steps: list[Any]) -> Any:
    """Leaves (T, B, ...); zero at a step that no row took."""
    some = next((s for s in steps if s is not None), None)
    if some is None:
        return None
    blank = pytree.tree_map(torch.zeros_like, some)
    return pytree.tree_map(lambda *leaves: torch.stack(leaves), *[blank if s is None else s for s in steps])
