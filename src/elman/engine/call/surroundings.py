"""What else is under way around a call: modes, tools and tensors that the engine's own inspection must leave alone.

The fast path looks at a step by running it on small tensors of its own. Where that cannot be (tensors without values, a
mode that wants to see or change each operation, a module that is half made) the plain loop answers, as it would have
without the engine. What others have set is taken off for the time of such a run and is there again afterwards.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.jit._trace import ONNXTracedModule
from torch.nn.modules import module
from torch.nn.parameter import is_lazy
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import _disable_current_modes, _get_current_dispatch_mode_stack

from elman.engine.call.inputs import Inputs
from elman.engine.errors import EngineError, NotSupported
from elman.engine.program.flops import counts_flops
from elman.engine.watching.guards import modules_of

__all__ = [
    "TRANSFORMED",
    "Unfinished",
    "allow_translation",
    "alone",
    "check_modules",
    "check_tensors",
    "faster_than_a_transform",
    "half_precision",
    "only_the_loop",
    "refuse_tracing",
    "unseen",
    "watched",
]

TRANSFORMED = "a torch.func transform is under way (vmap, grad, jvp)"
_TRACKER = "torch.utils.module_tracker"
_TRACED = (
    "torch.jit.trace would write down the steps of this one sequence, and a longer one would lose its end without a "
    "word; use torch.export.export, which keeps the number of steps open (torch.export.Dim)"
)
_translated: list[weakref.ref[Any]] = []
_ONNX = (
    "torch.onnx.export does not know what a recurrent layer of elman is until it is told: torch.onnx.export(model, "
    "args, dynamo=True, custom_translation_table=elman.onnx.translations()); a layer or a network of elman.nn alone: "
    "elman.onnx.export"
)


class Unfinished(NotSupported):
    """A module that its first call makes ready: for this call the plain loop, without a word."""


def allow_translation(table: object) -> None:
    """As long as `table` lives, torch.onnx.export with dynamo=True has been told what a recurrent layer is."""
    _translated.append(weakref.ref(table, _translated.remove))


def refuse_tracing() -> None:
    """EngineError under torch.jit.trace, and under torch.onnx.export. Where a graph is only to be looked at, as by
    counters of operations, the plain loop answers."""
    tracing = is_traced()
    if torch.onnx.is_in_onnx_export() and (tracing or (torch.compiler.is_exporting() and not _translated)):
        raise EngineError(_ONNX)
    if tracing and not _is_only_looked_at():
        raise EngineError(_TRACED)


def is_traced() -> bool:
    """Whether torch.jit writes down what is done."""
    return torch._C._get_tracing_state() is not None


def _is_only_looked_at() -> bool:
    """Whether the graph that torch.jit writes down is no program to be run on other sequences: `_get_trace_graph` is
    asked for it, not `torch.jit.trace`."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not ONNXTracedModule.forward.__code__:
        frame = frame.f_back
    return frame is not None


def is_transformed() -> bool:
    """Whether a transform of torch.func (vmap, grad, jvp, ...) is under way."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def is_forward_mode() -> bool:
    """Whether forward-mode derivatives are under way."""
    return forward_ad._current_level >= 0


def only_the_loop(given: Inputs) -> str | None:
    """Why the plain loop has to answer this call, or None: modes and tensors under which a step cannot be looked at,
    and derivative modes that only autograd itself knows."""
    seen = watched(given.x[0].device)
    if seen is not None:
        return seen
    if given.B == 0:
        return "the batch is empty"
    if given.lengths is not None and int(given.lengths.max()) == 0:
        return "all rows have length 0"
    return None


def watched(device: torch.device) -> str | None:
    """Why each operation has to be torch's own, or None: a transform, a derivative mode, a mode that may see them."""
    if is_transformed():
        return TRANSFORMED
    if is_forward_mode():
        return "forward-mode derivatives are under way"
    if is_traced():
        return "torch.jit writes down each operation"
    if device.type == "meta":
        return "meta tensors have no values"
    mode = _foreign_mode(device)
    return None if mode is None else f"{mode} is under way, which may see or change each operation"


def faster_than_a_transform() -> str:
    """What to write instead of the torch.func transform that is under way; empty where nothing is faster."""
    kinds = {frame.key() for frame in torch._C._functorch.get_interpreter_stack() or ()}
    of = torch._C._functorch.TransformType
    if of.Jvp in kinds or not kinds & {of.Vmap, of.Grad}:
        return ""
    if of.Vmap not in kinds:
        return "take the gradient with torch.autograd.grad, which takes the fast path (also through functional_call)"
    return (
        "call the layer for one model, or one sample, after the other (functional_call and torch.autograd.grad take "
        "the fast path) and stack the results"
    )


