"""A scan under torch.compile and torch.export: traced outside of the compiler, seen by it as one operator.

The compiler runs `_recipe` as it is and takes what it returns for constants: the Program's text, where each tensor that
the step reads is found, and the plain attributes that the trace rests on. Then it follows these paths itself, so that a
parameter is an input of its graph, and an attribute that changes makes it compile anew.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from elman.engine.backends import backend_of_environment
from elman.engine.call.inputs import Inputs, Manner, gather
from elman.engine.call.run import Plan
from elman.engine.call.surroundings import TRANSFORMED, is_transformed, refuse_tracing
from elman.engine.compiler.opaque import scan_op
from elman.engine.errors import EngineError, NotSupported
from elman.engine.structure import ScanResult, unflatten
from elman.engine.watching.guards import INTERNAL, Guard, is_users_own, modules_of

__all__ = ["Traced", "scan_compiled", "stay_outside"]

Path = tuple[tuple[bool, Any], ...]  # (whether it is an item, its name or key) of each part
Kinds = tuple[tuple[tuple[int, ...], torch.dtype, torch.device, bool], ...]
_ROWS, _STEPS = 5, 3
_PLAIN = (bool, int, float, str, type(None))
_TORCH_OWN = frozenset({*vars(nn.Module()), *INTERNAL}) - {"training"}


class Traced(Protocol):
    """What is needed of a `Scan`."""

    step: Any
    owner: nn.Module | None
    backend: str | None

    def __call__(self, x: Any, state: Any) -> ScanResult:
        """Run over a sequence."""
        ...

    def prepare(self, given: Inputs, wanted: str | None) -> tuple[Guard, Plan]:
        """The verified plan of this kind of call, and what it rests on."""
        ...

    def trust(
        self, given: Inputs, plan: Plan, manner: Manner,
        execute: Callable[[Plan, Sequence[Tensor], Inputs], ScanResult],
    ) -> None:  # fmt: skip
        """Verify others who carry out the plan of a prepared call."""
        ...


def scan_compiled(scan: Traced, given: Inputs) -> ScanResult | str:
    """The call as one operator; or, as a string, why there is none. Runs inside the compiler."""
    kinds = (_kinds(given.x, 2), _kinds(given.s, 1), _kinds(given.c, 1))
    skeletons = (
        unflatten(list(range(len(given.x))), given.x_spec),
        unflatten(list(range(len(given.s))), given.s_spec),
        None if given.c_spec is None else unflatten(list(range(len(given.c))), given.c_spec),
    )
    initial = any(t.requires_grad for t in given.initial)
    options = (
        given.lengths is not None, given.reset is not None, given.reverse, given.return_states,
        given.initial is not given.s,
    )  # fmt: skip
    reason, program, backend, paths, watched, y_form, n_y, dead = _recipe(
        scan, skeletons, kinds, initial, options
    )
    if reason:
        return str(reason)
    for path, value in watched:
        if _follow(scan, path) != value:
            raise EngineError("an attribute of the step changed while it was compiled")
    read = [_follow(scan, path) for path in paths]
    outs = scan_op(
        [*given.x, *given.s, *given.initial, *given.c, *read], program, backend, given.return_states, given.reverse,
        given.lengths, given.reset,
    )  # fmt: skip
    ys, final, states = _parted(outs, n_y, dead, given)
    return ScanResult(_rebuild(y_form, iter(ys)), final, states)


def _parted(outs: list[Tensor], n_y: int, dead: Any, given: Inputs) -> tuple[list[Tensor], Any, Any]:
    """The leaves of y, the final state and the states of all steps in what the operator gives."""
    n_s = len(given.s)
    # With lengths a row without steps hands its state, and its gradient, through.
    dead = dead if given.lengths is None else [*dead[:n_y], *[False] * n_s]
    results = [t.detach() if d else t for t, d in zip(outs[: n_y + n_s], dead, strict=True)]
    states = unflatten(outs[n_y + n_s : n_y + 2 * n_s], given.s_spec) if given.return_states else None
    return results[:n_y], unflatten(results[n_y:], given.s_spec), states


def stay_outside(scan: Traced) -> str:
    """Why a call in chunks is no part of a compiled graph; the compiler leaves it alone, as a step without a recipe."""
    return str(_chunks_stay_outside(scan)[0])


def _kinds(tensors: list[Tensor], axes: int) -> Kinds:
    """Shape without rows and steps, dtype, device and requires_grad; the compiler fixes these sizes."""
    return tuple([
        (tuple([operator.index(n) for n in t.shape[axes:]]), t.dtype, t.device, t.requires_grad) for t in tensors
    ])  # fmt: skip


def _follow(root: Any, path: Path) -> Any:
    for item, key in path:
        root = root[key] if item else getattr(root, key)
    return root


def _rebuild(form: Any, leaves: Iterator[Any]) -> Any:
    """A structure from its form: None for a leaf, else its kind, its keys and the forms in it."""
    if form is None:
        return next(leaves)
    name, keys, children = form
    items = [_rebuild(child, leaves) for child in children]
    if name == "dict":
        return dict(zip(keys, items, strict=True))
    return tuple(items) if name == "tuple" else items


def _form(tree: Any) -> Any:
    """The form of a structure whose leaves are None."""
    if tree is None:
        return None
    if type(tree) in (tuple, list):
        return (type(tree).__name__, None, tuple(_form(child) for child in tree))
    if type(tree) is dict:
        return ("dict", tuple(tree), tuple(_form(child) for child in tree.values()))
    raise NotSupported(
        f"under torch.compile y cannot be a {type(tree).__name__}",
        hint="give y as a tensor, tuple, list or dict",
    )


# An exported program that returns one can be saved.
torch.utils._pytree._register_namedtuple(ScanResult, serialized_type_name="elman.engine.ScanResult")


# ---- outside of the compiler


def _recipe(
    scan: Traced,
    skeletons: tuple[Any, ...],
    kinds: tuple[Kinds, ...],
    initial: bool,
    options: tuple[bool, ...],
) -> Any:
    """(reason, program, backend, paths, watched, form of y, its leaves, which results carry no gradient).

    A reason where there is no program.
    """
    try:
        wanted = scan.backend or backend_of_environment()
    except EngineError as error:
        return _no_recipe(scan, str(error))
    if wanted == "loop":
        return _no_recipe(scan, "the plain loop was asked for")
    if is_transformed():
        return _no_recipe(scan, TRANSFORMED)
    refuse_tracing()
    try:
        with _outside(scan):
            manner = Manner(*options)._replace(operator=True)
            given = _samples(skeletons, kinds, initial, manner.states)
            guard, plan = scan.prepare(given, wanted)
            scan.trust(given, plan, manner, functools.partial(_by_operator, wanted or ""))
            n_y, dead = len(plan.program.y), _dead(plan)
            form = _form(unflatten([None] * n_y, plan.y_spec))
            mappings = _mappings(scan)
            paths = tuple(_path_of(source.places, mappings) for source in guard.sources if source.external)
            watched = tuple(_watched(guard, mappings))
            return ("", str(plan.program), wanted or "", paths, watched, form, n_y, tuple(dead))
    except NotSupported as reason:
        hint = f"; instead: {reason.hint}" if reason.hint else ""
        return _no_recipe(scan, f"this cell has no fast path: {reason.reason}{hint}")
    except EngineError as error:
        return _no_recipe(scan, str(error))


def _dead(plan: Plan) -> list[bool]:
    """Which of the results, y and then the state, carry no gradient."""
    return plan.dead or [False] * (len(plan.program.y) + len(plan.program.s))


def _by_operator(backend: str, plan: Plan, p: Sequence[Tensor], few: Inputs) -> ScanResult:
    """A call as one operator."""
    outs = scan_op(
        [*few.x, *few.s, *few.initial, *few.c, *p], str(plan.program), backend, few.return_states, few.reverse,
        few.lengths, few.reset,
    )  # fmt: skip
    ys, final, states = _parted(outs, len(plan.program.y), _dead(plan), few)
    return ScanResult(unflatten(ys, plan.y_spec), final, states)


def _no_recipe(scan: Traced, reason: str) -> Any:
    """The reason; and the compiler leaves the call alone, with all that is under it, when it then runs outside."""
    if torch.compiler.is_compiling() and "torch._dynamo" in sys.modules:
        frames = torch._C._dynamo.eval_frame
        skip = frames._FrameExecStrategy(frames._FrameAction.SKIP, frames._FrameAction.SKIP)
        frames.set_code_exec_strategy(type(scan).__call__.__code__, skip)
    return (reason, "", "", (), (), None, 0, ())


def _chunks_stay_outside(scan: Traced) -> Any:
    return _no_recipe(
        scan, "checkpoint_every computes anew in the backward, which is no part of a compiled or exported graph; "
        "instead: checkpoint_every=None",
    )  # fmt: skip


for _constant in (_recipe, _chunks_stay_outside):  # as torch._dynamo.assume_constant_result does
    vars(_constant)["_dynamo_marked_constant"] = True


def _samples(skeletons: tuple[Any, ...], kinds: tuple[Kinds, ...], initial: bool, history: bool) -> Inputs:
    """A small call with real tensors of these kinds."""
    roles = [
        [_sample((*axes, *shape), dtype, device, grad) for shape, dtype, device, grad in kind]
        for axes, kind in zip(((_STEPS, _ROWS), (_ROWS,), (_ROWS,)), kinds, strict=True)
    ]
    x, state, context = (
        None if skeleton is None else torch.utils._pytree.tree_map(lambda i, role=role: role[i], skeleton)
        for skeleton, role in zip(skeletons, roles, strict=True)
    )
    given = gather(x, state, context, None, None, None, False, history)
    if initial:
        given.initial = [t.requires_grad_() if t.dtype.is_floating_point else t for t in given.initial]
    return given


def _sample(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, grad: bool) -> Tensor:
    if not dtype.is_floating_point:
        return torch.zeros(shape, dtype=dtype, device=device)
    return torch.randn(shape, device=device, dtype=torch.float32).to(dtype).requires_grad_(grad)


@contextmanager
def _outside(scan: Traced) -> Iterator[None]:
    """Out of the tracer's modes, with real tensors where it has put fake ones; random numbers stay as they are."""
    from torch.utils._python_dispatch import _disable_current_modes

    compiling, state = torch.compiler._is_compiling_flag, torch.get_rng_state()
    with _disable_current_modes(), _without_function_modes(), _real(scan):
        torch.compiler._is_compiling_flag = False  # nothing in here is seen by the compiler
        try:
            yield
        finally:
            torch.compiler._is_compiling_flag = compiling
            torch.set_rng_state(state)


