"""Windows into contiguous tensors, as `as_strided` describes them, told as slices and selections."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

__all__ = ["in_rows", "window"]

aten = torch.ops.aten


def _starts(sizes: list[int], strides: list[int], base: Tensor, offset: int) -> list[int] | None:
    """Where a window of these sizes and strides begins in each dimension of a contiguous tensor."""
    starts = []
    for n, stride, whole, step in zip(sizes, strides, base.shape, base.stride(), strict=True):
        if stride != step and n != 1:
            return None
        starts.append(min(offset // step, whole - n))
        offset -= starts[-1] * step
    return starts if offset == 0 else None


def in_rows(base: Tensor, strides: list[int]) -> Tensor:
    """A flat contiguous tensor in the sizes that the strides of a window speak of."""
    if base.dim() != 1 or len(strides) < 2 or strides[-1] != 1 or any(a % b for a, b in pairwise(strides)):
        return base
    sizes = [base.shape[0] // strides[0], *(a // b for a, b in pairwise(strides))]
    return aten.view.default(base, sizes) if math.prod(sizes) == base.shape[0] else base


def window(
    base: Tensor, sizes: list[int], strides: list[int], offset: int | None
) -> tuple[list[int], int | None] | None:
    """(start in each dimension, dimension that is selected) of a window that is slices and at most one selection."""
    if not base.is_contiguous() or offset is None:
        return None
    base = in_rows(base, strides)
    if len(sizes) == base.dim():
        starts = _starts(sizes, strides, base, offset)
        return None if starts is None else (starts, None)
    if len(sizes) == base.dim() - 1:
        for d in range(base.dim()):
            wide = [*sizes[:d], 1, *sizes[d:]]
            starts = _starts(wide, [*strides[:d], base.stride(d), *strides[d:]], base, offset)
            if starts is not None:
                return starts, d
    return None