def half_precision(given: Inputs, tensors: list[Tensor]) -> str:
    """That a call is in half precision, which the core does not run, and what else to do; empty where it is not."""
    halves = {t.dtype for t in (*given.x, *given.s, *tensors)} & {torch.bfloat16, torch.float16}
    cast = torch.is_autocast_enabled("cpu")
    if not halves and not cast:
        return ""
    what = "autocast" if cast else str(halves.pop()).removeprefix("torch.")
    instead = (
        "torch.autocast('cpu', enabled=False) around this layer"
        if cast
        else "float32 or float64 for this layer"
    )
    return (
        f"{what} on the CPU runs on the reference backend, a torch call for each operation; instead: {instead}, "
        f"which the compiled core runs then; backend='reference' says that this is meant"
    )


def _foreign_mode(device: torch.device) -> str | None:
    """The name of a mode, of torch functions or of the dispatcher, that is not known to leave results as they are."""
    if torch._C._len_torch_function_stack():
        for function in _get_current_function_mode_stack():
            at_home = (
                isinstance(function, DeviceContext) and torch.device(function.device).type == device.type
            )
            if not at_home:
                return type(function).__name__
    if torch._C._len_torch_dispatch_stack():
        for mode in _get_current_dispatch_mode_stack():
            if not counts_flops(mode):
                return type(mode).__name__
    return None


def check_tensors(tensors: list[Tensor], what: str) -> None:
    """NotSupported where one is of a class with a behaviour of its own, or is not laid out in memory element by
    element."""
    for t in tensors:
        kind = type(t)
        if kind is not Tensor and kind is not nn.Parameter and not _behaves(kind):
            raise NotSupported(
                f"{what} holds a {kind.__name__}, a class of tensors with operations of its own, which see each step "
                "there", op=kind.__name__,
                hint="backend='loop' says that this is meant; a plain tensor (t.as_subclass(torch.Tensor), where that "
                "is what it is) takes the fast path",
            )  # fmt: skip
        if t.layout != torch.strided:
            raise NotSupported(f"{what} is {t.layout}", op=str(t.layout), hint="hand in a dense tensor")


def _behaves(kind: type[Tensor]) -> bool:
    """Whether a class of tensors (a subclass of nn.Parameter) does as plain ones do."""
    plain: Any = nn.Parameter
    return (
        kind.__torch_function__ is plain.__torch_function__
        and kind.__torch_dispatch__ is plain.__torch_dispatch__
    )


def check_modules(step: Callable[..., Any], owner: nn.Module | None) -> None:
    """Unfinished for a step with lazy modules before their first call; NotSupported for one with TorchScript in it, or
    with tensors that `check_tensors` refuses."""
    for path, part in modules_of(step, owner, None):
        name = f"'{path}'" if path else "the cell"
        if isinstance(part, torch.jit.ScriptModule):
            raise NotSupported(
                f"{name} is a TorchScript module, whose attributes cannot be watched", op="torch.jit",
                hint="give the module that it was scripted from",
            )  # fmt: skip
        held = [t for t in (*part._parameters.values(), *part._buffers.values()) if t is not None]
        if any(map(is_lazy, held)):
            raise Unfinished(f"{name} is lazy: this call makes its parameters")
        check_tensors(held, name)


@contextmanager
def alone() -> Iterator[None]:
    """For the engine's own small runs: hooks on saved tensors that others have set (checkpointing) are taken off and
    put on again; autocast casts a weight anew, whoever has cast it before.

    Hooks that do nothing, on top of the others, would keep what is saved for good: a node that saves its own result
    through a hook holds itself.
    """
    hooks: Any = torch._C._autograd
    taken = []
    while (pair := hooks._top_saved_tensors_default_hooks(True)) is not None:
        taken.append(pair)
        hooks._pop_saved_tensors_default_hooks()
    cached = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(cached)
        for pair in reversed(taken):
            hooks._push_saved_tensors_default_hooks(*pair)


@contextmanager
def unseen() -> Iterator[None]:
    """Modes of the dispatcher do not see what is done in here; nor do the hooks on all modules by which a counter of
    operations knows where it is."""
    tables: list[dict[Any, Any]] = [module._global_forward_pre_hooks, module._global_forward_hooks]
    before = [dict(table) for table in tables]
    for table, hooks in zip(tables, before, strict=True):
        for key, hook in hooks.items():
            if hook.__module__ == _TRACKER:
                del table[key]
    try:
        with _disable_current_modes():
            yield
    finally:
        for table, hooks in zip(tables, before, strict=True):
            table.clear()
            table.update(hooks)
