"""A Program over a whole sequence as ONNX nodes: all rows at once before and behind the loop, the loop as one Scan.

Lengths keep the shape: a row that has ended holds its state, and its outputs are zero. In reverse such a row holds its
state until its own last step comes, which is then the first one that it takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx_ir as ir
import torch

from elman.engine.printing import live
from elman.engine.program.execute import kind
from elman.engine.program.program import Program, Rows, Size, Value, refs
from elman.onnx.emitters import emit
from elman.onnx.graph import Handle, Refused, Scope, tensor_type

__all__ = ["Call", "Results", "unfold"]


@dataclass(frozen=True, slots=True)
class Call:
    """What a call is given: leaves of x `(T, B, ...)`, of the state, of the state that resets lead to and of the
    context `(B, ...)`; lengths `(B,)`, flags `(T, B)`; whether the states after each step are wanted."""

    x: Sequence[Handle]
    state: Sequence[Handle]
    initial: Sequence[Handle]
    context: Sequence[Handle]
    lengths: Handle | None = None
    reset: Handle | None = None
    reverse: bool = False
    history: bool = False


@dataclass(frozen=True, slots=True)
class Results:
    """y `(T, B, ...)`, final states `(B, ...)` and, where wanted, the states after each step `(T, B, ...)`."""

    y: list[Handle]
    final: list[Handle]
    states: list[Handle]


def unfold(scope: Scope, program: Program, call: Call) -> Results:
    """Write a program down. `scope.values` has what the step reads, by name, and may have what follows from that."""
    return _Unfolding(scope, program, call).run()


class _Unfolding:
    def __init__(self, scope: Scope, program: Program, call: Call) -> None:
        self.scope, self.program, self.call = scope, program, call
        self.live = live(program)
        shape = scope.op("Shape", call.x[0])
        one, two = scope.constant([1]), scope.constant([2])
        self.T = scope.op("Slice", shape, scope.constant([0]), one)
        self.B = scope.op("Slice", shape, one, two)
        self.rows = scope.op("Mul", self.T, self.B)
        self.mask = None if call.lengths is None else self._mask(call.lengths)
        self.context: dict[str, Handle] = {v.name: h for v, h in zip(program.c, call.context, strict=True)}
        self.whole: dict[str, Handle] = {}  # (T, B, ...) values that have not been made rows

    def run(self) -> Results:
        """All sections in order."""
        self._section("static", None)
        self._section("context", self.B)
        for v, h in zip(self.program.x, self.call.x, strict=True):
            given = self._without_padding(v, h)
            self.whole[v.name] = given
            self.scope.values[v.name] = self.scope.reshape(given, v.shape)
        self._section("hoisted", self.rows)
        final, states = self._loop()
        self._section("trailing", self.rows)
        return Results([self._output(v) for v in self.program.y], final, states)

    # ---- before and behind the loop

    def _section(self, name: str, rows: Handle | None) -> None:
        scope = self.scope
        scope.rows = rows
        if name == "context":
            scope.values.update(self.context)
        for node in self.live.nodes[name]:
            if all(v.name in scope.values and v.axis is None for v in node.outs):
                continue  # known already
            if name in ("hoisted", "trailing"):
                self._spread(refs(node))
            emit(scope, node)
        if name == "context":
            made = {v.name for node in self.live.nodes[name] for v in node.outs}
            self.context.update({n: scope.values[n] for n in made})
            self.spread: set[str] = set()

    def _spread(self, values: Iterable[Value]) -> None:
        """What is the same at all steps, once for each row."""
        for v in values:
            if v.name in self.spread or kind(self.program, v) != "context" or v.name not in self.context:
                continue
            self.spread.add(v.name)
            self.scope.values[v.name] = self._spread_rows(v, self.context[v.name])

    def _spread_rows(self, v: Value, h: Handle) -> Handle:
        axis = v.axis or 0
        more = self.scope.op("Unsqueeze", h, self.scope.constant([axis]))
        shape = [self.scope.constant([1])] * (len(v.shape) + 1)
        shape[axis] = self.T
        many = self.scope.op("Expand", more, self.scope.op("Concat", *shape, axis=0))
        return self.scope.reshape(many, v.shape)

    def _without_padding(self, v: Value, h: Handle) -> Handle:
        """Numbers of a table's rows stay within the table where a row has ended."""
        if self.mask is None or v.dtype.is_floating_point or v.dtype == torch.bool:
            return h
        return self.scope.where(self._like(self.mask, v), h, self.scope.constant(0, v.dtype), v.dtype)

    def _mask(self, lengths: Handle) -> Handle:
        """bool (T, B): which steps a row takes."""
        scope = self.scope
        first, step = scope.constant(0), scope.constant(1)
        times = scope.op("Range", first, scope.op("Squeeze", self.T, scope.constant([0])), step)
        ends = scope.reshape(scope.cast(lengths, torch.int64), [1, -1])
        return scope.op("Less", scope.reshape(times, [-1, 1]), ends)

    def _like(self, flags: Handle, v: Value) -> Handle:
        """Flags (T, B) with the axes of a value of all steps."""
        more = len(v.shape) - 1
        return (
            flags
            if not more
            else self.scope.op("Unsqueeze", flags, self.scope.constant(list(range(2, 2 + more))))
        )

    def _sequence(self, v: Value, h: Handle) -> Handle:
        """Rows as steps of rows: T in front, the rows of a step where the rows were."""
        axis = v.axis or 0
        sizes: list[Size] = [*v.shape]
        before = [self.scope.constant([n], shape=(1,)) for n in sizes[:axis] if isinstance(n, int)]
        after = [self.scope.constant([n], shape=(1,)) for n in sizes[axis + 1 :] if isinstance(n, int)]
        shape = self.scope.op("Concat", *before, self.T, self.scope.constant([-1]), *after, axis=0)
        parted = self.scope.op("Reshape", h, shape)
        if axis == 0:
            return parted
        order = [axis, *range(axis), *range(axis + 1, len(sizes) + 1)]
        return self.scope.op("Transpose", parted, perm=order)

    def _merged(self, v: Value, h: Handle) -> Handle:
        """The other way round."""
        axis = v.axis or 0
        if axis:
            h = self.scope.op(
                "Transpose", h, perm=[*range(1, axis + 1), 0, *range(axis + 1, len(v.shape) + 1)]
            )
        return self.scope.reshape(h, v.shape)

    def _output(self, v: Value) -> Handle:
        if kind(self.program, v) == "context":
            self._spread([v])
        h = self.whole.get(v.name)
        h = self._sequence(v, self.scope.get(v)) if h is None else h
        return self._zeroed(v, h)

    def _zeroed(self, v: Value, h: Handle) -> Handle:
        if self.mask is None:
            return h
        return self.scope.where(self._like(self.mask, v), h, self.scope.constant(0, v.dtype), v.dtype)

    # ---- the loop

    def _loop(self) -> tuple[list[Handle], list[Handle]]:
        body = _Body(self)
        final, stacked = body.scan()
        program, call = self.program, self.call
        for v, h in zip((*self.live.stacked, *self.live.before), stacked, strict=False):
            if v.axis == 0 and v.factor == 1:
                self.whole[v.name] = h
            self.scope.values[v.name] = self._merged(v, h)
        history = stacked[len(self.live.stacked) + len(self.live.before) :]
        states = [self._zeroed(v, h) for v, h in zip(program.s, history, strict=True)] if call.history else []
        return final, states

    def flags(self) -> Handle | None:
        """bool (T, B): rows that go back to the initial state before a step, in the order of processing. In reverse a
        reset at t acts on the way from t to t - 1."""
        reset, scope = self.call.reset, self.scope
        if reset is None or not self.call.reverse:
            return reset
        later = scope.op("Slice", reset, scope.constant([1]), scope.constant([2**62]), scope.constant([0]))
        none = scope.op(
            "Expand",
            scope.constant([[False]], torch.bool),
            scope.op("Concat", scope.constant([1]), self.B, axis=0),
        )
        moved = scope.op("Concat", later, none, axis=0)
        if self.mask is None:
            return moved
        there = scope.op(
            "Slice", self.mask, scope.constant([1]), scope.constant([2**62]), scope.constant([0])
        )
        return scope.op("And", moved, scope.op("Concat", there, none, axis=0))


