"""A loop section becomes a kernel of the native core: values get places in its spaces, nodes become instructions.

Every value of a row is a strided view (`View`) of a place, so slices, chunks, transposes and broadcasts cost nothing.
The batch axis keeps its dimension, with the size it has in one row (its factor, mostly 1).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from elman.engine.backends.fuse import Fusions
from elman.engine.backends.integers import Ranges, bounded_integers
from elman.engine.backends.picking import PICKING, is_index
from elman.engine.backends.views import (
    CARRY,
    CONST,
    CTX,
    IN,
    OUT,
    REG,
    VEC,
    View,
    broadcast,
    common,
    diagonal,
    flipped,
    reshaped,
    row_shape,
    row_strides,
    selected,
    sliced,
    three_parts,
)
from elman.engine.errors import NotSupported
from elman.engine.program.ops import OPS
from elman.engine.program.program import Node, Section, Value, refs

__all__ = ["Assembler", "Code"]


@dataclass(slots=True)
class Code:
    """A kernel's parts, and which Values its arrays are."""

    dtype: torch.dtype
    widths: list[list[int]] = field(default_factory=lambda: [[] for _ in range(6)])
    instructions: list[list[int]] = field(default_factory=list)
    consts: list[float] = field(default_factory=list)
    commits: list[list[int]] = field(default_factory=list)
    weights: list[tuple[Value, bool]] = field(default_factory=list)  # transposed?
    rows: list[Value] = field(default_factory=list)
    contexts: list[Value] = field(default_factory=list)
    vectors: list[Value | torch.Tensor] = field(default_factory=list)
    outs: dict[str, int] = field(default_factory=dict)
    weight_sizes: list[tuple[int, int]] = field(default_factory=list)


