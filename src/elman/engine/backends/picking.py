"""Instructions that pick and place by indices, and that order: which lines they go over, and where these lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from elman.engine.backends.views import View, broadcast, common, row_shape, sliced
from elman.engine.errors import NotSupported
from elman.engine.program.program import Node, Value, refs

__all__ = ["PICKING", "is_index"]

_MOST_PARTS = 64


class Assembles(Protocol):
    """What is asked of the assembler."""

    def _operand(self, arg: Any) -> View: ...
    def _target(self, v: Value) -> View: ...
    def _register(self, sizes: tuple[int, ...]) -> View: ...
    def _copy(self, source: View, target: View) -> None: ...
    def _contiguous(self, view: View) -> View: ...
    def _emit(self, name: str, *numbers: int) -> None: ...


_INDEX = {"gather.default": 2, "index_select.default": 2, "embedding.default": 1, "scatter.src": 2, "scatter.value": 2,
          "scatter_add.default": 2, "index_add.default": 2}  # fmt: skip


def is_index(v: Value, nodes: Sequence[Node]) -> bool:
    """Whether a value is read as an index alone: one too large to be exact is no place either way."""
    readers = [n for n in nodes if any(u is v for u in refs(n))]
    return bool(readers) and all(
        n.op in _INDEX and n.args[_INDEX[n.op]] is v and sum(u is v for u in refs(n)) == 1 for n in readers
    )


def _last(view: View, dim: int) -> View:
    """The view with this dimension behind the others."""
    order = [d for d in range(len(view.sizes)) if d != dim] + [dim]
    return replace(
        view, sizes=tuple(view.sizes[d] for d in order), strides=tuple(view.strides[d] for d in order)
    )


def _axis(node: Node, position: int, rank: int, default: int = -1) -> int:
    dim = node.args[position] if len(node.args) > position else node.kwargs.get("dim", default)
    if not isinstance(dim, int) or not rank:
        raise NotSupported(f"{node.op} over all elements")
    return dim % rank


def _by_lines(asm: Assembles, name: str, out: Value, source: View, dim: int) -> None:
    """One number for each line along `dim`: the place of its largest or smallest element."""
    lines = asm._contiguous(_last(source, dim))
    n = lines.sizes[-1]
    asm._emit(name, lines.count // n, n, 1, *asm._target(out).place(), *lines.place(), n, 1, 0)


def place(asm: Assembles, node: Node, name: str) -> None:
    """argmax, argmin: (self, dim, keepdim)."""
    source = asm._operand(node.args[0])
    _by_lines(asm, name, node.outs[0], source, _axis(node, 1, len(source.sizes), None))  # type: ignore[arg-type]


def _pick(asm: Assembles, target: View, source: View, dim: int, index: View) -> None:
    """target[.., i, ..] = source[.., index[.., i, ..], ..] along `dim`; the other sizes of the source are at least
    those of the target."""
    n, step = source.sizes[dim], source.strides[dim]
    strides = tuple(0 if d == dim else s for d, s in enumerate(source.strides))
    dims = common(target.sizes, [target.strides, strides, index.strides])
    while len(dims) < 2:
        dims.insert(0, (1, [0, 0, 0]))
    *parts, (outer, so), (inner, si) = dims
    if (
        math.prod(k for k, _ in parts) > _MOST_PARTS
        or (si[0] != 1 and inner > 1)
        or (so[0] != inner and outer > 1)
    ):
        raise NotSupported("picking by an index over many strided dimensions")

    def emit(rest: Sequence[tuple[int, list[int]]], begin: list[int]) -> None:
        if rest:
            (k, step_of), *more = rest
            for i in range(k):
                emit(more, [b + i * s for b, s in zip(begin, step_of, strict=True)])
            return
        places = [
            replace(v, offset=v.offset + b).place()
            for v, b in zip((target, source, index), begin, strict=True)
        ]
        asm._emit(
            "gather", outer, n, inner, *places[0], *places[1], so[1], step, si[1], *places[2], so[2], 0, si[2]
        )

    emit(parts, [0, 0, 0])


def gather(asm: Assembles, node: Node, _: str) -> None:
    """(self, dim, index): an index for each place of the result."""
    source, index = asm._operand(node.args[0]), asm._operand(node.args[2])
    dim = _axis(node, 1, len(source.sizes))
    for d, n in enumerate(index.sizes):
        source = source if d == dim else sliced(source, (d, 0, n))
    _pick(asm, asm._target(node.outs[0]), source, dim, index)


def select(asm: Assembles, node: Node, _: str) -> None:
    """index_select: (self, dim, index), one index for each place along `dim`."""
    source, index = asm._operand(node.args[0]), asm._operand(node.args[2])
    dim = _axis(node, 1, len(source.sizes))
    _pick(asm, asm._target(node.outs[0]), source, dim, _along(index, dim, row_shape(node.outs[0])))


def _along(index: View, dim: int, sizes: tuple[int, ...]) -> View:
    """One index for each place along a dimension, the same whatever the others."""
    rank = len(sizes)
    flat = replace(
        index, sizes=tuple(sizes[d] if d == dim else 1 for d in range(rank)),
        strides=tuple(index.strides[0] if index.strides and d == dim else 0 for d in range(rank)),
    )  # fmt: skip
    return broadcast(flat, sizes)


def embedding(asm: Assembles, node: Node, _: str) -> None:
    """(table, indices): a row of the table for each index."""
    table, index = asm._operand(node.args[0]), asm._contiguous(asm._operand(node.args[1]))
    n, width = table.sizes
    asm._emit("gather", index.count, n, width, *asm._target(node.outs[0]).place(), *table.place(), 0, *table.strides,
              *index.place(), 1, 0, 0)  # fmt: skip


def _place(asm: Assembles, name: str, out: Value, base: View, dim: int, values: View, index: View) -> None:
    """The base with values at some places along `dim`."""
    for d, n in enumerate(base.sizes):
        if d != dim and index.sizes[d] != n:
            raise NotSupported("placing by an index that is smaller than what it goes into")
    base, index = asm._contiguous(_last(base, dim)), asm._contiguous(_last(index, dim))
    values = asm._contiguous(_last(broadcast(values, values.sizes), dim))
    n, k, target = base.sizes[-1], index.sizes[-1], asm._target(out)
    whole = target if dim == len(target.sizes) - 1 else asm._register(base.sizes)
    asm._emit(name, base.count // n, k, n, *whole.place(), *base.place(), n, 0, 1, *values.place(), k, 1, 0,
              *index.place(), k, 1, 0)  # fmt: skip
    if whole is not target:
        asm._copy(whole, _last(target, dim))


def scatter(asm: Assembles, node: Node, name: str) -> None:
    """(self, dim, index, values or one number)."""
    base, index = asm._operand(node.args[0]), asm._operand(node.args[2])
    dim, given = _axis(node, 1, len(base.sizes)), asm._operand(node.args[3])
    if isinstance(node.args[3], Value):
        for d, n in enumerate(index.sizes):
            given = sliced(given, (d, 0, n))
    else:
        given = broadcast(given, index.sizes)
    _place(asm, name, node.outs[0], base, dim, given, index)


def add_at(asm: Assembles, node: Node, _: str) -> None:
    """index_add: (self, dim, index, values), one index for each place along `dim`."""
    base, values = asm._operand(node.args[0]), asm._operand(node.args[3])
    dim = _axis(node, 1, len(base.sizes))
    if node.kwargs.get("alpha", 1) != 1:
        raise NotSupported("index_add with a factor")
    index = _along(asm._operand(node.args[2]), dim, values.sizes)
    _place(asm, "scatter_add", node.outs[0], base, dim, values, index)


def order(asm: Assembles, node: Node, _: str) -> None:
    """sort: (self, stable, dim, descending) -> values, places; topk: (self, k, dim, largest, sorted)."""
    source, (values, places) = asm._operand(node.args[0]), node.outs
    top, rank = node.op.startswith("topk"), len(source.sizes)
    named = dict(zip(("dim", "largest", "sorted"), node.args[2:], strict=False)) | node.kwargs
    if not (top or named.get("stable")):
        raise NotSupported("a sort that leaves the order of equal elements open (stable=True does not)")
    dim = int(named.get("dim", -1)) % max(rank, 1)
    lines = asm._contiguous(_last(source, dim))
    n, k = lines.sizes[-1], row_shape(places)[dim]
    outer, down = (
        lines.count // n,
        bool(named.get("largest", True) if top else named.get("descending", False)),
    )
    target = asm._target(places)
    whole = target if dim == rank - 1 else asm._register((*lines.sizes[:-1], k))
    flags = [*asm._operand(float(down)).place(), 0, 0, 0]
    if top:
        in_order = [*asm._operand(float(named.get("sorted", True))).place(), 0, 0, 0]
        asm._emit("top", outer, n, k, *whole.place(), *lines.place(), n, 1, 0, *flags, *in_order)
    else:
        asm._emit("order", outer, 1, n, *whole.place(), *lines.place(), n, 0, 1, *flags)
    if whole is not target:
        asm._copy(whole, _last(target, dim))
    _pick(asm, asm._target(values), source, dim, target)


PICKING: dict[str, Callable[[Any, Node, str], None]] = {
    "place": place,
    "gather": gather,
    "index_select": select,
    "embedding": embedding,
    "scatter": scatter,
    "index_add": add_at,
    "order": order,
}
