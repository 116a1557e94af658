"""Where the elements of a row lie in a kernel's spaces, and what slicing, reshaping and broadcasting make of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from elman.engine.errors import NotSupported
from elman.engine.program.program import Rows, Value

__all__ = [
    "View",
    "broadcast",
    "common",
    "diagonal",
    "flipped",
    "reshaped",
    "row_shape",
    "row_strides",
    "selected",
    "sliced",
    "three_parts",
]

REG, IN, CTX, VEC, OUT, CARRY, CONST = range(7)


@dataclass(frozen=True, slots=True)
class View:
    """Elements of a row (or of a vector): where they begin in their space, and sizes and strides of each dimension."""

    space: int
    index: int
    offset: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def count(self) -> int:
        return math.prod(self.sizes)

    def dims(self) -> list[tuple[int, int]]:
        """(size, stride) with neighbours that run on as one merged and single elements left out."""
        merged: list[tuple[int, int]] = []
        for n, stride in zip(self.sizes, self.strides, strict=True):
            if n == 1:
                continue
            if merged and merged[-1][1] == n * stride:
                merged[-1] = (merged[-1][0] * n, stride)
            else:
                merged.append((n, stride))
        return merged

    @property
    def contiguous(self) -> bool:
        dims = self.dims()
        return not dims or (len(dims) == 1 and dims[0][1] == 1)

    def place(self) -> list[int]:
        return [self.space, self.index, self.offset]


def row_shape(v: Value) -> tuple[int, ...]:
    """Sizes of a value in one row."""
    return tuple(n.factor if isinstance(n, Rows) else n for n in v.shape)


def row_strides(sizes: Sequence[int]) -> tuple[int, ...]:
    """Strides of elements side by side."""
    strides, step = [], 1
    for n in reversed(sizes):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def broadcast(v: View, sizes: Sequence[int]) -> View:
    """The view with other sizes, repeated where it has a size of 1."""
    missing = len(sizes) - len(v.sizes)
    strides = [0] * missing
    for n, stride, want in zip(v.sizes, v.strides, sizes[missing:], strict=True):
        if n not in (want, 1):
            raise NotSupported(f"{v.sizes} does not broadcast to {tuple(sizes)}")
        strides.append(stride if n == want and n != 1 else 0)
    return replace(v, sizes=tuple(sizes), strides=tuple(strides))


def common(sizes: Sequence[int], strides: Sequence[Sequence[int]]) -> list[tuple[int, list[int]]]:
    """Dimensions of a joint walk, neighbours merged where all operands run on."""
    dims: list[tuple[int, list[int]]] = []
    for d, n in enumerate(sizes):
        if n == 1:
            continue
        here = [s[d] for s in strides]
        if dims and all(before == n * now for before, now in zip(dims[-1][1], here, strict=True)):
            dims[-1] = (dims[-1][0] * n, here)
        else:
            dims.append((n, here))
    return dims


def reshaped(v: View, sizes: tuple[int, ...]) -> tuple[int, ...] | None:
    """Strides of the same elements in other sizes; None where they must be written out first."""
    if v.space == CONST or v.count <= 1:
        return (0,) * len(sizes) if v.space == CONST else row_strides(sizes)
    dims = v.dims()
    strides: list[int] = []
    remaining = list(sizes)
    for n, stride in reversed(dims):
        taken, inner = 1, stride
        while taken < n:
            if not remaining:
                return None
            size = remaining.pop()
            if n % (taken * size):
                return None
            strides.append(inner)
            inner *= size
            taken *= size
    while remaining:
        if remaining.pop() != 1:
            return None
        strides.append(0)
    return tuple(reversed(strides))


def sliced(v: View, args: Sequence[Any]) -> View:
    """dim, start, end, step, as in aten.slice."""
    given = [*args, *(0, None, None, 1)[len(args) :]]
    dim, start, end, step = given
    dim %= len(v.sizes)
    begin, stop, step = slice(start, end, step).indices(v.sizes[dim])
    if v.sizes[dim] == 1 and (start or 0) == 0:
        return v
    n = max(0, -(-(stop - begin) // step))
    sizes = (*v.sizes[:dim], n, *v.sizes[dim + 1 :])
    strides = (*v.strides[:dim], v.strides[dim] * step, *v.strides[dim + 1 :])
    return replace(v, offset=v.offset + begin * v.strides[dim], sizes=sizes, strides=strides)


def selected(v: View, dim: int, index: int) -> View:
    """One place of a dimension, as in aten.select."""
    dim %= len(v.sizes)
    index %= v.sizes[dim]
    return replace(
        v, offset=v.offset + index * v.strides[dim], sizes=v.sizes[:dim] + v.sizes[dim + 1 :],
        strides=v.strides[:dim] + v.strides[dim + 1 :],
    )  # fmt: skip


def diagonal(v: View, offset: int = 0, dim1: int = 0, dim2: int = 1) -> View:
    """The diagonal of two dimensions as the last one, as in aten.diagonal."""
    rank = len(v.sizes)
    dim1, dim2 = dim1 % rank, dim2 % rank
    rows, columns, down, right = v.sizes[dim1], v.sizes[dim2], v.strides[dim1], v.strides[dim2]
    start = v.offset + (offset * right if offset > 0 else -offset * down)
    n = max(min(rows, columns - offset) if offset > 0 else min(rows + offset, columns), 0)
    kept = [d for d in range(rank) if d not in (dim1, dim2)]
    return replace(
        v, offset=start, sizes=(*(v.sizes[d] for d in kept), n),
        strides=(*(v.strides[d] for d in kept), down + right),
    )  # fmt: skip


def flipped(v: View, dims: Sequence[int]) -> View:
    """The last place of these dimensions first, as in aten.flip."""
    strides, offset = list(v.strides), v.offset
    for dim in dims:
        offset += (v.sizes[dim] - 1) * strides[dim]
        strides[dim] = -strides[dim]
    return replace(v, offset=offset, strides=tuple(strides))


def three_parts(v: View, gone: list[int]) -> tuple[tuple[int, int], ...] | None:
    """(size, stride) of what lies before, in and after the reduced dimensions, where each is one run."""
    first, last = gone[0], gone[-1]
    if gone != list(range(first, last + 1)):
        return None
    parts = []
    for a, b in ((0, first), (first, last + 1), (last + 1, len(v.sizes))):
        dims = View(0, 0, 0, v.sizes[a:b], v.strides[a:b]).dims()
        if len(dims) > 1:
            return None
        parts.append(dims[0] if dims else (1, 0))
    return tuple(parts)
