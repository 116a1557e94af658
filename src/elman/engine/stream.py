"""One step at a time: the state stays where the core has it, the weights are packed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor

from elman.engine.errors import EngineError, NotSupported
from elman.engine.execute import Environment, kind, run_section
from elman.engine.inputs import Inputs, Manner, gather
from elman.engine.program import Section
from elman.engine.rows import layout
from elman.engine.run import Plan
from elman.engine.scan import Scan
from elman.engine.structure import ScanResult, flatten, unflatten

__all__ = ["Stepper"]

_AS_A_STREAM = Manner(stream=True)


class Stepper:
    """The step of a scan, called for one step after the other: `y_t = stepper(x_t)`, leaves `(B, ...)`.

    x, state, context: an example of x_t, the state to start from and the context, leaves `(B, ...)`. No gradients. The
    parameters are read here; a stepper does not see later changes. Where the core cannot run the step, each call is a
    scan over one step (`path` says which). EngineError for a step that draws random numbers, and as from the scan.
    flat: x_t and y_t, one tensor each, are given without their batch axis of one row.
    """

    def __init__(self, scan: Scan, x: Any, state: Any, context: Any = None, *, flat: bool = False) -> None:
        self._scan, self._context, self._flat = scan, context, flat
        leaves, self._x_spec = flatten(x)
        self._kinds = [(v.shape, v.dtype) for v in leaves]
        self._state, self._s_spec = flatten(state)
        self._state = [s.detach().clone(memory_format=torch.contiguous_format) for s in self._state]
        self._step: Callable[[list[int], list[int]], None] | None = None
        self._one = False  # x and y are one tensor each, on the core: the short way
        with torch.no_grad():
            given = gather(
                unflatten([v.detach().unsqueeze(0) for v in leaves], self._x_spec),
                unflatten(self._state, self._s_spec), context, None, None, None, False, False,
            )  # fmt: skip
            on_core = self._prepare(given)
        self.path = "native" if on_core else scan.path

    def _prepare(self, given: Inputs) -> bool:
        """Whether the core runs the steps."""
        try:
            guard, plan = self._scan.prepare(given, self._scan.backend)
        except NotSupported:
            self._scan(
                unflatten(given.x, given.x_spec), unflatten(given.s, given.s_spec), context=self._context
            )
            return False
        if plan.random:
            raise EngineError(
                "the step draws random numbers; a stream runs without: call eval() on the module first"
            )
        if plan.loops.name == "native" and self._builds(plan, guard.tensors(), given):
            try:
                self._scan.trust(given, plan, _AS_A_STREAM, self._run)
            except NotSupported:  # the scan runs its step on the plain loop from here on, and says so
                self._step, self._one = None, False
            else:
                return True
        self._scan(unflatten(given.x, given.x_spec), unflatten(given.s, given.s_spec), context=self._context)
        return False

    def _builds(self, plan: Plan, p: Sequence[Tensor], given: Inputs) -> bool:
        """Whether the core can hold the step; it does from here on."""
        try:
            self._on_the_core(plan, p, given)
        except NotSupported:
            return False
        return True

    def _run(self, plan: Plan, p: Sequence[Tensor], few: Inputs) -> ScanResult:
        """A scan over a few steps by a stepper of its own, with other tensors in the place of what the step reads."""
        other = copy(self)
        other._state = [s.detach().clone(memory_format=torch.contiguous_format) for s in few.s]
        other._kinds = [(v.shape[1:], v.dtype) for v in few.x]
        other._flat = False
        other._on_the_core(plan, p, few)
        steps = [flatten(other(unflatten([v[t] for v in few.x], few.x_spec)))[0] for t in range(few.T)]
        ys = [torch.stack(column) for column in zip(*steps, strict=True)]
        return ScanResult(unflatten(ys, plan.y_spec), other.state, None)

    def _on_the_core(self, plan: Plan, p: Sequence[Tensor], given: Inputs) -> None:
        """All parts of the step as one kernel."""
        from elman.engine.backends.kernel import DTYPES, Kernel, maker_of

        program, sections = plan.program, plan.program.sections
        rows = layout(1, given.B, None, None, False, given.x[0].device)
        env: Environment = {v.name: t[0] for v, t in zip(program.x, given.x, strict=True)}
        env.update({v.name: t.detach() for v, t in zip(program.c, given.c, strict=True)})
        env.update({v.name: t.detach() for v, t in zip(program.p, p, strict=True)})
        for name in ("static", "context"):
            run_section(program, name, {}, env, rows, plan.loops.compile)
        nodes = [node for name in ("hoisted", "loop", "trailing") for node in sections[name].nodes]
        dtype = program.s[0].dtype
        if dtype not in DTYPES or any(v.dtype != dtype for v in (*program.s, *program.y, *program.x)):
            raise NotSupported("values of several dtypes")
        stores = [(f"y{i}", v) for i, v in enumerate(program.y)]
        kernel = Kernel.build(
            Section(nodes=nodes), program.s, stores, list(enumerate(program.ns)), dtype,
            lambda v: kind(program, v),
        )  # fmt: skip
        B = given.B
        arrays = {name: torch.empty(B, width, dtype=dtype) for name, width in kernel.outs}
        places = {v.name: i for i, v in enumerate(program.x)}
        if any(name not in places for name, _ in kernel.ins):
            raise NotSupported("an input that is no x")
        self._order = [places[name] for name, _ in kernel.ins]
        self._sizes = [(B, *[n for n in v.shape[1:] if isinstance(n, int)]) for v in program.y]
        self._outs = [int(name[1:]) for name, _ in kernel.outs]
        self._dtype, self._y_spec = dtype, plan.y_spec
        self._one = self._order == [0] and self._outs == [0] and self._plain(plan)
        flat = self._flat
        self._shape, self._new = self._kinds[0][0][int(flat) :], maker_of(self._sizes[0][int(flat) :], dtype)
        stream = kernel.stream(env, arrays, self._state, B)
        self._kernel = kernel  # it holds the tensors
        self._step, self._step_one = stream.step, stream.step_one

    def _plain(self, plan: Plan) -> bool:
        """Whether x and y are one tensor each."""
        one = len(self._kinds) == 1 and len(self._sizes) == 1
        return one and unflatten([0], self._x_spec) == 0 and unflatten([0], plan.y_spec) == 0

    def __call__(self, x: Any) -> Any:
        """The next step: y_t, leaves `(B, ...)`, in memory of their own."""
        short = self._one and isinstance(x, Tensor) and x.shape == self._shape and x.dtype is self._dtype
        if short and x.is_contiguous():
            y = self._new()
            self._step_one(x.data_ptr(), y.data_ptr())
            return y
        if not self._flat:
            return self._general(x)
        leaves, spec = flatten(x)
        ys, y_spec = flatten(self._general(unflatten([v.unsqueeze(0) for v in leaves], spec)))
        return unflatten([y.squeeze(0) for y in ys], y_spec)

    def _general(self, x: Any) -> Any:
        if self._step is None:
            return self._by_scan(x)
        leaves = [v.detach().contiguous() for v in self._checked(x)]
        ys = [torch.empty(size, dtype=self._dtype) for size in self._sizes]
        self._step([leaves[i].data_ptr() for i in self._order], [ys[i].data_ptr() for i in self._outs])
        return unflatten(ys, self._y_spec)

    def _checked(self, x: Any) -> list[Tensor]:
        leaves, spec = flatten(x)
        if spec != self._x_spec:
            raise EngineError(f"x has the structure {spec}; expected that of the first one, {self._x_spec}")
        for v, (shape, dtype) in zip(leaves, self._kinds, strict=True):
            if not isinstance(v, Tensor) or v.shape != shape or v.dtype != dtype:
                what = f"{v.dtype} {tuple(v.shape)}" if isinstance(v, Tensor) else type(v).__name__
                raise EngineError(
                    f"x is {what}; expected {dtype} {tuple(shape)}, as when the stream was made"
                )
        return leaves

    def _by_scan(self, x: Any) -> Any:
        leaves = self._checked(x)
        with torch.no_grad():
            result = self._scan(
                unflatten([v.unsqueeze(0) for v in leaves], self._x_spec),
                unflatten(self._state, self._s_spec), context=self._context,
            )  # fmt: skip
        self._state = flatten(result.state)[0]
        ys, spec = flatten(result.y)
        return unflatten([v.squeeze(0) for v in ys], spec)

    @property
    def state(self) -> Any:
        """The state now, a copy; assigning one puts it in its place."""
        return unflatten([s.clone() for s in self._state], self._s_spec)

    @state.setter
    def state(self, value: Any) -> None:
        leaves, spec = flatten(value)
        if spec != self._s_spec or any(a.shape != s.shape for a, s in zip(leaves, self._state, strict=True)):
            raise EngineError(
                f"the state has other shapes or another structure, {spec}; expected {self._s_spec} of "
                f"{[tuple(s.shape) for s in self._state]}"
            )
        for own, new in zip(self._state, leaves, strict=True):
            own.copy_(new.detach())
