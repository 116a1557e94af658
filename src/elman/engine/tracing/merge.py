"""Two recorded runs of a step, at two batch sizes, become one graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from elman.engine.errors import NotSupported
from elman.engine.program.draws import BY_SHAPE
from elman.engine.program.ops import OPS, check_rows
from elman.engine.program.program import INPUTS, OUTPUTS, Graph, Node, Rows, Size, Value, refs
from elman.engine.structure import TreeSpec, leaves_of, mapped
from elman.engine.tracing.lengths import Symbols
from elman.engine.tracing.record import FILLED, FILLS, FULL, SAME, VIEWS, Record, op_name, tensors_in

__all__ = ["Run", "merge", "size_of", "swap"]

aten = torch.ops.aten
_OTHER_OPERATIONS = "the step does other operations at another batch size"
_SAME_FOR_ALL = "let the step do the same for any number of rows"
_LARGEST_CONSTANT = 4096


@dataclass(slots=True)
class Run:
    """One recorded run: the records and the tensors by role."""

    records: list[Record]
    roles: dict[str, list[Any]]
    y_spec: TreeSpec


def merge(
    first: Run, second: Run, rows: tuple[int, int], externals: list[Tensor], symbols: Symbols | None = None
) -> Graph:
    """The graph that both runs, at these batch sizes, are cases of. symbols: other sizes that differ between the runs.
    Raises NotSupported where there is none."""
    return _Merge(first, second, rows, externals, symbols or Symbols()).graph()


def size_of(m: int, n: int, rows: tuple[int, int], symbols: Symbols) -> Size:
    """The size that is `m` in one run and `n` in the other."""
    if m == n:
        return m
    batches = m % rows[0] == 0 and n % rows[1] == 0
    found = symbols.length(m // rows[0], n // rows[1]) if batches else symbols.length(m, n)
    if found is None:
        what = "a size that varies" if symbols.pairs else "the batch size"
        raise NotSupported(f"{what} enters a computation", hint="write the step row by row")
    return Rows(found) if batches else found


class _Merge:
    """Walks the records of the two runs side by side; sizes that differ are the batch, anything else is refused."""

    def __init__(
        self, first: Run, second: Run, rows: tuple[int, int], externals: list[Tensor], symbols: Symbols
    ) -> None:
        self.first, self.second = first, second
        self.rows, self.symbols = rows, symbols
        self.names: tuple[dict[int, Value], dict[int, Value]] = ({}, {})
        self.nodes: list[Node] = []
        self.idle: set[Value] = set()  # zero, or no number: as often as it may be added
        self.unproved: list[Node] = []
        self.late: list[Value] = []  # tensors that the gradient alone reads
        self.count = 0
        self.externals = externals

    def graph(self) -> Graph:
        g = Graph(externals=self.externals, y_spec=self.first.y_spec)
        for role in INPUTS:
            setattr(g, role, self._inputs(role))
        for a, b in zip(self.first.records, self.second.records, strict=False):
            self._node(a, b)
        if len(self.first.records) != len(self.second.records):
            longer = max(self.first.records, self.second.records, key=len)
            extra = longer[min(len(self.first.records), len(self.second.records))]
            raise self._named(NotSupported(_OTHER_OPERATIONS, hint=_SAME_FOR_ALL), extra)
        g.nodes, g.unproved = self.nodes, self.unproved
        for role in OUTPUTS:
            setattr(g, role, self._outputs(role))
        g.p, g.dp = [*g.p, *self.late], [*g.dp, *[None] * len(self.late)] if g.dp else []
        if any(v is not None and not v.summed and v not in self.idle for v in g.dp):
            raise NotSupported(
                "a tensor that the step reads gets a gradient that comes from no row, anew at each step",
                hint="let its gradient be made of what comes in",
            )
        return g

    def _inputs(self, role: str) -> list[Value | None]:
        pairs = zip(self.first.roles.get(role, ()), self.second.roles.get(role, ()), strict=True)
        values: list[Value | None] = []
        for i, (a, b) in enumerate(pairs):
            if a is None or b is None:
                values.append(None)
                continue
            known = self.names[0].get(id(a))
            value = known or Value(f"{role}{i}", self._shape(a, b), a.dtype)
            self.names[0][id(a)] = self.names[1][id(b)] = value
            values.append(value)
        return values

    def _outputs(self, role: str) -> list[Value | None]:
        pairs = zip(self.first.roles.get(role, ()), self.second.roles.get(role, ()), strict=True)
        return [None if a is None else self._value(a, b) for a, b in pairs]

    def _shape(self, a: Tensor, b: Tensor) -> tuple[Size, ...]:
        if a.dim() != b.dim():
            raise NotSupported("the step makes tensors of another rank at another batch size")
        return tuple(self._size(m, n) for m, n in zip(a.shape, b.shape, strict=True))

    def _size(self, m: int, n: int) -> Size:
        return size_of(m, n, self.rows, self.symbols)

    def _value(self, a: Tensor, b: Tensor) -> Value:
        va, vb = self.names[0].get(id(a)), self.names[1].get(id(b))
        if va is None and vb is None and a is b:
            value = Value(f"p{len(self.externals)}", tuple(a.shape), a.dtype)
            self.externals.append(a)
            self.late.append(value)
            self.names[0][id(a)] = self.names[1][id(a)] = value
            return value
        if va is None or va is not vb:
            raise NotSupported(
                "the step reads tensors that it makes outside torch, or other ones for each batch size"
            )
        return va

    def _new(self, a: Tensor, b: Tensor) -> Value:
        self.count += 1
        value = Value(f"v{self.count}", self._shape(a, b), a.dtype)
        self.names[0][id(a)] = self.names[1][id(b)] = value
        return value

    def _same(self, a: Record, b: Record) -> None:
        value = self._value(a.args[0], b.args[0])
        self.names[0][id(a.outs[0])] = self.names[1][id(b.outs[0])] = value

    def _node(self, a: Record, b: Record) -> None:
        try:
            if a.func is not b.func:
                raise NotSupported(_OTHER_OPERATIONS, hint=_SAME_FOR_ALL)
            self._emit(a, b)
        except NotSupported as reason:
            raise self._named(reason, a) from None

    def _named(self, reason: NotSupported, record: Record) -> NotSupported:
        """The reason with the user's own call and source line."""
        text = reason.reason
        if not record.source:  # the backward has no line of its own: what came before it has
            known = [r for r in self.first.records[: len(self.first.records)] if r.source]
            record = known[-1] if known else record
        if record.word and record.word not in text and record.word != "__get__":
            text += f" (in {record.word})"
        if record.source and record.source not in text:
            text += f" at {record.source}"
        return NotSupported(text, op=reason.op, hint=reason.hint)

    def _emit(self, a: Record, b: Record) -> None:
        if a.func is aten.lift_fresh.default and id(a.args[0]) not in self.names[0]:
            self._constant(a, b)
        elif a.func in SAME or a.func is aten.lift_fresh.default:
            self._same(a, b)
        elif a.func is aten._to_copy.default:
            self._convert(a, b)
        else:
            self._operation(a, b)

    def _constant(self, a: Record, b: Record) -> None:
        t = a.args[0]
        if t.numel() > _LARGEST_CONSTANT or t.shape != b.args[0].shape or not torch.equal(t, b.args[0]):
            raise NotSupported("the step makes a large or batch-dependent tensor from Python numbers")
        value = self._new(a.outs[0], b.outs[0])
        args = (t.reshape(-1).tolist(), list(t.shape), t.dtype)
        self._append(Node("elman.constant", args, {}, (value,), a.source))

    def _convert(self, a: Record, b: Record) -> None:
        if a.outs[0].dtype == a.args[0].dtype:
            return self._same(a, b)
        source = self._value(a.args[0], b.args[0])
        out = self._new(a.outs[0], b.outs[0])
        return self._append(Node("elman.convert", (source, out.dtype), {}, (out,), a.source))

    def _operation(self, a: Record, b: Record) -> None:
        if all(isinstance(o, torch.dtype) for o in a.outs):
            return  # what dtype some tensors have together is no computation
        op, args, kwargs = self._normal(a, b)
        if op in BY_SHAPE:  # the tensor is there for its shape alone
            args = (self._blank(a.args[0], b.args[0], a.source), *args[1:])
        if not all(isinstance(o, Tensor) or o is None for o in a.outs):
            raise NotSupported(f"{op} gives something that is no tensor", op=op)
        outs = tuple(self._new(m, n) for m, n in zip(a.outs, b.outs, strict=True) if m is not None)
        self._append(Node(op, args, kwargs, outs, a.source), a)

    def _blank(self, a: Tensor, b: Tensor, source: str) -> Value:
        """A tensor of the same shape that depends on nothing."""
        self.count += 1
        value = Value(f"v{self.count}", self._shape(a, b), a.dtype)
        sizes = list(self._shape(a, b))
        self._append(Node("full.default", (sizes, 0), {"dtype": a.dtype}, (value,), source))
        return value

    def _append(self, node: Node, record: Record | None = None) -> None:
        check_rows(node, lambda: record is not None and self._linear(record), self.idle, self.unproved)
        _check_sizes(node)
        if self._is_idle(node):
            self.idle.update(node.outs)
        self.nodes.append(node)

    def _is_idle(self, node: Node) -> bool:
        """Zeros, or what is linear in such values, whatever they are multiplied with."""
        if node.op == "full.default":
            return bool(node.args[1] == 0)
        op, given = OPS.get(node.op), list(refs(node))
        if op is None or not op.is_linear(node):
            return False
        if op.linear == "joint":
            terms = [
                t
                for i in op.terms
                for t in (node.args[i] if isinstance(node.args[i], list) else [node.args[i]])
            ]
            return all(t in self.idle if isinstance(t, Value) else t == 0 for t in terms)
        return given[0] in self.idle if op.linear == "first" else any(v in self.idle for v in given)

    def _linear(self, record: Record) -> bool:
        """Try f(u + 2 v) == f(u) + 2 f(v) for random sums over rows u, v; with other values of the rest than those of
        the trace, for which it may hold by chance (of zeros)."""
        given = [(t, self.names[0].get(id(t))) for t in tensors_in((record.args, record.kwargs))]
        sums = [t for t, v in given if v is not None and v.summed and t.is_floating_point()]
        first, second = ({id(t): torch.randn_like(t) for t in sums} for _ in range(2))
        both = {i: first[i] + 2 * second[i] for i in first}
        rest = {
            id(t): t + torch.rand_like(t) for t, v in given
            if t.is_floating_point() and id(t) not in both and v not in self.idle
        }  # fmt: skip
        first, second, both = (rest | some for some in (first, second, both))
        try:
            with torch.no_grad():
                f, g, h = (list(tensors_in(record.func(*swap(record.args, e), **swap(record.kwargs, e))))
                           for e in (first, second, both))  # fmt: skip
        except RuntimeError:  # an operation that does not take other values
            return False
        return all(
            torch.allclose(c, a + 2 * b, rtol=1e-3, atol=1e-5) for a, b, c in zip(f, g, h, strict=True)
        )

    def _normal(self, a: Record, b: Record) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        """One form for operations that have several."""
        out = a.outs[0]
        if a.func in FILLED or a.func in FULL or a.func in FILLS:
            return "full.default", (self._sizes(a, b), self._fill(a, b)), {"dtype": out.dtype}
        if a.func in VIEWS:
            return "elman.view", (self._value(a.args[0], b.args[0]), self._sizes(a, b)), {}
        if a.func is aten.expand.default:
            return "expand.default", (self._value(a.args[0], b.args[0]), self._sizes(a, b)), {}
        if a.func is aten.repeat.default and self._repeats_single(a):
            return "expand.default", (self._value(a.args[0], b.args[0]), self._sizes(a, b)), {}
        if a.func is aten.copy.default:
            value = self._value(a.args[1], b.args[1])
            return "expand.default", (value, self._sizes(a, b)), {}
        args = tuple(self._argument(m, n) for m, n in zip(a.args, b.args, strict=True))
        kwargs = {k: self._argument(v, b.kwargs[k]) for k, v in a.kwargs.items() if k not in _DROPPED}
        return op_name(a.func), args, {k: v for k, v in kwargs.items() if v is not None}

    def _sizes(self, a: Record, b: Record) -> list[Size]:
        return list(self._shape(a.outs[0], b.outs[0]))

    def _repeats_single(self, a: Record) -> bool:
        """Whether a repeat only repeats sizes of 1: then it is an expansion."""
        t, times = a.args
        sizes = [1] * (len(times) - t.dim()) + list(t.shape)
        return all(n == 1 or k == 1 for n, k in zip(sizes, times, strict=True))

    def _fill(self, a: Record, b: Record) -> Any:
        if a.func in FILLED:
            return FILLED[a.func]
        place = {aten.scalar_tensor.default: 0, aten.new_full.default: 2}.get(a.func, 1)
        if isinstance(a.args[place], Tensor):
            raise NotSupported("the step fills a tensor with the number in another one")
        return self._argument(a.args[place], b.args[place])

    def _argument(self, m: Any, n: Any) -> Any:
        if isinstance(m, Tensor):
            return self._value(m, n)
        if isinstance(m, list | tuple):
            if len(m) != len(n):
                raise NotSupported("the batch size enters a computation")
            return [self._argument(p, q) for p, q in zip(m, n, strict=True)]
        if isinstance(m, torch.device | torch.layout | torch.memory_format | torch.Generator):
            return None
        if isinstance(m, int) and not isinstance(m, bool) and m != n:
            return self._size(m, n)
        if repr(m) == repr(n):
            return m
        portion = self.symbols.portion(m, n) if isinstance(m, float) and isinstance(n, float) else None
        if portion is None:
            raise NotSupported("the batch size enters a computation", hint="write the step row by row")
        return portion


_DROPPED = {"device", "layout", "pin_memory", "memory_format", "generator", "non_blocking", "implicit"}


def _check_sizes(node: Node) -> None:
    """A size of R rows may stand only where the op table says."""
    for i, argument in enumerate((*node.args, *node.kwargs.values())):
        if _has_rows(argument) and (node.op not in OPS or i not in OPS[node.op].sizes):
            raise NotSupported(
                f"the batch size enters a computation ({node.op})",
                op=node.op,
                hint="write the step row by row",
            )


def swap(tree: Any, env: dict[int, Tensor]) -> Any:
    """The tree with other tensors in the place of some, by id."""
    return mapped(tree, lambda leaf: env.get(id(leaf), leaf) if isinstance(leaf, Tensor) else leaf)


def _has_rows(argument: Any) -> bool:
    return any(isinstance(leaf, Rows) for leaf in leaves_of(argument))
