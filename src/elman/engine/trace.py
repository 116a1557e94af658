"""One step of a cell becomes a graph: its operations and those of its gradient, recorded once, below autograd.

The step is run on small real tensors under a dispatch mode that writes down each aten operation, first forward, then
through `torch.autograd.grad`, so custom gradients, `no_grad` blocks and straight-through estimators are what autograd
makes of them. (`make_fx` would do, at twenty times the cost and with a second of imports.) Done at two batch sizes; what
differs between the two is the batch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from elman.engine.decompose import DECOMPOSITIONS, library_decomposition
from elman.engine.errors import NotSupported
from elman.engine.ops import OPS, check_rows
from elman.engine.program import Node, Rows, Size, Value
from elman.engine.structure import TreeSpec, flatten, split_output, unflatten

__all__ = ["Graph", "Sample", "trace"]

aten = torch.ops.aten
_READS_A_NUMBER = {aten._local_scalar_dense.default, aten.is_nonzero.default, aten.equal.default, aten.item.default}
_SAME = {aten.detach.default, aten.alias.default, aten.clone.default, aten.contiguous.default, aten.lift.default}
_VIEWS = {
    aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.squeeze.default, aten.squeeze.dim,
    aten.squeeze.dims, aten.unsqueeze.default, aten._reshape_alias.default,
}  # fmt: skip
_FILLED: dict[Any, float] = {
    aten.zeros_like.default: 0, aten.ones_like.default: 1, aten.zeros.default: 0, aten.ones.default: 1,
    aten.new_zeros.default: 0, aten.new_ones.default: 1, aten.empty_like.default: 0, aten.empty.memory_format: 0,
    aten.new_empty.default: 0, aten.empty_strided.default: 0, aten.new_empty_strided.default: 0,
}  # fmt: skip
_FULL = {aten.full_like.default, aten.full.default, aten.new_full.default, aten.scalar_tensor.default}
_OPAQUE = {"numpy", "__array__", "tolist", "data_ptr", "untyped_storage", "storage", "__dlpack__", "cpu", "cuda"}
_LARGEST_CONSTANT = 4096


@dataclass(slots=True)
class Record:
    """One recorded operation, on real tensors (which it keeps alive, so that their ids stay theirs)."""

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outs: list[Any]
    source: str


class Tracer(TorchDispatchMode):
    """Writes down the operations that reach the dispatcher; larger ones are taken apart first."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing to skip: torch.compile is not under way here, and asking would load it."""
        return False

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Record] = []
        self.mutates = False
        self._own: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _READS_A_NUMBER:
            raise NotSupported(
                "the step reads a number out of a tensor (a branch on data, .item(), bool())",
                op=_name(func), hint="use torch.where, or decide outside the step",
            )  # fmt: skip
        if (taken_apart := DECOMPOSITIONS.get(func)) is not None:
            with self:
                out = taken_apart(*args, **kwargs)
            if out is not NotImplemented:
                return out
        if not _known(func) and (taken_apart := library_decomposition(func)) is not None:
            with self:
                out = taken_apart(*args, **kwargs)
            if out is not NotImplemented:
                return out
        self._check_mutation(func, args, kwargs)
        out = func(*args, **kwargs)
        outs = list(out) if isinstance(out, tuple | list) else [out]
        for o in outs:
            if isinstance(o, Tensor) and not self._foreign(o, args, kwargs):
                self._own.add(_storage(o))
        self.records.append(Record(func, args, kwargs, outs, _source()))
        return out

    def _foreign(self, out: Tensor, args: Any, kwargs: Any) -> bool:
        """Whether `out` looks into memory that was there before the step."""
        return any(_storage(t) == _storage(out) and _storage(t) not in self._own for t in _tensors((args, kwargs)))

    def _check_mutation(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        schema = func._schema
        if not schema.is_mutable:
            return
        self.mutates = True
        for i, argument in enumerate(schema.arguments):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            for t in _tensors(args[i] if i < len(args) else kwargs.get(argument.name)):
                if _storage(t) not in self._own:
                    raise NotSupported(
                        f"{_name(func)} changes in place a tensor that the step did not make ({tuple(t.shape)})",
                        op=_name(func), hint="return a new state instead",
                    )  # fmt: skip


class _NoWayOut(TorchFunctionMode):
    """Refuses what takes a tensor's numbers out of torch, unseen by the dispatcher."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in _OPAQUE and getattr(torch.Tensor, name, None) is func:
            raise NotSupported(f"the step calls Tensor.{name}()", op=name, hint="stay with torch operations")
        return func(*args, **(kwargs or {}))


def _name(func: Any) -> str:
    return str(func).removeprefix("aten.")


def _known(func: Any) -> bool:
    return (
        _name(func) in OPS or func in _SAME or func in _VIEWS or func in _FILLED or func in _FULL
        or func._schema.is_mutable or func in (aten._to_copy.default, aten.lift_fresh.default, aten.copy.default)
        or func in _FILLS
    )  # fmt: skip


_FILLS = {aten.fill.Scalar, aten.fill.Tensor}


def _storage(t: Tensor) -> int:
    return t.untyped_storage()._cdata


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, list | tuple):
        for item in tree:
            yield from _tensors(item)
    elif isinstance(tree, dict):
        yield from _tensors(list(tree.values()))


def _source() -> str:
    """file:line of the user's code at the top of the stack (empty in the backward, which has none)."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if "/torch/" not in name and "/elman/engine/" not in name and not name.startswith("<"):
            return f"{name}:{frame.f_lineno}"
        if name.endswith("trace.py") and frame.f_code.co_name == "_run":
            return ""
        frame = frame.f_back  # type: ignore[assignment]
    return ""


# ---- running the step


@dataclass(slots=True)
class Sample:
    """Inputs of a step on a few rows."""

    x: list[Tensor]
    s: list[Tensor]
    c: list[Tensor]
    x_spec: TreeSpec
    s_spec: TreeSpec
    c_spec: TreeSpec | None

    def call(self, step: Callable[..., Any]) -> tuple[list[Any], list[Any], TreeSpec]:
        """The step on this sample: leaves of y, leaves of the next state, the structure of y."""
        context = () if self.c_spec is None else (unflatten(self.c, self.c_spec),)
        out = step(unflatten(self.x, self.x_spec), unflatten(self.s, self.s_spec), *context)
        y, after = split_output(out, self.s_spec)
        leaves, spec = flatten(y)
        return leaves, flatten(after)[0], spec


@dataclass(slots=True)
class Graph:
    """A traced step: nodes in order and the values by role (None: no gradient there)."""

    nodes: list[Node] = field(default_factory=list)
    x: list[Value] = field(default_factory=list)
    s: list[Value] = field(default_factory=list)
    c: list[Value] = field(default_factory=list)
    p: list[Value] = field(default_factory=list)
    gy: list[Value | None] = field(default_factory=list)
    gs: list[Value | None] = field(default_factory=list)
    y: list[Value] = field(default_factory=list)
    ns: list[Value] = field(default_factory=list)
    dx: list[Value | None] = field(default_factory=list)
    ds: list[Value | None] = field(default_factory=list)
    dc: list[Value | None] = field(default_factory=list)
    dp: list[Value | None] = field(default_factory=list)
    externals: list[Tensor] = field(default_factory=list)
    y_spec: TreeSpec | None = None


@dataclass(slots=True)
class _Run:
    """One recorded run: the records and the tensors by role."""

    records: list[Record]
    roles: dict[str, list[Any]]
    y_spec: TreeSpec


def trace(step: Callable[..., Any], samples: tuple[Sample, Sample], *, grad: bool) -> Graph:
    """Record `step` (and its gradient where `grad`) at the two batch sizes of `samples` and merge the two.

    Raises NotSupported with the reason where the step is outside the rules.
    """
    found = [_externals(step, sample) for sample in samples]
    if len(found[0]) != len(found[1]) or any(a is not b for a, b in zip(*found, strict=True)):
        raise NotSupported("the step reads tensors that it makes outside torch, or other ones for each batch size")
    _check_ancestry(found[0])
    runs = [_run(step, sample, found[0], grad) for sample in samples]
    rows = [sample.s[0].shape[0] for sample in samples]
    return _Merge(runs[0], runs[1], rows[0], rows[1], found[0]).graph()


def _record(call: Callable[[], Any]) -> tuple[Tracer, Any]:
    tracer = Tracer()
    try:
        with _NoWayOut(), tracer:
            return tracer, call()
    except NotSupported:
        raise
    except Exception as error:
        raise NotSupported(f"the step failed while it was traced: {type(error).__name__}: {error}") from error


def _externals(step: Callable[..., Any], sample: Sample) -> list[Tensor]:
    """The tensors that the step reads beside its inputs, in the order of first use."""
    tracer, _ = _record(lambda: sample.call(step))
    known = {id(t) for t in (*sample.x, *sample.s, *sample.c)}
    found: list[Tensor] = []
    for record in tracer.records:
        if record.func is aten.lift_fresh.default:
            known.add(id(record.args[0]))
        for t in _tensors((record.args, record.kwargs)):
            if id(t) not in known:
                known.add(id(t))
                found.append(t)
        known.update(id(o) for o in record.outs if isinstance(o, Tensor))
    return found


def _check_ancestry(externals: list[Tensor]) -> None:
    """A closed-over tensor that was computed from another one would have its gradient counted twice."""
    for t in externals:
        if t.grad_fn is None:
            continue
        others = {id(e) for e in externals if e is not t}
        others_fn = {e.grad_fn for e in externals if e is not t and e.grad_fn is not None}
        seen, todo = set(), [t.grad_fn]
        while todo:
            fn = todo.pop()
            if fn is None or fn in seen:
                continue
            seen.add(fn)
            if fn in others_fn or id(getattr(fn, "variable", None)) in others:
                raise NotSupported("the step reads a tensor and another one that was computed from it")
            todo += [f for f, _ in fn.next_functions]


def _run(step: Callable[..., Any], sample: Sample, externals: list[Tensor], grad: bool) -> _Run:
    roles: dict[str, list[Any]] = {"x": sample.x, "s": sample.s, "c": sample.c, "p": externals}

    def call() -> TreeSpec:
        y, ns, spec = sample.call(step)
        if not all(isinstance(v, Tensor) for v in (*y, *ns)):
            raise NotSupported("the step returns something that is no tensor in y or in its state")
        roles["y"], roles["ns"] = y, ns
        if grad:
            _differentiate(roles, y, ns)
        return spec

    tracer, spec = _record(call)
    if tracer.mutates:
        tracer = _functional(tracer, roles)
    return _Run(tracer.records, roles, spec)


def _differentiate(roles: dict[str, list[Any]], y: list[Tensor], ns: list[Tensor]) -> None:
    """Gradients of all inputs, under the same trace; the gradients that come in are inputs too."""
    with torch.no_grad(), _paused():
        for role, outs in (("gy", y), ("gs", ns)):
            roles[role] = [torch.randn(o.shape, dtype=o.dtype) if o.requires_grad else None for o in outs]
    given = [(o, g) for o, g in zip([*y, *ns], [*roles["gy"], *roles["gs"]], strict=True) if g is not None]
    wanted = [t for role in ("x", "s", "c", "p") for t in roles[role] if t.requires_grad]
    grads: dict[int, Tensor | None] = {}
    if given and wanted:
        found = torch.autograd.grad([o for o, _ in given], wanted, [g for _, g in given], allow_unused=True)
        grads = {id(t): g for t, g in zip(wanted, found, strict=True)}
    for role in ("x", "s", "c", "p"):
        roles[f"d{role}"] = [grads.get(id(t)) for t in roles[role]]


def _paused() -> Any:
    from torch.utils._python_dispatch import _disable_current_modes

    return _disable_current_modes()


def _functional(tracer: Tracer, roles: dict[str, list[Any]]) -> Tracer:
    """The same computation without writing in place: the records replayed through torch's functionalization."""
    inputs = [t for role in ("x", "s", "c", "p", "gy", "gs") for t in roles.get(role, ()) if t is not None]
    outputs = [t for role in ("y", "ns", "dx", "ds", "dc", "dp") for t in roles.get(role, ()) if t is not None]

    def replay(*given: Tensor) -> list[Tensor]:
        env = {id(t): g for t, g in zip(inputs, given, strict=True)}
        for record in tracer.records:
            out = record.func(*_swap(record.args, env), **_swap(record.kwargs, env))
            outs = list(out) if isinstance(out, tuple | list) else [out]
            env.update({id(a): b for a, b in zip(record.outs, outs, strict=True) if isinstance(a, Tensor)})
        return [env[id(t)] for t in outputs]

    with torch.no_grad():
        detached = [t.detach() for t in inputs]
        again, results = _record(lambda: torch.func.functionalize(replay)(*detached))
    for t, d in zip(inputs, detached, strict=True):
        _replace(roles, t, d)
    for t, r in zip(outputs, results, strict=True):
        _replace(roles, t, r)
    return again


def _swap(tree: Any, env: dict[int, Tensor]) -> Any:
    if isinstance(tree, Tensor):
        return env.get(id(tree), tree)
    if isinstance(tree, list | tuple):
        return type(tree)(_swap(item, env) for item in tree)
    if isinstance(tree, dict):
        return {k: _swap(v, env) for k, v in tree.items()}
    return tree


def _replace(roles: dict[str, list[Any]], old: Tensor, new: Tensor) -> None:
    for role, tensors in roles.items():
        roles[role] = [new if t is old else t for t in tensors]


# ---- two runs become one graph


class _Merge:
    """Walks the records of the two runs side by side; sizes that differ are the batch, anything else is refused."""

    def __init__(self, first: _Run, second: _Run, rows_a: int, rows_b: int, externals: list[Tensor]) -> None:
        self.first, self.second = first, second
        self.rows = (rows_a, rows_b)
        self.names: tuple[dict[int, Value], dict[int, Value]] = ({}, {})
        self.nodes: list[Node] = []
        self.count = 0
        self.externals = externals
        self.kept: list[Any] = []

    def graph(self) -> Graph:
        g = Graph(externals=self.externals, y_spec=self.first.y_spec)
        for role in ("x", "s", "c", "p", "gy", "gs"):
            setattr(g, role, self._inputs(role))
        if len(self.first.records) != len(self.second.records):
            raise NotSupported("the step does other operations at another batch size")
        for a, b in zip(self.first.records, self.second.records, strict=True):
            self._node(a, b)
        g.nodes = self.nodes
        for role in ("y", "ns", "dx", "ds", "dc", "dp"):
            setattr(g, role, self._outputs(role))
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
        if m == n:
            return m
        factor, rest = divmod(m, self.rows[0])
        if rest or factor * self.rows[1] != n:
            raise NotSupported("the batch size enters a computation", hint="write the step row by row")
        return Rows(factor)

    def _value(self, a: Tensor, b: Tensor) -> Value:
        va, vb = self.names[0].get(id(a)), self.names[1].get(id(b))
        if va is None and vb is None and a is b:
            value = Value(f"p{len(self.externals)}", tuple(a.shape), a.dtype)
            self.externals.append(a)
            self.names[0][id(a)] = self.names[1][id(a)] = value
            return value
        if va is None or va is not vb:
            raise NotSupported("the step reads tensors that it makes outside torch, or other ones for each batch size")
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
        if a.func is not b.func:
            raise NotSupported("the step does other operations at another batch size")
        try:
            self._emit(a, b)
        except NotSupported as reason:
            if a.source and a.source not in reason.reason:
                raise NotSupported(f"{reason.reason} at {a.source}", op=reason.op, hint=reason.hint) from None
            raise

    def _emit(self, a: Record, b: Record) -> None:
        if a.func is aten.lift_fresh.default and id(a.args[0]) not in self.names[0]:
            self._constant(a, b)
        elif a.func in _SAME or a.func is aten.lift_fresh.default:
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
        op, args, kwargs = self._normal(a, b)
        if not all(isinstance(o, Tensor) or o is None for o in a.outs):
            raise NotSupported(f"{op} gives something that is no tensor", op=op)
        outs = tuple(self._new(m, n) for m, n in zip(a.outs, b.outs, strict=True) if m is not None)
        self._append(Node(op, args, kwargs, outs, a.source))

    def _append(self, node: Node) -> None:
        check_rows(node)
        _check_sizes(node)
        self.nodes.append(node)

    def _normal(self, a: Record, b: Record) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        """One form for operations that have several."""
        out = a.outs[0]
        if a.func in _FILLED or a.func in _FULL or a.func in _FILLS:
            return "full.default", (self._sizes(a, b), self._fill(a)), {"dtype": out.dtype}
        if a.func in _VIEWS:
            return "elman.view", (self._value(a.args[0], b.args[0]), self._sizes(a, b)), {}
        if a.func is aten.expand.default:
            return "expand.default", (self._value(a.args[0], b.args[0]), self._sizes(a, b)), {}
        if a.func is aten.copy.default:
            value = self._value(a.args[1], b.args[1])
            return "expand.default", (value, self._sizes(a, b)), {}
        args = tuple(self._argument(m, n) for m, n in zip(a.args, b.args, strict=True))
        kwargs = {k: self._argument(v, b.kwargs[k]) for k, v in a.kwargs.items() if k not in _DROPPED}
        return _name(a.func), args, {k: v for k, v in kwargs.items() if v is not None}

    def _sizes(self, a: Record, b: Record) -> list[Size]:
        return list(self._shape(a.outs[0], b.outs[0]))

    def _fill(self, a: Record) -> float | int | bool:
        if a.func in _FILLED:
            return _FILLED[a.func]
        number = a.args[0] if a.func is aten.scalar_tensor.default else a.args[1]
        if a.func is aten.new_full.default:
            number = a.args[2]
        if isinstance(number, Tensor):
            raise NotSupported("the step fills a tensor with the number in another one")
        return number  # type: ignore[no-any-return]

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
        if m != n and not (m != m and n != n):
            raise NotSupported("the batch size enters a computation", hint="write the step row by row")
        return m


_DROPPED = {"device", "layout", "pin_memory", "memory_format", "generator", "non_blocking", "implicit"}


def _check_sizes(node: Node) -> None:
    """A size of R rows may stand only where the op table says."""
    for i, argument in enumerate((*node.args, *node.kwargs.values())):
        if _has_rows(argument) and i not in OPS[node.op].sizes:
            raise NotSupported(
                f"the batch size enters a computation ({node.op})", op=node.op, hint="write the step row by row"
            )


def _has_rows(argument: Any) -> bool:
    return isinstance(argument, Rows) or (
        isinstance(argument, list | tuple) and any(_has_rows(a) for a in argument)
    )