class _Body:
    """The body of the Scan: one step for the B rows."""

    def __init__(self, around: _Unfolding) -> None:
        self.around, self.program, self.live = around, around.program, around.live
        self.outer = around.scope
        self.scope = Scope(f"{self.outer.name()}_", rows=around.B)
        self.inputs: list[tuple[ir.Value, Handle]] = []  # of the body, and what is scanned for it
        states = [self._input(v.shape, v.dtype) for v in self.program.s]
        self.states = states
        flags, self.taken = around.flags(), None
        if flags is not None:
            states = self._restarted(states, self._scanned((Rows(),), torch.bool, flags))
        if around.mask is not None:
            self.taken = self._scanned((Rows(),), torch.bool, around.mask)
        self.scope.values.update({v.name: h for v, h in zip(self.program.s, states, strict=True)})
        for v in self._reads():
            self.scope.values.setdefault(v.name, self._outside(v))

    def _input(self, shape: Sequence[Size], dtype: torch.dtype) -> ir.Value:
        sizes = ir.Shape([n if isinstance(n, int) else None for n in shape])
        return ir.Value(name=self.scope.name(), type=tensor_type(dtype), shape=sizes)

    def _scanned(self, shape: Sequence[Size], dtype: torch.dtype, source: Handle) -> ir.Value:
        value = self._input(shape, dtype)
        self.inputs.append((value, source))
        return value

    def _restarted(self, states: list[ir.Value], flags: Handle) -> list[Handle]:
        pairs = zip(self.program.s, states, self.around.call.initial, strict=True)
        return [self.scope.where(self._column(flags, v), start, h, v.dtype) for v, h, start in pairs]

    def _column(self, flags: Handle, v: Value) -> Handle:
        more = len(v.shape) - 1
        return flags if not more else self.scope.reshape(flags, [-1, *[1] * more])

    def _reads(self) -> list[Value]:
        made = {v.name for node in self.live.nodes["loop"] for v in node.outs}
        outs = [v for v in self.program.ns if v.name not in made]
        return [v for v in (*self.live.reads("loop"), *outs) if v.name not in self.scope.values]

    def _outside(self, v: Value) -> Handle:
        """What a step reads: as it is, or its own rows of it."""
        what = kind(self.program, v)
        if what == "static":
            return self.outer.get(v)
        if what == "context":
            return self.around.context[v.name]
        whole = self.around.whole.get(v.name)
        if whole is None:
            whole = self.around._sequence(v, self.outer.get(v))
        return self._scanned(v.shape, v.dtype, whole)

    def scan(self) -> tuple[list[Handle], list[Handle]]:
        """The loop: final states, and what is kept of all steps (stacked, before, and the states where wanted)."""
        for node in self.live.nodes["loop"]:
            emit(self.scope, node)
        new = [
            self._next(v, n, h) for v, n, h in zip(self.program.s, self.program.ns, self.states, strict=True)
        ]
        kept = [(v, self.scope.get(v)) for v in (*self.live.stacked, *self.live.before)]
        if self.around.call.history:
            kept += list(zip(self.program.s, new, strict=True))
        for v, _ in kept:
            if v.axis is None:
                raise Refused(f"{v} of the loop has no rows")
        outs = [self._result(v, h) for v, h in zip(self.program.s, new, strict=True)]
        outs += [self._result(v, h) for v, h in kept]
        if not self.inputs:  # a Scan scans something
            self._scanned((), torch.int64, self._clock())
        return self._close(outs, len(kept))

    def _clock(self) -> Handle:
        scope = self.outer
        return scope.op("Expand", scope.constant([0]), self.around.T)

    def _next(self, s: Value, n: Value, held: Handle) -> Handle:
        scope = self.scope
        h = scope.get(n)
        if n.dtype != s.dtype:
            h = scope.cast(h, s.dtype)
        if list(map(str, n.shape)) != list(map(str, s.shape)):
            h = scope.op("Expand", h, scope.op("Shape", held))
        return h if self.taken is None else scope.where(self._column(self.taken, s), h, held, s.dtype)

    def _result(self, v: Value, h: Handle) -> Handle:
        """An output of the body is a value of its own, of a type that stands there."""
        out = self.scope.op("Identity", h)
        out.type, out.shape = (
            tensor_type(v.dtype),
            ir.Shape([n if isinstance(n, int) else None for n in v.shape]),
        )
        return out

    def _close(self, outs: list[Handle], stacked: int) -> tuple[list[Handle], list[Handle]]:
        n_s = len(self.states)
        graph = ir.Graph(
            [*self.states, *[value for value, _ in self.inputs]], outs, nodes=self.scope.nodes,
            name=f"{self.outer.name()}_step",
        )  # fmt: skip
        way = int(self.around.call.reverse)
        starts = self.around.call.state
        made = self.outer.ops(
            "Scan", [*starts, *[source for _, source in self.inputs]], n_s + stacked, body=graph,
            num_scan_inputs=len(self.inputs), scan_input_directions=[way] * len(self.inputs),
            **({"scan_output_directions": [way] * stacked} if stacked else {}),
        )  # fmt: skip
        return made[:n_s], made[n_s:]
