"""Windows into contiguous tensors, as `as_strided` describes them, told as slices and selections."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

__all__ = ["Part", "in_rows", "window"]

aten = torch.ops.aten


Part = tuple[int, int, int]  # start, end, step, of a dimension


def _parts(sizes: list[int], strides: list[int], base: Tensor, offset: int) -> list[Part] | None:
    """What a window of these sizes and strides takes of each dimension of a contiguous tensor."""
    parts = []
    for n, stride, whole, one in zip(sizes, strides, base.shape, base.stride(), strict=True):
        step = 1 if n == 1 else stride // one
        if n < 1 or step < 1 or (n > 1 and stride % one):
            return None
        length = (n - 1) * step + 1
        start = min(offset // one, whole - length)
        if start < 0:
            return None
        parts.append((start, start + length, step))
        offset -= start * one
    return parts if offset == 0 else None


def in_rows(base: Tensor, strides: list[int]) -> Tensor:
    """A contiguous tensor of fewer dimensions in the sizes that the strides of a window speak of."""
    fewer = 0 < base.dim() < len(strides)
    if not fewer or strides[-1] != 1 or 0 in strides or any(a % b for a, b in pairwise(strides)):
        return base
    sizes = [base.numel() // strides[0], *(a // b for a, b in pairwise(strides))]
    return aten.view.default(base, sizes) if math.prod(sizes) == base.numel() else base


def window(
    base: Tensor, sizes: list[int], strides: list[int], offset: int | None
) -> tuple[list[Part], int | None] | None:
    """(part of each dimension, dimension that is selected) of a window that is slices and at most one selection."""
    if not base.is_contiguous() or offset is None:
        return None
    base = in_rows(base, strides)
    if len(sizes) == base.dim():
        parts = _parts(sizes, strides, base, offset)
        return None if parts is None else (parts, None)
    if len(sizes) == base.dim() - 1:
        for d in range(base.dim()):
            wide = [*sizes[:d], 1, *sizes[d:]]
            parts = _parts(wide, [*strides[:d], base.stride(d), *strides[d:]], base, offset)
            if parts is not None:
                return parts, d
    return None
