"""Splitting, stacking, turning, and windows into other tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from elman.engine.tracing.decompose.table import decomposes
from elman.engine.tracing.windows import Part, in_rows, window

aten = torch.ops.aten

MOST_COPIES = 64


@decomposes(aten.roll.default)
def _roll(t: Tensor, shifts: list[int], dims: list[int] | None = None) -> Any:
    """The end in front of the beginning."""
    if not dims:
        return NotImplemented
    for shift, dim in zip(shifts, dims, strict=True):
        n = t.shape[dim]
        if n == 0 or shift % n == 0:
            continue
        cut = n - shift % n
        t = aten.cat.default([aten.slice.Tensor(t, dim, cut, n), aten.slice.Tensor(t, dim, 0, cut)], dim)
    return aten.clone.default(t)


@decomposes(aten.split.Tensor, aten.unsafe_split.Tensor)
def _split(t: Tensor, size: int, dim: int = 0) -> list[Tensor]:
    n = t.shape[dim]
    return [aten.slice.Tensor(t, dim, i, min(i + size, n)) for i in range(0, n, size)]


@decomposes(aten.split_with_sizes.default, aten.unsafe_split_with_sizes.default)
def _split_with_sizes(t: Tensor, sizes: list[int], dim: int = 0) -> list[Tensor]:
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [aten.slice.Tensor(t, dim, end - size, end) for size, end in zip(sizes, ends, strict=True)]


@decomposes(aten.unbind.int)
def _unbind(t: Tensor, dim: int = 0) -> list[Tensor]:
    return [aten.select.int(t, dim, i) for i in range(t.shape[dim])]


@decomposes(aten.stack.default)
def _stack(tensors: list[Tensor], dim: int = 0) -> Tensor:
    return aten.cat.default([aten.unsqueeze.default(t, dim) for t in tensors], dim)


@decomposes(aten.t.default)
def _t(a: Tensor) -> Tensor:
    return aten.permute.default(a, [1, 0] if a.dim() == 2 else list(range(a.dim())))


@decomposes(aten.transpose.int)
def _transpose(a: Tensor, first: int, second: int) -> Tensor:
    order = list(range(a.dim()))
    order[first], order[second] = order[second], order[first]
    return aten.permute.default(a, order)


@decomposes(aten.repeat.default)
def _repeat(t: Tensor, times: list[int]) -> Any:
    """Copies side by side; those of a single element are an expansion."""
    new = len(times) - t.dim()
    sizes = [1] * new + list(t.shape)
    if any(k < 1 or k > MOST_COPIES for k in times) or all(
        n == 1 or k == 1 for n, k in zip(sizes, times, strict=True)
    ):
        return NotImplemented
    for _ in range(new):
        t = aten.unsqueeze.default(t, 0)
    for dim, k in enumerate(times):
        if k > 1:
            t = aten.cat.default([t] * k, dim)
    return t


def _triangle(t: Tensor, diagonal: int, cut: Any) -> Any:
    """A matrix of each row, by a mask without rows."""
    if t.dim() < 3:
        return NotImplemented
    kept = cut(aten.ones.default(t.shape[-2:], dtype=torch.bool, device=t.device), diagonal)
    return aten.masked_fill.Scalar(t, aten.logical_not.default(kept), 0)


@decomposes(aten.tril.default)
def _tril(t: Tensor, diagonal: int = 0) -> Any:
    return _triangle(t, diagonal, aten.tril.default)


@decomposes(aten.triu.default)
def _triu(t: Tensor, diagonal: int = 0) -> Any:
    return _triangle(t, diagonal, aten.triu.default)


@decomposes(aten.diagonal_scatter.default)
def _diagonal_scatter(t: Tensor, source: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """The main diagonal of a square matrix in the last two dimensions, by a mask without rows."""
    first, second = sorted((dim1 % t.dim(), dim2 % t.dim()))
    if offset or (first, second) != (t.dim() - 2, t.dim() - 1) or t.shape[first] != t.shape[second]:
        return NotImplemented
    place = aten.eye.default(t.shape[-1], dtype=torch.bool, device=t.device)
    return aten.where.self(place, aten.unsqueeze.default(source, -1), t)


@decomposes(aten.as_strided.default)
def _as_strided(t: Tensor, sizes: list[int], strides: list[int], offset: int | None = None) -> Any:
    """A window into a contiguous tensor, as autograd's backward of in-place writes makes it."""
    found = window(t, sizes, strides, int(t.storage_offset()) if offset is None else offset)
    if found is None:
        return NotImplemented
    parts, chosen = found
    whole, t = t, in_rows(t, strides)
    for d, (start, end, step) in enumerate(parts):
        if (start, end, step) != (0, t.shape[d], 1) and d != chosen:
            t = aten.slice.Tensor(t, d, start, end, step)
    if chosen is not None:
        return aten.select.int(t, chosen, parts[chosen][0])
    return t if t is not whole else aten.alias.default(t)


@decomposes(aten.as_strided_scatter.default)
def _as_strided_scatter(
    t: Tensor, source: Tensor, sizes: list[int], strides: list[int], offset: int | None = None
) -> Any:
    found = window(t, sizes, strides, int(t.storage_offset()) if offset is None else offset)
    if found is None:
        return NotImplemented
    parts, chosen = found
    shape, t = t.shape, in_rows(t, strides)
    cuts = [(d, p) for d, p in enumerate(parts) if p != (0, t.shape[d], 1) and d != chosen]
    place = None if chosen is None else (chosen, parts[chosen][0])
    return aten.view.default(_written(t, source, cuts, place), shape)


def _written(
    t: Tensor, source: Tensor, cuts: list[tuple[int, Part]], place: tuple[int, int] | None
) -> Tensor:
    """`t` with `source` in its parts, cut dimension by dimension, the selected one last."""
    if cuts:
        d, (start, end, step) = cuts[0]
        inner = aten.slice.Tensor(t, d, start, end, step)
        return aten.slice_scatter.default(t, _written(inner, source, cuts[1:], place), d, start, end, step)
    return source if place is None else aten.select_scatter.default(t, source, *place)
