"""Picking and writing by indices: where these are numbers that stand in the step, by slices; by masks, as a choice.

An index that is a constant of the step comes as the list of its numbers (see `BY_NUMBERS`), any other as a tensor.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from elman.engine.tracing.decompose.table import decomposes

__all__ = ["BY_NUMBERS"]

aten = torch.ops.aten
# Operations that are told the numbers of their constant indices.
BY_NUMBERS = {aten.index.Tensor, aten.index_put.default, aten.index_select.default, aten.index_add.default}
_MOST_PARTS = 64


def _only(indices: list[Any]) -> tuple[int, Any] | None:
    """(dimension, index) where there is one index."""
    given = [(d, i) for d, i in enumerate(indices) if i is not None]
    return given[0] if len(given) == 1 else None


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """(first, behind the last) of stretches that go up by one."""
    starts = [0, *(k + 1 for k, (a, b) in enumerate(pairwise(numbers)) if b != a + 1)]
    ends = [*starts[1:], len(numbers)]
    return [(numbers[a], numbers[b - 1] + 1) for a, b in zip(starts, ends, strict=True)]


def _picked(t: Tensor, dim: int, numbers: list[int]) -> Any:
    """`t` at some places of a dimension."""
    n = t.shape[dim]
    places = [i % n for i in numbers] if n else []
    if not places or len(runs := _runs(places)) > _MOST_PARTS:
        return NotImplemented
    parts = [aten.slice.Tensor(t, dim, a, b) for a, b in runs]
    return parts[0] if len(parts) == 1 else aten.cat.default(parts, dim)


def _placed(t: Tensor, dim: int, numbers: list[int], values: Tensor) -> Any:
    """`t` with `values` at some places of a dimension; at a place that is named twice the later one."""
    n, k = t.shape[dim], len(numbers)
    last = {i % n: j for j, i in enumerate(numbers)}
    both = aten.cat.default([t, values], dim)  # places of t, then those of values
    found = _picked(both, dim, [n + last[i] if i in last else i for i in range(n)])
    return found if k else t


def _added(t: Tensor, dim: int, numbers: list[int], values: Tensor) -> Any:
    """`t` with `values` added at some places of a dimension, one after the other where a place is named twice."""
    n = t.shape[dim]
    left = list(enumerate(i % n for i in numbers))
    while left:
        first = {place: j for j, place in reversed(left)}
        places = list(first)
        old, new = _picked(t, dim, places), _picked(values, dim, list(first.values()))
        if old is NotImplemented or new is NotImplemented:
            return NotImplemented
        t = _placed(t, dim, places, aten.add.Tensor(old, new))
        if t is NotImplemented:
            return NotImplemented
        left = [(j, place) for j, place in left if first[place] != j]
    return t


@decomposes(aten.index.Tensor)
def _index(t: Tensor, indices: list[Any]) -> Any:
    found = _only(indices)
    if found is None:
        return NotImplemented
    d, index = found
    if isinstance(index, list):
        return _picked(t, d, index)
    if index.dtype != torch.int64 or not t.dim():
        return NotImplemented
    if d == 0:  # rows of a table, by indices of any shape
        found = aten.embedding.default(
            aten.reshape.default(t, [n := t.shape[0], -1]), _from_the_front(index, n)
        )
        return aten.reshape.default(found, [*index.shape, *t.shape[1:]])
    return (
        aten.index_select.default(t, d, _from_the_front(index, t.shape[d]))
        if index.dim() == 1
        else NotImplemented
    )


def _from_the_front(index: Tensor, n: int) -> Tensor:
    """Indices that may count from the end."""
    return aten.where.self(aten.lt.Scalar(index, 0), aten.add.Scalar(index, n), index)


def _with_place(value: Any, place: Any) -> Any:
    def taken_apart(t: Tensor, dim: int, keepdim: bool = False) -> Any:
        """The value and where it is, the first of equal ones."""
        if not t.dtype.is_floating_point or not t.dim():
            return NotImplemented
        return value(t, [dim], keepdim), place(t, dim, keepdim)

    return taken_apart


decomposes(aten.max.dim)(_with_place(aten.amax.default, aten.argmax.default))
decomposes(aten.min.dim)(_with_place(aten.amin.default, aten.argmin.default))


@decomposes(aten.index_select.default)
def _index_select(t: Tensor, dim: int, index: Any) -> Any:
    return _picked(t, dim % max(t.dim(), 1), index) if isinstance(index, list) and t.dim() else NotImplemented


@decomposes(aten.index_add.default)
def _index_add(t: Tensor, dim: int, index: Any, source: Tensor, *, alpha: float = 1) -> Any:
    if not isinstance(index, list) or alpha != 1 or not t.dim():
        return NotImplemented
    return _added(t, dim % t.dim(), index, source)


@decomposes(aten.index_put.default)
def _index_put(t: Tensor, indices: list[Any], values: Tensor, accumulate: bool = False) -> Any:
    """`t[mask] = number`, `t[:, [2, 0]] = u`, and the gradient of `t[:, [2, 0, 1]]`."""
    found = _only(indices)
    if found is None:
        return NotImplemented
    d, index = found
    if isinstance(index, list):
        values = aten.expand.default(values, [*t.shape[:d], len(index), *t.shape[d + 1 :]])
        return (_added if accumulate else _placed)(t, d, index, values)
    if index.dtype == torch.bool:
        return NotImplemented if accumulate or values.dim() else _masked(t, d, index, values)
    if accumulate and d == 0 and index.dtype == torch.int64 and values.shape == (*index.shape, *t.shape[1:]):
        return _added_to_rows(t, index, values)
    sizes = [*t.shape[:d], index.shape[0] if index.dim() == 1 else -1, *t.shape[d + 1 :]]
    if not accumulate or index.dtype != torch.int64 or list(values.shape) != sizes:
        return NotImplemented
    return aten.index_add.default(t, d, _from_the_front(index, t.shape[d]), values)


def _added_to_rows(t: Tensor, index: Tensor, values: Tensor) -> Tensor:
    """The gradient of `t[index]`, on top of `t`."""
    n = t.shape[0]
    flat = aten.reshape.default(values, [*index.shape, -1])
    found = aten.embedding_dense_backward.default(flat, _from_the_front(index, n), n, -1, False)
    return aten.add.Tensor(t, aten.reshape.default(found, t.shape))


def _masked(t: Tensor, dim: int, mask: Tensor, number: Tensor) -> Any:
    """`t` with a number where the mask, which speaks of the dimensions from `dim` on, is true."""
    if t.shape[dim : dim + mask.dim()] != mask.shape:
        return NotImplemented
    for _ in range(t.dim() - dim - mask.dim()):
        mask = aten.unsqueeze.default(mask, -1)
    return aten.where.self(mask, number, t)


@decomposes(aten.fill.Tensor)
def _fill(t: Tensor, number: Tensor) -> Tensor:
    """`t[...] = number`: the number at each place."""
    if number.dtype != t.dtype:
        number = aten._to_copy.default(number, dtype=t.dtype)
    return aten.expand.default(number, t.shape)
