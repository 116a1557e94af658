"""One step at a time: the state stays where the core has it, the weights are packed once."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from elman.engine.backends import backend_of_environment, caller
from elman.engine.call.inputs import Inputs, Manner, gather
from elman.engine.call.quick import asked_for
from elman.engine.call.run import Plan
from elman.engine.errors import EngineError, NotSupported
from elman.engine.program.execute import Environment, kind, run_section
from elman.engine.program.flops import FORWARD, counted, told
from elman.engine.program.program import Section
from elman.engine.program.rows import layout
from elman.engine.scan import Scan
from elman.engine.structure import ScanResult, flatten, unflatten
from elman.engine.watching.guards import Guard

if TYPE_CHECKING:
    from elman.engine.backends.kernel import Caller, Kernel, Steps
else:
    Caller = caller()

__all__ = ["Caller", "Parts", "Stepper", "watch"]

_AS_A_STREAM = Manner(stream=True)


class Parts(NamedTuple):
    """A step as the core has it: its plan, its kernel, the tensors that this was packed from by their names in the
    program, and which leaf of x each input of the kernel is, which leaf of y each output."""

    plan: Plan
    kernel: Kernel
    env: Environment
    ins: list[int]
    outs: list[int]


class Stepper:
    """The step of a scan, called for one step after the other: `y_t = stepper(x_t)`, leaves `(B, ...)`.

    x, state, context: an example of x_t, the state to start from and the context, leaves `(B, ...)`. No gradients.
    Where the core cannot run the step, each call is a scan over one step (`path` says which). EngineError for a step
    that draws random numbers, and as from the scan.

    The weights are packed once; a change of a parameter is seen at the next step, which packs them anew: another
    tensor in its place, other memory (`p.data = t`), and all that torch counts (optimizers, `load_state_dict`, every
    operation in place but those on `p.data`). What torch does not count is seen by its values, of which each step
    compares some (see `period`). Attributes that are no tensors are read by `read` alone.

    flat: x_t and y_t, one tensor each, are given without their batch axis of one row.
    quick: does a step in one call of the core, where x and y are one tensor each; its `step_one` gives None for what it
    is not made for, and where the step is to be read anew.
    """

    def __init__(self, scan: Scan, x: Any, state: Any, context: Any = None, *, flat: bool = False) -> None:
        self._scan, self._context, self._flat = scan, context, flat
        leaves, self._x_spec = flatten(x)
        self._kinds = [(v.shape, v.dtype, v.device) for v in leaves]
        self._plan: Plan | None = None
        self._guard: Guard | None = None
        with torch.inference_mode(False), torch.no_grad():
            self._state, self._s_spec = flatten(state)
            self._state = [s.detach().clone(memory_format=torch.contiguous_format) for s in self._state]
            self._begin = [s.clone() for s in self._state]
            self._example = [v.detach().unsqueeze(0).clone() for v in leaves]
            if not self._prepare():
                self._scan(self._one_step(), unflatten(self._state, self._s_spec), context=context)
        self.path = "native" if self._steps is not None else scan.path

    def read(self) -> None:
        """Read anew what the step reads: parameters, buffers and attributes. The state stays as it is."""
        with torch.inference_mode(False), torch.no_grad():
            self._prepare()
        self.path = "native" if self._steps is not None else self._scan.path

    def parts(self) -> Parts:
        """What the core's steps are made of, to be written down. NotSupported where the core does not run them."""
        if self._steps is None or self._plan is None or self._guard is None:
            raise NotSupported(self._reason)
        state = unflatten(self._state, self._s_spec)
        given = gather(self._one_step(), state, self._context, None, None, None, False, False)
        with torch.inference_mode(False), torch.no_grad():
            env = _environment(self._plan, self._guard.tensors(), given)
        return Parts(self._plan, self._kernel, env, self._order, self._outs)

    def is_current(self) -> bool:
        """Whether all that the step reads is what it was when the weights were packed: every place, every number."""
        if self._steps is None or self._guard is None or self._asked != self._ask():
            return False
        read = self._guard.held()
        if read is None or list(map(id, read)) != self._read:
            return False
        return self._steps.unchanged() and all(mapping.get(key) is t for mapping, key, t in self._loose)

    def _ask(self) -> tuple[Any, ...]:
        """What decides beside the guard which plan a step takes."""
        device = self._kinds[0][2].type
        cast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        return self._scan.backend, asked_for(), cast, torch.get_default_dtype()

    @property
    def period(self) -> int:
        """After so many steps a change of one number in a parameter is seen that nothing but its value tells; one of
        most of its numbers is seen at once. About one step for each 128 numbers."""
        return 1 if self._steps is None else self._steps.period

    def _one_step(self) -> Any:
        return unflatten(self._example, self._x_spec)

    def _prepare(self) -> bool:
        """Whether the core runs the steps."""
        if (steps := getattr(self, "_steps", None)) is not None:
            steps.retire()
        self._steps: Steps | None = None
        self._guard = None
        self.quick: Steps | None = None
        self._reason = ""  # why the core does not run the steps
        state = unflatten(self._state, self._s_spec)
        given = gather(self._one_step(), state, self._context, None, None, None, False, False)
        asked = self._ask()
        try:
            wanted = self._scan.backend or backend_of_environment()
            guard, plan = self._scan.prepare(given, wanted)
        except NotSupported as reason:
            self._reason = reason.reason
            return False
        if plan.random:
            raise EngineError(
                "the step draws random numbers; a stream runs without: call eval() on the module first"
            )
        if plan.loops.name != "native":
            self._reason = plan.reason
            return False
        try:
            read = guard.tensors()
            self._on_the_core(plan, read, given, guard)
            self._scan.trust(given, plan, _AS_A_STREAM, self._run)
        except NotSupported as reason:
            # where it is not to be trusted, the scan takes the plain loop from here on, and says so
            self._steps, self.quick, self._reason = None, None, reason.reason
            return False
        self._guard, self._asked = guard, asked
        self._read = list(map(id, read))  # alive as long as the steps, which watch them
        return True

    def _run(self, plan: Plan, p: Sequence[Tensor], few: Inputs) -> ScanResult:
        """A scan over a few steps by a stepper of its own, with other tensors in the place of what the step reads."""
        other = copy(self)
        other._state = [s.detach().clone(memory_format=torch.contiguous_format) for s in few.s]
        other._kinds = [(v.shape[1:], v.dtype, v.device) for v in few.x]
        other._flat, other._plan = False, None
        other._on_the_core(plan, p, few)
        steps = [flatten(other(unflatten([v[t] for v in few.x], few.x_spec)))[0] for t in range(few.T)]
        ys = [torch.stack(column) for column in zip(*steps, strict=True)]
        return ScanResult(unflatten(ys, plan.y_spec), other.state, None)

    def _on_the_core(
        self, plan: Plan, p: Sequence[Tensor], given: Inputs, guard: Guard | None = None
    ) -> None:
        """All parts of the step as one kernel, with the weights of the moment."""
        if plan is not self._plan:
            self._assemble(plan, given.B)
        env = _environment(plan, p, given)
        arrays = {name: torch.empty(given.B, width, dtype=self._dtype) for name, width in self._kernel.outs}
        stream = self._kernel.stream(env, arrays, self._state, given.B)
        self._steps = self._watched(stream, guard, [*p, *given.c])
        alone = self._order == [0] and self._outs == [0] and self._plain(plan) and not self._loose
        self.quick = self._steps if alone and self._expect(self._steps) else None

    def _assemble(self, plan: Plan, B: int) -> None:
        """The kernel of a plan, and how x and y go in and out of it."""
        from elman.engine.backends.kernel import DTYPES, Kernel

        program, sections = plan.program, plan.program.sections
        nodes = [node for name in ("hoisted", "loop", "trailing") for node in sections[name].nodes]
        dtype = program.s[0].dtype
        if dtype not in DTYPES or any(v.dtype != dtype for v in (*program.s, *program.y, *program.x)):
            raise NotSupported("values of several dtypes")
        kernel = Kernel.build(
            Section(nodes=nodes), program.s, [(f"y{i}", v) for i, v in enumerate(program.y)],
            list(enumerate(program.ns)), dtype, lambda v: kind(program, v),
            read=[v for name in ("hoisted", "loop") for v in sections[name].outs],
        )  # fmt: skip
        places = {v.name: i for i, v in enumerate(program.x)}
        if any(name not in places for name, _ in kernel.ins):
            raise NotSupported("an input that is no x")
        self._order = [places[name] for name, _ in kernel.ins]
        self._sizes = [(B, *[n for n in v.shape[1:] if isinstance(n, int)]) for v in program.y]
        self._outs = [int(name[1:]) for name, _ in kernel.outs]
        self._dtype, self._y_spec = dtype, plan.y_spec
        self._kernel, self._plan = kernel, plan

    def _watched(self, stream: Any, guard: Guard | None, tensors: Sequence[Tensor]) -> Steps:
        """The steps of a stream of the core, watching the tensors that it was packed from."""
        from elman.engine.backends.kernel import Steps

        steps = Steps(stream, Tensor._version, Tensor.data_ptr)
        self._loose = watch(steps, guard, tensors)
        return steps

    def _expect(self, steps: Steps) -> bool:
        """Say what x is at each step, and what y; whether the core can make it."""
        from elman.engine.backends.kernel import array_shape, from_dlpack

        flat = int(self._flat)
        made = array_shape(self._sizes[0][flat:], self._dtype)
        if made is None:
            return False
        steps.expect(
            Tensor, self._kinds[0][0][flat:], self._dtype, Tensor.shape, Tensor.dtype, Tensor.is_cpu,
            Tensor.is_contiguous, made, from_dlpack, torch._C._len_torch_dispatch_stack,
            torch.accelerator.is_available(),
        )  # fmt: skip
        return True

    def _plain(self, plan: Plan) -> bool:
        """Whether x and y are one tensor each."""
        one = len(self._kinds) == 1 and len(self._sizes) == 1
        return one and unflatten([0], self._x_spec) == 0 and unflatten([0], plan.y_spec) == 0

    def __call__(self, x: Any) -> Any:
        """The next step: y_t, leaves `(B, ...)`, in memory of their own."""
        if self.quick is not None and (y := self.quick.step_one(x)) is not None:
            return y
        if not self._flat:
            return self._general(x)
        leaves, spec = flatten(x)
        ys, y_spec = flatten(self._general(unflatten([v.unsqueeze(0) for v in leaves], spec)))
        return unflatten([y.squeeze(0) for y in ys], y_spec)

    def _general(self, x: Any) -> Any:
        leaves = self._checked(x)
        if self._steps is not None and any(mapping.get(key) is not t for mapping, key, t in self._loose):
            self.read()
        if self._steps is None:
            return self._by_scan(leaves)
        if counted():
            assert self._plan is not None
            with told(self._plan.program, FORWARD, leaves[0].shape[0], leaves[0].shape[0]):
                return self._general(x)
        leaves = [v.detach().contiguous() for v in leaves]
        ys = [torch.empty(size, dtype=self._dtype) for size in self._sizes]
        ins, outs = [leaves[i].data_ptr() for i in self._order], [ys[i].data_ptr() for i in self._outs]
        if not self._steps.step(ins, outs):
            self.read()
            return self._general(x)
        return unflatten(ys, self._y_spec)

    def _checked(self, x: Any) -> list[Tensor]:
        leaves, spec = flatten(x)
        if spec != self._x_spec:
            raise EngineError(f"x has the structure {spec}; expected that of the first one, {self._x_spec}")
        for v, (shape, dtype, device) in zip(leaves, self._kinds, strict=True):
            if not isinstance(v, Tensor) or v.shape != shape or v.dtype != dtype or v.device != device:
                there = isinstance(v, Tensor)
                what = f"{v.dtype} {tuple(v.shape)} on {v.device}" if there else type(v).__name__
                raise EngineError(
                    f"x is {what}; expected {dtype} {tuple(shape)} on {device}, as when the stream was made"
                )
        return leaves

    def _by_scan(self, leaves: list[Tensor]) -> Any:
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
        self.put(value)

    def begin(self) -> None:
        """Back to the state that it was made with."""
        if self._steps is None:
            self._state = [a.clone() for a in self._begin]
        else:
            for own, a in zip(self._state, self._begin, strict=True):
                own.copy_(a)

    def put(self, value: Any, rows: Tensor | None = None) -> None:
        """Set the state, or some rows of it. rows: bool `(B,)`, true where the row of `value` is taken."""
        leaves, spec = flatten(value)
        if spec != self._s_spec or any(a.shape != s.shape for a, s in zip(leaves, self._state, strict=True)):
            raise EngineError(
                f"the state has other shapes or another structure, {spec}; expected {self._s_spec} of "
                f"{[tuple(s.shape) for s in self._state]}"
            )
        with torch.inference_mode(False), torch.no_grad():
            new = [a.detach() if rows is None else _mixed(rows, a, s)
                   for a, s in zip(leaves, self._state, strict=True)]  # fmt: skip
            if self._steps is None:  # these may be another's, as a scan has returned them
                self._state = [a.to(s.dtype, copy=True) for a, s in zip(new, self._state, strict=True)]
            else:
                for own, a in zip(self._state, new, strict=True):
                    own.copy_(a)