class Assembler:
    """Builds the code of one loop section. `kinds` says of each value from outside what it is (see `execute.kind`),
    `integers` which are exact (see `integers_of`)."""

    def __init__(
        self, section: Section, carries: Sequence[Value], kinds: Callable[[Value], str], dtype: torch.dtype,
        opcodes: dict[str, tuple[int, int]], integers: Ranges | None = None,
    ) -> None:  # fmt: skip
        self.section, self.kinds, self.opcodes = section, kinds, opcodes
        self.code = Code(dtype)
        self.integers = bounded_integers(section.nodes, dtype, dict(integers or {}))
        self.views: dict[Value, View] = {}
        self.constants: dict[str, int] = {}
        self.vector_of: dict[Value, View] = {}
        self.carry_of = {v: j for j, v in enumerate(carries)}
        self.made_by = {o: n for n in section.nodes for o in n.outs}
        self.uses = Counter(v for n in section.nodes for v in refs(n))
        for v in carries:
            self.code.widths[CARRY].append(math.prod(row_shape(v)))
            self._check_dtype(v)

    # -- the whole

    def run(
        self, stores: Sequence[tuple[str, Value]], commits: Sequence[tuple[int, Value]], read: Sequence[Value],
        zero: Sequence[int] = (),
    ) -> Code:  # fmt: skip
        """Assemble. stores: (name of the array, value) to be written at each step; commits: (carry, value);
        read: values
        that something beside the nodes reads; zero: carries that become zero."""
        self.stores: dict[Value, str] = {}
        copies: list[tuple[str, Value]] = []
        for name, v in stores:
            if v in self.made_by and v not in self.stores:
                self.stores[v] = name
            else:
                copies.append((name, v))
        self.uses.update(read)
        self.fusions = Fusions(self.section, self.made_by, self.uses, self.stores, self.code.dtype)
        early = [(name, v) for name, v in copies if v in self.carry_of]
        self._store(early)
        for node in self.section.nodes:
            self._node(node)
        for v, name in self.stores.items():
            if name not in self.code.outs:
                self._store([(name, v)])
        self._store([c for c in copies if c not in early])
        for carry, v in commits:
            self._commit(carry, v)
        for carry in zero:
            width = self.code.widths[CARRY][carry]
            nothing = self._materialize(replace(self._const(0.0), sizes=(width,), strides=(0,)))
            self.code.commits.append([carry, *nothing.place()])
        return self.code

    def _store(self, copies: Sequence[tuple[str, Value]]) -> None:
        for name, v in copies:
            source = self._view(v)
            self._copy(source, self._out(name, source.sizes))

    def _commit(self, carry: int, v: Value) -> None:
        if self.carry_of.get(v) == carry:
            return
        view = self._view(v)
        if not view.contiguous or view.space == CONST:
            view = self._materialize(view)
        self.code.commits.append([carry, *view.place()])

    # -- places

    def _is_foreign(self, v: Value) -> bool:
        return v.dtype not in (self.code.dtype, torch.bool) and v not in self.integers

    def _check_dtype(self, v: Value) -> None:
        if self._is_foreign(v):
            raise NotSupported(f"a value of {v.dtype} in the loop")

    def _view(self, v: Value) -> View:
        view = self.views.get(v)
        if view is None:
            view = self.views[v] = self._outside(v)
        return view

    def _outside(self, v: Value) -> View:
        """The place of a value that the section takes from outside."""
        # a static integer enters as a number, which is what it becomes beside floats
        if self.kinds(v) != "static" and self._is_foreign(v) and not is_index(v, self.section.nodes):
            self._check_dtype(v)
        sizes = row_shape(v)
        if v in self.carry_of:
            return View(CARRY, self.carry_of[v], 0, sizes, row_strides(sizes))
        what = self.kinds(v)
        if what == "static":
            return self._vector(v, sizes)
        if v.axis != 0:
            raise NotSupported("the batch is not the first axis of a value that enters the loop")
        space, values = (CTX, self.code.contexts) if what == "context" else (IN, self.code.rows)
        values.append(v)
        self.code.widths[space].append(math.prod(sizes))
        return View(space, len(values) - 1, 0, sizes, row_strides(sizes))

    def _vector(self, v: Value | torch.Tensor, sizes: tuple[int, ...]) -> View:
        self.code.vectors.append(v)
        self.code.widths[VEC].append(max(math.prod(sizes), 1))
        return View(VEC, len(self.code.vectors) - 1, 0, sizes, row_strides(sizes))

    def _register(self, sizes: tuple[int, ...]) -> View:
        self.code.widths[REG].append(math.prod(sizes))
        return View(REG, len(self.code.widths[REG]) - 1, 0, sizes, row_strides(sizes))

    def _out(self, name: str, sizes: tuple[int, ...]) -> View:
        self.code.outs[name] = len(self.code.widths[OUT])
        self.code.widths[OUT].append(math.prod(sizes))
        return View(OUT, self.code.outs[name], 0, sizes, row_strides(sizes))

    def _target(self, v: Value) -> View:
        """Where a node's result goes: its array, its part of a join, or a register."""
        self._check_dtype(v)
        sizes = row_shape(v)
        if v in self.fusions.placed:
            whole, start = self.fusions.placed[v]
            base = self.views.get(whole) or self._made(whole)
            return self._set(v, View(base.space, base.index, base.offset + start, sizes, row_strides(sizes)))
        return self._made(v)

    def _made(self, v: Value) -> View:
        sizes = row_shape(v)
        return self._set(v, self._out(self.stores[v], sizes) if v in self.stores else self._register(sizes))

    def _set(self, v: Value, view: View) -> View:
        self.views[v] = view
        return view

    def _const(self, number: float) -> View:
        key = repr(float(number))  # tells -0.0 from 0.0, and NaN from nothing
        if key not in self.constants:
            self.constants[key] = len(self.code.consts)
            self.code.consts.append(float(number))
        return View(CONST, self.constants[key], 0, (), ())

    # -- instructions

    def _emit(self, name: str, *numbers: int) -> None:
        if name not in self.opcodes:
            raise NotSupported(f"this core has no {name}: it was built from other sources")
        self.code.instructions.append([self.opcodes[name][0], *numbers])

    def _elementwise(self, name: str, target: View, sources: Sequence[View]) -> None:
        """One instruction over at most two dimensions; sources that need more are written out first."""
        sources = [broadcast(s, target.sizes) for s in sources]
        dims = common(target.sizes, [target.strides, *(s.strides for s in sources)])
        if len(dims) > 2:
            sources = [s if s.contiguous else self._materialize(s) for s in sources]
            dims = common(target.sizes, [target.strides, *(s.strides for s in sources)])
        if len(dims) > 2:
            raise NotSupported("an element-wise operation over more than two strided dimensions")
        while len(dims) < 2:
            dims.insert(0, (1, [0] * (len(sources) + 1)))
        (outer, so), (inner, si) = dims
        operands = []
        for i, v in enumerate((target, *sources)):
            operands += [*v.place(), so[i], si[i]]
        self._emit(name, outer, inner, *operands)

    def _copy(self, source: View, target: View) -> None:
        source = broadcast(source, target.sizes)
        dims = common(target.sizes, [target.strides, source.strides])
        if len(dims) <= 2:
            return self._elementwise("copy", target, [source])
        if len(dims) > 5:
            raise NotSupported("a copy over more than five strided dimensions")
        sizes = [n for n, _ in dims]
        self._emit("permute", len(dims), *sizes, *target.place(), *[s[0] for _, s in dims], *source.place(),
                   *[s[1] for _, s in dims])  # fmt: skip
        return None

    def _materialize(self, view: View) -> View:
        target = self._register(view.sizes)
        self._copy(view, target)
        return target

    def _contiguous(self, view: View) -> View:
        return view if view.contiguous and view.space != CONST else self._materialize(view)

    def _operand(self, arg: Any) -> View:
        return self._view(arg) if isinstance(arg, Value) else self._const(arg)

    # -- nodes

    def _node(self, node: Node) -> None:
        if id(node) in self.fusions.swallowed:
            return None
        if id(node) in self.fusions.started:
            return self._product_from(node, self.fusions.started[id(node)])
        if id(node) in self.fusions.norms:
            return self._norm(node, *self.fusions.norms[id(node)])
        if id(node) in self.fusions.means:
            return self._mean(node, *self.fusions.means[id(node)])
        if id(node) in self.fusions.chained:
            return self._chain(node, *self.fusions.chained[id(node)])
        native = OPS[node.op].native if node.op in OPS else None
        if native is None:
            raise NotSupported(f"{node.op} has no native instruction")
        if native[0] == "elementwise":
            self._pointwise(node, native[1])
        elif native[0] in PICKING:
            PICKING[native[0]](self, node, native[1])
        else:
            getattr(self, f"_{native[0]}")(node, native[1])
        return None

    def _pointwise(self, node: Node, name: str) -> None:
        out = node.outs[0]
        if node.op == "elman.convert":
            return self._convert(node)
        sources = [self._operand(a) for a in node.args]
        if node.op == "pow.Scalar":
            sources = [self._const(node.args[0]), self._operand(node.args[1])]
        if any(isinstance(a, Value) and a.dtype == torch.bool for a in node.args) and name in ("neg", "sub"):
            raise NotSupported(f"{node.op} of booleans")
        return self._elementwise(name, self._target(out), sources)

    def _chain(self, node: Node, name: str, product: Node, place: int) -> None:
        if name == "reduce_dot":
            return self._dot(node.outs[0], name, product)
        factors = [self._operand(a) for a in product.args]
        return self._elementwise(
            name, self._target(node.outs[0]), [*factors, self._operand(node.args[1 - place])]
        )

    def _dot(self, out: Value, name: str, product: Node, numbers: Sequence[float] = ()) -> None:
        a, b = (self._contiguous(self._operand(v)) for v in product.args)
        target, red = self._target(out), a.sizes[-1]
        self._emit(
            name, a.count // max(red, 1), red, 1, *target.place(), *a.place(), red, 1, 0, *b.place(), red, 1, 0,
            *self._numbers(numbers),
        )  # fmt: skip

    def _mean(self, node: Node, name: str, of: Node, numbers: Sequence[float]) -> None:
        if name == "reduce_mean":
            return self._reduce(of, name, node.outs[0], numbers)
        return self._dot(node.outs[0], name, of, numbers)

    def _norm(self, node: Node, name: str, args: Sequence[Any], numbers: Sequence[float]) -> None:
        if name == "sub_scaled":
            return self._elementwise(name, self._target(node.outs[0]), [self._operand(v) for v in args])
        whole, rest = self._contiguous(self._operand(args[0])), [self._operand(v) for v in args[1:]]
        size, target = whole.sizes[-1], self._target(node.outs[0])
        lines = whole.count // max(size, 1)
        if name == "deviation_rstd":
            mean = self._contiguous(rest[0]).place()
            sources = [*whole.place(), size, 1, 0, *mean, 1, 0, 0, *self._numbers(numbers)]
            return self._emit(name, lines, size, 1, *target.place(), *sources)
        gain, y, r = rest
        gains = [*gain.place(), 0, 0] if gain.space == CONST else [*self._contiguous(gain).place(), 0, 1]
        sources = [*whole.place(), size, 1, *gains, *self._contiguous(y).place(), size, 1]
        return self._emit(
            name, lines, size, *target.place(), size, 1, *sources, *self._contiguous(r).place(), 1, 0
        )

    def _numbers(self, numbers: Sequence[float]) -> list[int]:
        """The last sources of a reduction."""
        return [word for number in numbers for word in (*self._const(number).place(), 0, 0, 0)]

    def _convert(self, node: Node) -> None:
        source, out = self._view(node.args[0]), node.outs[0]
        self._check_dtype(out)
        if out.dtype == torch.bool and node.args[0].dtype != torch.bool:
            return self._elementwise("ne", self._target(out), [source, self._const(0)])
        if out in self.fusions.placed or out in self.stores:
            return self._copy(source, self._target(out))
        self._set(out, source)
        return None

    def _clamp(self, node: Node, _: str) -> None:
        x, low, high = (*node.args, None, None)[:3]
        low, high = node.kwargs.get("min", low), node.kwargs.get("max", high)
        if low is not None and high is not None:
            operands = [self._operand(a) for a in (x, low, high)]
            return self._elementwise("clamp", self._target(node.outs[0]), operands)
        name, bound = ("maximum", low) if low is not None else ("minimum", high)
        return self._elementwise(name, self._target(node.outs[0]), [self._operand(x), self._operand(bound)])

    def _threshold_backward(self, node: Node, _: str) -> None:
        grad, x, threshold = node.args
        if threshold != 0:
            raise NotSupported("threshold_backward with a threshold that is not 0")
        self._elementwise(
            "threshold_backward0", self._target(node.outs[0]), [self._view(grad), self._view(x)]
        )

    def _masked_fill(self, node: Node, _: str) -> None:
        x, mask, number = node.args
        operands = [self._operand(a) for a in (mask, number, x)]
        self._elementwise("where", self._target(node.outs[0]), operands)

    def _alias(self, node: Node, view: View) -> None:
        self._check_dtype(node.outs[0])
        self._set(node.outs[0], view)

    def _reshape(self, node: Node, _: str) -> None:
        v, sizes = self._view(node.args[0]), row_shape(node.outs[0])
        strides = reshaped(v, sizes)
        if strides is None:
            v, strides = self._materialize(v), row_strides(sizes)
        self._alias(node, replace(v, sizes=sizes, strides=strides))

    def _permute(self, node: Node, _: str) -> None:
        v = self._view(node.args[0])
        order = [d % len(v.sizes) for d in node.args[1]]
        self._alias(
            node,
            replace(v, sizes=tuple(v.sizes[d] for d in order), strides=tuple(v.strides[d] for d in order)),
        )

    def _flip(self, node: Node, _: str) -> None:
        self._alias(node, flipped(self._view(node.args[0]), node.args[1]))

    def _expand(self, node: Node, _: str) -> None:
        self._alias(node, broadcast(self._view(node.args[0]), row_shape(node.outs[0])))

    def _slice(self, node: Node, _: str) -> None:
        self._alias(node, sliced(self._view(node.args[0]), node.args[1:]))

    def _select(self, node: Node, _: str) -> None:
        self._alias(node, selected(self._view(node.args[0]), node.args[1], node.args[2]))

    def _cat(self, node: Node, _: str) -> None:
        out = node.outs[0]
        target = self.views.get(out) or self._target(out)
        dim = (node.args[1] if len(node.args) > 1 else 0) % len(target.sizes)
        start = 0
        for part in node.args[0]:
            source = self._view(part)
            n = source.sizes[dim]
            if self.fusions.placed.get(part) != (out, start):  # not, or for another place of this join
                self._copy(source, sliced(target, (dim, start, start + n)))
            start += n

    def _slice_backward(self, node: Node, _: str) -> None:
        target = self._zeroed(node)
        self._copy(self._view(node.args[0]), sliced(target, node.args[2:]))

    def _pad(self, node: Node, _: str) -> None:
        pads, number = node.args[1], node.args[2] if len(node.args) > 2 else 0.0
        target = self._target(node.outs[0])
        self._copy(self._const(number), target)
        inside, source = target, self._view(node.args[0])
        for i in range(len(pads) // 2):
            d, low, high = len(source.sizes) - 1 - i, pads[2 * i], pads[2 * i + 1]
            source = sliced(source, (d, max(-low, 0), source.sizes[d] - max(-high, 0)))
            inside = sliced(inside, (d, max(low, 0), max(low, 0) + source.sizes[d]))
        self._copy(source, inside)

    def _select_backward(self, node: Node, _: str) -> None:
        target = self._zeroed(node)
        self._copy(self._view(node.args[0]), selected(target, node.args[2], node.args[3]))

    def _diagonal(self, node: Node, _: str) -> None:
        self._alias(node, diagonal(self._view(node.args[0]), *node.args[1:]))

    def _diagonal_backward(self, node: Node, _: str) -> None:
        self._copy(self._view(node.args[0]), diagonal(self._zeroed(node), *node.args[2:]))

    def _zeroed(self, node: Node) -> View:
        target = self._target(node.outs[0])
        self._copy(self._const(0.0), target)
        return target

    def _slice_scatter(self, node: Node, _: str) -> None:
        base, source = self._view(node.args[0]), self._view(node.args[1])
        target = self._target(node.outs[0])
        self._copy(base, target)
        self._copy(source, sliced(target, node.args[2:] or (0,)))

    def _select_scatter(self, node: Node, _: str) -> None:
        base, source = self._view(node.args[0]), self._view(node.args[1])
        target = self._target(node.outs[0])
        self._copy(base, target)
        self._copy(source, selected(target, node.args[2], node.args[3]))

    def _full(self, node: Node, _: str) -> None:
        sizes = row_shape(node.outs[0])
        self._set(node.outs[0], replace(self._const(node.args[1]), sizes=sizes, strides=(0,) * len(sizes)))

    def _constant(self, node: Node, _: str) -> None:
        numbers, shape, _dtype = node.args
        self._check_dtype(node.outs[0])
        if len(numbers) == 1:
            sizes = tuple(shape)
            self._set(node.outs[0], replace(self._const(numbers[0]), sizes=sizes, strides=(0,) * len(sizes)))
        else:
            self._set(node.outs[0], self._vector(torch.tensor(numbers, dtype=self.code.dtype), tuple(shape)))

    def _reduce(self, node: Node, name: str, out: Value | None = None, numbers: Sequence[float] = ()) -> None:
        v = self._view(node.args[0])
        dims = node.args[1] if len(node.args) > 1 else list(range(len(v.sizes)))
        gone = sorted({d % len(v.sizes) for d in dims})
        if node.args[0].axis in gone:
            raise NotSupported(f"{node.op} over the batch in the loop")
        kept = [d for d in range(len(v.sizes)) if d not in gone]
        parts = three_parts(v, gone)
        if parts is None:
            order = [*kept, *gone]
            v = replace(v, sizes=tuple(v.sizes[d] for d in order), strides=tuple(v.strides[d] for d in order))
            v = self._materialize(v)
            n = math.prod(v.sizes[len(kept) :])
            parts = ((math.prod(v.sizes[: len(kept)]), n), (n, 1), (1, 0))
        (outer, so), (red, sr), (inner, si) = parts
        target = self._target(out or node.outs[0])
        self._emit(name, outer, red, inner, *target.place(), *v.place(), so, sr, si, *self._numbers(numbers))

    def _cumsum(self, node: Node, _: str) -> None:
        v = self._view(node.args[0])
        if node.args[1] % len(v.sizes) != len(v.sizes) - 1:
            raise NotSupported("cumsum along an axis that is not the last")
        v = self._contiguous(v)
        target = self._target(node.outs[0])
        inner = v.sizes[-1]
        outer = v.count // max(inner, 1)
        self._emit("cumsum", outer, inner, *target.place(), inner, 1, *v.place(), inner, 1)

    # -- products

    def _mm(self, node: Node, _: str) -> None:
        a, b = node.args
        target = self._target(node.outs[0])
        if a.axis is None and b.axis == 1 and b.factor == 1:
            self._gemm(target, None, self._contiguous(self._view(b)), a, transposed=True)
            return
        if a.axis != 0 or b.axis is not None:
            raise NotSupported("a product whose rows are not the batch")
        rows = self._contiguous(self._view(a))
        n, k = row_shape(b)[1], row_shape(b)[0]
        for i in range(a.factor):
            part = replace(target, offset=target.offset + i * n)
            self._gemm(part, None, replace(rows, offset=rows.offset + i * k), b)

    def _product_from(self, node: Node, product: Node) -> None:
        a, b = product.args
        other = node.args[0] if node.args[1] is product.outs[0] else node.args[1]
        start = self._contiguous(self._view(other))
        rows = self._contiguous(self._view(a))
        self._gemm(self._target(node.outs[0]), start, rows, b)

    def _gemm(
        self, target: View, start: View | None, rows: View, weight: Value, transposed: bool = False
    ) -> None:
        self._check_dtype(weight)
        k, n = row_shape(weight)[::-1] if transposed else row_shape(weight)
        if self.kinds(weight) != "static" or weight in self.made_by:
            raise NotSupported("a product with a matrix that is made in the loop")
        if (weight, transposed) not in self.code.weights:
            self.code.weights.append((weight, transposed))
            self.code.weight_sizes.append((k, n))
        index = self.code.weights.index((weight, transposed))
        init = [0, 0, 0] if start is None else start.place()
        self._emit("gemm", index, n, k, *target.place(), int(start is not None), *init, *rows.place())

    def _bmm(self, node: Node, _: str) -> None:
        a, b = node.args
        left, right = self._view(a), self._view(b)
        batch, m, k = left.sizes
        n = right.sizes[2]
        target = self._target(node.outs[0])
        self._emit(
            "rowmm",
            batch,
            m,
            k,
            n,
            *target.place(),
            *left.place(),
            *left.strides,
            *right.place(),
            *right.strides,
        )