@contextmanager
def _without_function_modes() -> Iterator[None]:
    """The tracer's modes of torch functions are off; new ones, as verification sets, work."""
    taken = [torch._C._pop_torch_function_stack() for _ in range(torch._C._len_torch_function_stack())]
    try:
        with torch._C.DisableTorchFunctionSubclass():
            yield
    finally:
        for mode in reversed(taken):
            torch._C._push_on_torch_function_stack(mode)


@contextmanager
def _real(scan: Traced) -> Iterator[None]:
    from torch._subclasses.fake_tensor import FakeTensor
    from torch._subclasses.functional_tensor import FunctionalTensor

    replaced: list[tuple[dict[str, Any], str, Tensor]] = []
    real: dict[int, Tensor] = {}
    for _, module in modules_of(scan.step, scan.owner, None):
        mappings: list[dict[str, Any]] = [module._parameters, module._buffers, module.__dict__]
        for mapping in mappings:
            for key, t in mapping.items():
                if isinstance(t, FakeTensor | FunctionalTensor):
                    replaced.append((mapping, key, t))
                    real.setdefault(id(t), _like(t))
    for mapping, key, t in replaced:
        mapping[key] = real[id(t)]
    try:
        yield
    finally:
        for mapping, key, t in replaced:
            mapping[key] = t