def watch(originals: Any, guard: Guard | None, tensors: Sequence[Tensor]) -> list[tuple[Any, Any, Tensor]]:
    """Let the core watch tensors that weights were packed from, and where the guard finds them; gives the places
    `(mapping, key, tensor)` that it cannot watch."""
    for t in tensors:
        originals.add(t, t.detach(), _reach(t), not t.is_inference())
    places = [] if guard is None else guard.ways()
    found = [(mapping, key, t) for ways, t in zip(places, tensors, strict=False)
             for mapping, key in ways if key is not None]  # fmt: skip
    for mapping, key, t in found:
        if type(mapping) is dict:
            originals.add_entry(mapping, key, t)
    return [place for place in found if type(place[0]) is not dict]


def _environment(plan: Plan, p: Sequence[Tensor], given: Inputs) -> Environment:
    """What a step takes from outside: x, the context, the tensors that it reads, and what is made of these once."""
    program = plan.program
    rows = layout(1, given.B, None, None, False, given.x[0].device)
    env: Environment = {v.name: t[0] for v, t in zip(program.x, given.x, strict=True)}
    env.update({v.name: t.detach() for v, t in zip(program.c, given.c, strict=True)})
    env.update({v.name: t.detach() for v, t in zip(program.p, p, strict=True)})
    for name in ("static", "context"):
        run_section(program, name, {}, env, rows, plan.loops.compile)
    return env


def _mixed(rows: Tensor, new: Tensor, old: Tensor) -> Tensor:
    rows = rows.to(old.device).view(-1, *[1] * (old.dim() - 1))
    return torch.where(rows, new.detach().to(old.dtype), old)


def _reach(t: Tensor) -> int:
    """Bytes from the first element of a tensor to the end of its last one."""
    if t.numel() == 0:
        return 0
    last = sum((n - 1) * stride for n, stride in zip(t.shape, t.stride(), strict=True))
    return (last + 1) * t.element_size()
