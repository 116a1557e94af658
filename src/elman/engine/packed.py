"""Whole calls, forward alone, on weights that are packed once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from elman.engine.backends import backend_of_environment
from elman.engine.call.inputs import Inputs, Manner, gather
from elman.engine.call.quick import asked_for
from elman.engine.call.run import Plan
from elman.engine.call.surroundings import only_the_loop
from elman.engine.errors import NotSupported
from elman.engine.program.flops import counted
from elman.engine.scan import Scan
from elman.engine.stream import watch
from elman.engine.structure import LEAF, ScanResult, flatten, unflatten
from elman.engine.watching.guards import Guard

if TYPE_CHECKING:
    from elman.engine.backends.kernel import PackedCall

__all__ = ["Packed", "PackedScan"]

_MOST_KEPT = 8  # kinds of calls


class Packed:
    """The calls of one plan with one batch size in one direction. NotSupported where the core does not run them whole.

    p: the tensors that the step reads, which are packed or copied now. guard: where these are found, to be watched.
    """

    def __init__(
        self, plan: Plan, p: Sequence[Tensor], B: int, reverse: bool, guard: Guard | None = None
    ) -> None:
        from elman.engine.backends.courses import BATCH, OWN, ROWS, Writer
        from elman.engine.backends.kernel import PackedCall, threads

        try:
            writer = Writer(plan.program, plan.loops, (), plan.before, grad=False)
            course = writer.forward()
            self._recipe = course.finish()
        except (KeyError, ValueError) as error:
            raise NotSupported(f"the core does not run a whole call of it ({error})") from error
        self.plan, self.B, self.dtype, self._given = plan, B, writer.dtype, course.given
        # of the tensors of a call, those that differ from call to call
        self._outside = len(writer.inputs) - len(p)
        known = self._known(writer, p)
        read = {i for step in course.steps if step[0] == "kernel" for i in step[7]}
        given = [i for i, (keeper, *_) in enumerate(course.arrays) if keeper == 0]
        self._alive: list[Tensor] = []  # read where it lies; of all else the core has its own copy by then
        addresses: list[int] = []
        packed: list[Tensor] = []
        for array, what in zip(given, course.given, strict=True):
            if isinstance(what, int) and what < self._outside:
                addresses.append(0)
                continue
            t = what if isinstance(what, Tensor) else known[what]
            t = t.detach().to(self.dtype).contiguous()
            t = t.clone() if array in read else t
            (self._alive if array in read else packed).append(t)
            addresses.append(t.data_ptr())
        try:
            self.core: PackedCall = PackedCall(
                self._recipe, B, reverse, addresses, threads(), Tensor._version, Tensor.data_ptr
            )
        except ValueError as error:
            raise NotSupported(f"the core refuses the call: {error}") from error
        self._own = [(extent == ROWS, sizes) for keeper, extent, _, sizes in course.arrays if keeper == OWN]
        assert all(extent in (ROWS, BATCH) for keeper, extent, *_ in course.arrays if keeper == OWN)
        self._ys = [course.own.index(v.name) for v in plan.program.y]
        self._finals = [course.own.index(f"final {j}") for j in range(len(plan.program.s))]
        self._loose = watch(self.core, guard, p)
        self._form: Any = None  # of the calls that the core answers by itself

    def _known(self, writer: Any, p: Sequence[Tensor]) -> dict[Any, Tensor]:
        """What a given array may be: tensors that the step reads, by their place, and what torch makes of them once."""
        known: dict[Any, Tensor] = {self._outside + i: t for i, t in enumerate(p)}
        named = {v.name: known[i] for i, v in enumerate(writer.inputs) if i >= self._outside}
        for f, ins, outs in writer.statics:
            if any(name not in named for name in ins):
                raise NotSupported("torch makes something of the context at each call")
            results = f(self.B, torch.device("cpu"), *[named[name].detach() for name in ins])
            named.update(zip(outs, results, strict=True))
        return known | named

    def is_current(self) -> bool:
        """Whether no change is seen of what was packed."""
        return self.core.same() and all(mapping.get(key) is t for mapping, key, t in self._loose)

    def run(self, x: Sequence[Tensor], s: Sequence[Tensor], c: Sequence[Tensor]) -> ScanResult | None:
        """A call, leaves `(T, B, ...)` and `(B, ...)`; None while another thread is at it."""
        tensors = [t.detach().to(self.dtype).contiguous() for t in (*x, *s, *s, *c)]
        T = x[0].shape[0]
        given = [
            tensors[i].data_ptr() if isinstance(i, int) and i < self._outside else 0 for i in self._given
        ]
        own = [
            torch.empty(*((T, self.B) if rows else (self.B,)), *sizes, dtype=self.dtype)
            for rows, sizes in self._own
        ]
        if not self.core.run(T, given, [t.data_ptr() for t in own]):
            return None
        ys, finals = [own[i] for i in self._ys], [own[i] for i in self._finals]
        return ScanResult(unflatten(ys, self.plan.y_spec), unflatten(finals, self.plan.s_spec), None)

    def answer_as(
        self, result: type, batch_first: bool, ahead: tuple[int, ...], zeros: bool, modules: Iterable[nn.Module],
        places: Iterable[tuple[dict[str, Any], str]] = (),
    ) -> PackedCall | None:  # fmt: skip
        """What answers calls `(x[, state])` by itself, where x and y are one tensor each; None where nothing does.

        result: what is made of `(y, state)`. ahead: sizes of a state's leaf before its batch axis. zeros: whether a
        call without a state begins with zeros. modules: whose mode is to stay what it is; places: entries that are.
        """
        form = result, batch_first, ahead, zeros
        if self._form != form and self._expect(*form):
            self._form = form
            for module in modules:
                self.core.add_entry(vars(module), "training", module.training)
            for mapping, key in places:
                self.core.add_entry(mapping, key, mapping[key])
        return self.core if self._form == form else None

    def _expect(self, result: type, batch_first: bool, ahead: tuple[int, ...], zeros: bool) -> bool:
        from elman.engine.backends.kernel import from_dlpack, threads

        program, n_x, n_s = self.plan.program, len(self.plan.program.x), len(self.plan.program.s)
        several = self.plan.s_spec != LEAF
        plain = n_x == 1 and self.plan.y_spec == LEAF and not program.c and not self._loose
        if (
            not plain
            or (batch_first and self.B > 1)
            or any(v.dtype != self.dtype for v in (*program.x, *program.s))
        ):
            return False
        if several and self.plan.s_spec != flatten((0,) * n_s)[1]:
            return False
        dense = (
            Tensor, self.dtype, Tensor.shape, Tensor.dtype, Tensor.is_cpu, Tensor.is_contiguous, Tensor.requires_grad,
            torch.accelerator.is_available(),
        )  # fmt: skip
        questions = [
            (torch._C._len_torch_dispatch_stack, 0), (torch._C._len_torch_function_stack, 0),
            (torch._C._functorch.peek_interpreter_stack, None), (torch._C._get_tracing_state, None),
            (partial(torch.is_autocast_enabled, "cpu"), False), (torch.get_default_dtype, torch.get_default_dtype()),
            (torch.get_num_threads, threads()),
        ]  # fmt: skip
        places = [[k for k, i in enumerate(self._given) if i == wanted] for wanted in range(n_x + n_s)]
        widths = [self._own[i][1] for i in self._finals]
        self.core.expect(
            dense, from_dlpack, result, questions, self.dtype.itemsize, batch_first,
            [n for n in program.x[0].shape[1:] if isinstance(n, int)], places[0], self._own[self._ys[0]][1], self._ys,
            [torch.Size((*ahead, self.B, *width)) for width in widths], places[n_x:], self._finals, several, zeros,
        )  # fmt: skip
        self.core.add_entry(vars(forward_ad), "_current_level", -1)
        return True


class PackedScan:
    """A scan as it was when it was packed, forward alone: called as the scan is, answers bit for bit as it does.

    Weights are packed at the first call of each kind (sizes but for T, dtypes, direction). A change of a parameter is
    seen at the next call, as by a `Stepper`; it is packed anew then. What is not made for this (lengths, resets, all
    states, what draws random numbers or is no kernel of the core's) the scan answers itself, without gradients.
    """

    watched_by_identity = True

    def __init__(self, scan: Scan) -> None:
        self.scan, self.owner = scan, scan.owner
        self.last: Packed | None = None  # that has answered the last call
        self.reason = "no call yet"  # why the last call was not one of packed weights; empty where it was
        self._packed: dict[Any, Packed | str] = {}

    def read(self) -> None:
        """Pack all anew at the next call: attributes that are no tensors have changed."""
        for kept in self._packed.values():
            if isinstance(kept, Packed):
                kept.core.retire()
        self._packed.clear()
        self.last = None

    def __call__(
        self, x: Any, state: Any, *, context: Any = None, reverse: bool = False, **options: Any
    ) -> ScanResult:
        """See `Scan.__call__`."""
        with torch.no_grad():
            self.last, self.reason = None, "lengths, resets, all states or chunks"
            if all(value is None or value is False for value in options.values()):
                given = gather(x, state, context, None, None, None, reverse, False)
                result = self._answer(given)
                if result is not None:
                    return result
            return self.scan(x, state, context=context, reverse=reverse, **options)

    def _answer(self, given: Inputs) -> ScanResult | None:
        if torch.compiler.is_compiling() or counted() or only_the_loop(given) is not None:
            self.reason = "a compiler, a transform or a mode is under way"
            return None
        if any(t.device.type != "cpu" for t in (*given.x, *given.s)):
            self.reason = "the tensors are on another device"
            return None
        with torch.inference_mode(False), torch.no_grad():
            packed = self._kept(given)
        if isinstance(packed, str):
            self.reason = packed
            return None
        result = packed.run(given.x, given.s, given.c)
        self.last, self.reason = packed, "another thread was at it" if result is None else ""
        return result

    def _kept(self, given: Inputs) -> Packed | str:
        states = tuple((s.dtype, s.shape) for s in given.s)
        key = (
            given.B,
            given.reverse,
            given.key(),
            states,
            self.scan.backend,
            asked_for(),
            torch.get_num_threads(),
        )
        kept = self._packed.get(key)
        if kept is None or (isinstance(kept, Packed) and not kept.is_current()):
            if isinstance(kept, Packed):
                kept.core.retire()
            self._packed.pop(key, None)
            while len(self._packed) >= _MOST_KEPT:
                gone = self._packed.pop(next(iter(self._packed)))
                if isinstance(gone, Packed):
                    gone.core.retire()
            self._packed[key] = kept = self._pack(given)
        return kept

    def _pack(self, given: Inputs) -> Packed | str:
        """The call, verified; a reason where there is none."""
        try:
            guard, plan = self.scan.prepare(given, self.scan.backend or backend_of_environment())
            if plan.random:
                return "the step draws random numbers"
            if plan.loops.name != "native":
                return plan.reason
            packed = Packed(plan, guard.tensors(), given.B, given.reverse, guard)
            self.scan.trust(given, plan, Manner(packed=True, reverse=given.reverse), _run)
        except NotSupported as reason:
            return reason.reason
        return packed


def _run(plan: Plan, p: Sequence[Tensor], few: Inputs) -> ScanResult:
    """A call over a few steps with other tensors in the place of what the step reads."""
    with torch.no_grad():
        result = Packed(plan, p, few.B, few.reverse).run(few.x, few.s, few.c)
    assert result is not None
    return result