def _like(t: Tensor) -> Tensor:
    own = _sample(tuple(int(n) for n in t.shape), t.dtype, t.device, False)
    return (
        nn.Parameter(own, t.requires_grad)
        if isinstance(t, nn.Parameter)
        else own.requires_grad_(t.requires_grad)
    )


# ---- where things are


def _mappings(scan: Traced) -> dict[int, tuple[Path, bool]]:
    """For each dictionary of attributes that can be reached from the scan: the way there, and whether by items."""
    found: dict[int, tuple[Path, bool]] = {}
    seen: set[int] = set()
    todo: list[tuple[Any, Path]] = [(scan.owner, ((False, "owner"),)), (scan.step, ((False, "step"),))]
    while todo:
        thing, path = todo.pop(0)
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, nn.Module):
            for mapping in (thing._parameters, thing._buffers):
                found[id(mapping)] = (path, False)
            todo += [(child, (*path, (False, name))) for name, child in thing._modules.items()]
        for i, cell in enumerate(getattr(thing, "__closure__", None) or ()):
            found[id(cell)] = ((*path, (False, "__closure__"), (True, i)), False)
        todo += [(part, (*path, *way)) for part, way in _parts(thing)]
        own = getattr(thing, "__dict__", None)
        if isinstance(own, dict) and (isinstance(thing, nn.Module) or _own(thing)):
            found[id(own)] = (path, False)
            for key, value in own.items():
                if key in _TORCH_OWN:
                    continue
                if type(value) is dict:
                    found[id(value)] = ((*path, (False, key)), True)
                elif isinstance(value, nn.Module) or _own(value):
                    todo.append((value, (*path, (False, key))))
    return found


def _own(thing: object) -> bool:
    return is_users_own(type(thing))


def _parts(thing: Any) -> Iterator[tuple[Any, Path]]:
    """What a callable carries."""
    if isinstance(thing, functools.partial):
        yield thing.func, ((False, "func"),)
        yield from ((a, ((False, "args"), (True, i))) for i, a in enumerate(thing.args))
        yield from ((a, ((False, "keywords"), (True, k))) for k, a in thing.keywords.items())
    elif inspect.ismethod(thing):
        yield thing.__self__, ((False, "__self__"),)
    elif inspect.isfunction(thing):
        for i, cell in enumerate(thing.__closure__ or ()):
            try:
                yield cell.cell_contents, ((False, "__closure__"), (True, i), (False, "cell_contents"))
            except ValueError:
                continue


def _path_of(places: list[tuple[Any, Any]], mappings: dict[int, tuple[Path, bool]]) -> Path:
    """The way to a tensor; NotSupported where no attribute holds it."""
    for mapping, key in places:
        within = () if not hasattr(mapping, "i") else ((True, mapping.i),)
        cell = getattr(mapping, "cell", None)
        holder = mappings.get(id(cell if cell is not None else mapping.mapping if within else mapping))
        if holder is not None:
            path, item = holder
            return (*path, (item, "cell_contents" if cell is not None else key), *within)
    raise NotSupported(
        "under torch.compile every tensor that the step reads must be an attribute of its module",
        hint="register it as a buffer or parameter",
    )


def _watched(guard: Guard, mappings: dict[int, tuple[Path, bool]]) -> Iterator[tuple[Path, Any]]:
    """Plain attributes that the trace rests on, and what they are."""
    for mapping, key in guard.entries():
        holder = mappings.get(id(mapping))
        if holder is not None and key not in _TORCH_OWN:
            path, item = holder
            yield from _plain((*path, (item, key)), mapping.get(key), 3)


def _plain(path: Path, value: Any, depth: int) -> Iterator[tuple[Path, Any]]:
    if type(value) in _PLAIN:
        if not (isinstance(value, float) and math.isnan(value)):  # NaN is equal to nothing
            yield path, value
    elif depth and isinstance(value, list | tuple | dict):
        for key, inside in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _plain((*path, (True, key)), inside, depth - 1)
