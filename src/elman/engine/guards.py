"""What a traced step depends on beside its inputs, and whether it is still so.

A trace is good as long as every plain attribute, hook, global and closure variable that the step could read is what it
was, and every tensor it reads can be found again, live, where it was found. Which functions and objects those
are is not
guessed: the step is run once under a profile function that sees each Python frame it enters. Nothing is ever keyed on a
tensor's version: `p.data.mul_` does not move it.
"""

from __future__ import annotations

import functools
import gc
import inspect
import os
import sys
import types
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from elman.engine.backends import core_profile, core_watch
from elman.engine.errors import NotSupported

__all__ = ["INTERNAL", "MISSING", "Guard", "Reached", "freeze", "make_guard", "modules_of"]

INTERNAL = {"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "_is_full_backward_hook"}
_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
_BY_IDENTITY = (
    nn.Module,
    type,
    types.FunctionType,
    types.MethodType,
    types.ModuleType,
    types.BuiltinFunctionType,
)
_DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType, types.WrapperDescriptorType)
_GLOBAL_HOOKS = ("_global_forward_pre_hooks", "_global_forward_hooks", "_global_backward_hooks",
                 "_global_backward_pre_hooks")  # fmt: skip
_IMPORTS = "<frozen importlib._bootstrap>"
MISSING = object()
_NO_OBJECTS = (type, types.ModuleType, Tensor)
_STDLIB = str(Path(os.__file__).parent)
_MOST = 200
_LARGE = 65536
_TensorsByPlace = dict[int, list[tuple[Any, Any]]]


class _Same:
    """Equal to itself alone; keeps what it stands for, so that no later object can take its place in memory."""

    __slots__ = ("what",)

    def __init__(self, what: Any) -> None:
        self.what = what

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.what is self.what

    __hash__ = None  # type: ignore[assignment]


def freeze(value: Any) -> Any:
    """A picture of a value that compares equal while the value is unchanged.

    Containers and the user's own objects are looked into, up to `_MOST` entries in all; what is beyond, and all
    else, is compared by identity.
    """
    return _Picture().of(value)


class _Picture:
    """One walk over a value: each object once, and a bounded number of them."""

    def __init__(self) -> None:
        self.seen: dict[int, int] = {}
        self.left = _MOST

    def of(self, value: Any) -> Any:
        if isinstance(value, _PLAIN):
            return (type(value), repr(value) if isinstance(value, float | complex) else value)
        if isinstance(value, Tensor):
            return ("tensor", tuple(value.shape), value.dtype, value.device, value.requires_grad)
        if isinstance(value, np.ndarray) and value.nbytes <= _LARGE:
            return ("array", value.dtype.str, value.shape, value.tobytes())
        inside = self._inside(value)
        if inside is None or len(inside) > self.left:
            return (_Same(value), len(value)) if isinstance(value, Sized) else _Same(value)
        if id(value) in self.seen:
            return ("again", self.seen[id(value)])
        self.seen[id(value)] = len(self.seen)
        self.left -= len(inside)
        kind = type(value) if isinstance(value, list | tuple | dict | set | frozenset) else _Same(value)
        return (kind, [(k, self.of(v)) for k, v in inside])

    def _inside(self, value: Any) -> list[tuple[Any, Any]] | None:
        """(key, value) of what a container or an object of the user's own holds; None for anything else."""
        if isinstance(value, list | tuple):
            return list(enumerate(value)) if len(value) <= _MOST else None
        if isinstance(value, dict):
            return list(value.items()) if len(value) <= _MOST else None
        if isinstance(value, set | frozenset):
            return [(i, k) for i, k in enumerate(sorted(map(repr, value)))] if len(value) <= _MOST else None
        own = getattr(value, "__dict__", None)
        if isinstance(value, _BY_IDENTITY) or getattr(type(value), "watched_by_identity", False):
            return None
        if isinstance(own, dict) and is_users_own(type(value)):
            return list(own.items()) if len(own) <= _MOST else None
        return None


def _is_constant(value: Any) -> bool:
    """Whether nothing in a value can change: numbers, strings and tuples of such."""
    return isinstance(value, _PLAIN) or (type(value) is tuple and all(map(_is_constant, value)))


def _is_quick(value: Any) -> bool:
    """Whether a value is unchanged as long as it is the same object."""
    return isinstance(value, (*_BY_IDENTITY, *_DESCRIPTORS)) or _is_constant(value)


def is_users_own(kind: type) -> bool:
    """Whether a class is neither of Python's standard library nor of an installed package (but for elman's own)."""
    return _is_users_module(kind.__module__)


@functools.cache
def _is_users_module(name: str) -> bool:
    root = name.partition(".")[0]
    if root in ("elman", "__main__"):
        return True
    if root in sys.stdlib_module_names or root == "builtins":
        return False
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    return "site-packages" not in file and "dist-packages" not in file


class _Class:
    """Attributes of a class, inherited ones too, seen as a dictionary."""

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def get(self, key: str, default: Any = None) -> Any:
        for kind in self.kind.__mro__:
            if key in kind.__dict__:
                return kind.__dict__[key]
        return default


class _Cell:
    """A closure cell seen as a dictionary with one entry."""

    def __init__(self, cell: types.CellType) -> None:
        self.cell = cell

    def get(self, key: str, default: Any = None) -> Any:
        try:
            return self.cell.cell_contents
        except ValueError:
            return default


class _Item:
    """One place of a list or tuple attribute, seen as a dictionary."""

    def __init__(self, mapping: Any, key: str, i: int) -> None:
        self.mapping, self.key, self.i = mapping, key, i

    def get(self, key: str, default: Any = None) -> Any:
        items = self.mapping.get(self.key, ())
        return items[self.i] if self.i < len(items) else default


@dataclass(slots=True)
class Reached:
    """The Python code and the objects that a run of the step entered (a profile function while it runs)."""

    codes: dict[types.CodeType, dict[str, Any]] = field(default_factory=dict)
    objects: dict[int, Any] = field(default_factory=dict)
    importing: types.FrameType | None = None  # a module's body and what it calls are no part of the step
    blinded: bool = False  # the step has set a profile function of its own

    def __call__(self, frame: types.FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if argument is sys.setprofile and "/elman/engine/" not in code.co_filename:
            self.blinded = True
        if self.importing is not None:
            if event == "return" and frame is self.importing:
                self.importing = None
            return
        if event != "call":
            return
        if code.co_filename == _IMPORTS and code.co_name == "_find_and_load":
            self.importing = frame
            return
        if "/elman/engine/" in code.co_filename:
            return
        torch_code = "/torch/" in code.co_filename
        if torch_code and code.co_name not in ("_call_impl", "_wrapped_call_impl"):
            return
        if code.co_argcount:
            first = frame.f_locals.get(code.co_varnames[0])
            kind = type(first)  # the object itself is not asked: it may be half made
            own = is_users_own(kind) and not kind.__module__.startswith("elman.engine.")
            if issubclass(kind, nn.Module) or (own and not issubclass(kind, _NO_OBJECTS)):
                self.objects[id(first)] = first
        if not torch_code and not code.co_filename.startswith(_STDLIB):
            self.codes[code] = frame.f_globals

    def during(self, call: Callable[[], Any]) -> Any:
        """Run `call` and see what it reaches. A profiler that is under way sees nothing of it, and goes on after."""
        profile, collecting = core_profile() or _Profile(), gc.isenabled()
        profile.take()
        gc.disable()  # what a collection runs is not what the step runs
        sys.setprofile(self)
        try:
            result = call()
            if self.blinded or sys.getprofile() is not self:
                raise NotSupported(
                    "the step sets a profile function of its own",
                    op="setprofile",
                    hint="profile from outside",
                )
            return result
        finally:
            sys.setprofile(None)
            profile.put_back()
            self.importing, self.blinded = None, False
            if collecting:
                gc.enable()


class _Profile:
    """What stands in for the core's: of profilers that are not written in Python it knows Python's own alone."""

    def take(self) -> None:
        """Take the profile function off."""
        before: Any = sys.getprofile()
        self._in_python = before is None or callable(before)
        self._before = before
        if not self._in_python:
            before.disable()
        sys.setprofile(None)

    def put_back(self) -> None:
        """Put it on again."""
        if self._in_python:
            sys.setprofile(self._before)
        else:
            self._before.enable()


@dataclass(slots=True)
class Guard:
    """Watched places with what they held, and the places where the step's tensors are."""

    watched: list[tuple[Any, Any, Any, Any]] = field(default_factory=list)
    sizes: list[tuple[Any, int]] = field(default_factory=list)
    places: list[tuple[list[tuple[Any, Any]], torch.Size, torch.dtype, torch.device, bool]] = field(
        default_factory=list
    )

    core: Any = None  # the entries of dictionaries among all these, watched by the core
    rest: list[tuple[Any, Any, Any, Any]] = field(default_factory=list)

    def finish(self) -> Guard:
        """Hand to the core what it can watch."""
        self.rest = self.watched
        core = core_watch()
        if core is None:
            return self
        for what, n in self.sizes:
            core.add_length(what, n)
        self.rest = []
        for entry in self.watched:
            mapping, key, plain, _ = entry
            if type(mapping) is dict and plain is not MISSING:
                core.add(mapping, key, plain)
            elif isinstance(mapping, _Class) and plain is not MISSING:
                core.add_attribute(mapping.kind, key, plain)
            else:
                self.rest.append(entry)
        self.core = core
        return self

    def watch(self, mapping: Any, key: Any, value: Any) -> None:
        frozen = freeze(value)
        quick = _is_quick(value) or type(frozen) is _Same
        if (
            isinstance(value, dict | list | tuple | set) and not value
        ):  # mostly hooks: still the same, and still empty
            self.sizes.append((value, 0))
            quick = True
        elif type(value) is dict and len(value) <= _MOST and all(map(_is_quick, value.values())):
            quick = True  # a table: the same one, and the same in it
            self.sizes.append((value, len(value)))
            for k, v in value.items():
                self.watched.append((value, k, v, freeze(v)))
        self.watched.append((mapping, key, value if quick else MISSING, frozen))

    def holds(self) -> bool:
        """Whether everything is as it was when the step was traced."""
        return self.held() is not None

    def held(self) -> list[Tensor] | None:
        """The tensors that the step reads, if everything is as it was when the step was traced."""
        quick = self.core is not None and self.core.same()
        for mapping, n in () if quick else self.sizes:
            if len(mapping) != n:
                return None
        for mapping, key, plain, frozen in self.rest if quick else self.watched:
            now = mapping.get(key, MISSING)
            if now is not plain and freeze(now) != frozen:
                return None
        tensors: list[Tensor] = []
        for places, shape, dtype, device, requires_grad in self.places:
            mapping, key = places[0]
            now = mapping.get(key) if key is not None else mapping
            if not isinstance(now, Tensor) or now.shape != shape or now.dtype is not dtype:
                return None
            if now.device != device or now.requires_grad is not requires_grad:
                return None
            tensors.append(now)
            for mapping, key in places[1:]:  # tied under several names, and still so
                if mapping.get(key) is not now:
                    return None
        return tensors

    def tensors(self) -> list[Tensor]:
        """The tensors that the step reads, as they are now."""
        firsts = [places[0] for places, *_ in self.places]
        return [mapping.get(key) if key is not None else mapping for mapping, key in firsts]


def make_guard(
    step: Callable[..., Any], owner: nn.Module | None, tensors: list[Tensor], reached: Reached
) -> Guard:
    """Watch all that `step` read or could have read; find each of `tensors` by name."""
    guard = Guard()
    found: _TensorsByPlace = {}
    modules = modules_of(step, owner, reached)
    for _, module in modules:
        _watch_module(guard, module, found)
    for thing in (*reached.objects.values(), *_carried(step)):
        if isinstance(getattr(thing, "__dict__", None), dict) and not isinstance(thing, nn.Module | type):
            _watch_object(guard, thing, found)
    classes = {type(m) for _, m in modules} | {type(o) for o in reached.objects.values()}
    for kind in {type(m) for _, m in modules}:
        guard.watch(_Class(kind), "forward", _Class(kind).get("forward"))
    classes = {c for c in classes if not c.__module__.startswith("torch.")}
    for code, names in reached.codes.items():
        _watch_code(guard, code, names, classes, found)
    for name in _GLOBAL_HOOKS:
        guard.watch(torch_module.__dict__, name, getattr(torch_module, name))
    for t in tensors:
        places = found.get(id(t), [(t, None)])
        guard.places.append((places, t.shape, t.dtype, t.device, t.requires_grad))
    return guard.finish()


def modules_of(
    step: Callable[..., Any], owner: nn.Module | None, reached: Reached | None
) -> list[tuple[str, nn.Module]]:
    """Every module that the step can reach, with its path."""
    roots = [m for m in (owner, *_carried(step)) if isinstance(m, nn.Module)]
    roots += [m for m in (reached.objects.values() if reached else ()) if isinstance(m, nn.Module)]
    seen: dict[int, tuple[str, nn.Module]] = {}
    for root in roots:
        for path, module in root.named_modules():
            seen.setdefault(id(module), (path, module))
    return list(seen.values())


def _carried(step: Any) -> Iterator[Any]:
    """The objects that a callable carries: itself, a method's self, a partial's arguments, a function's closure."""
    yield step
    if isinstance(step, functools.partial):
        yield from _carried(step.func)
        yield from (*step.args, *step.keywords.values())
    elif inspect.ismethod(step):
        yield step.__self__
    elif inspect.isfunction(step):
        for cell in step.__closure__ or ():
            yield _Cell(cell).get("")


def _watch_module(guard: Guard, module: nn.Module, found: _TensorsByPlace) -> None:
    for mapping in (module._parameters, module._buffers, module._modules, module.__dict__):
        guard.sizes.append((mapping, len(mapping)))
    for mapping in (module._parameters, module._buffers):
        for key, t in mapping.items():
            if t is None:
                guard.watch(mapping, key, None)
            else:
                found.setdefault(id(t), []).append((mapping, key))
    for key, child in module._modules.items():
        guard.watch(module._modules, key, child)
    for key, value in module.__dict__.items():
        if key not in INTERNAL and not key.startswith("__"):
            _watch_value(guard, module.__dict__, key, value, found)


def _watch_object(guard: Guard, thing: Any, found: _TensorsByPlace) -> None:
    guard.sizes.append((thing.__dict__, len(thing.__dict__)))
    for key, value in list(thing.__dict__.items()):
        _watch_value(guard, thing.__dict__, key, value, found)


def _watch_value(guard: Guard, mapping: Any, key: Any, value: Any, found: _TensorsByPlace) -> None:
    guard.watch(mapping, key, value)
    if isinstance(value, Tensor):
        found.setdefault(id(value), []).append((mapping, key))
    elif isinstance(value, list | tuple):
        for i, t in enumerate(value):
            if isinstance(t, Tensor):
                found.setdefault(id(t), []).append((_Item(mapping, key, i), key))
    elif isinstance(value, dict):
        for k, t in value.items():
            if isinstance(t, Tensor):
                found.setdefault(id(t), []).append((value, k))


def _watch_code(
    guard: Guard, code: types.CodeType, names: dict[str, Any], classes: set[type], found: _TensorsByPlace
) -> None:
    """The globals, class attributes and closure variables that a piece of code names."""
    for name in code.co_names:
        value = names.get(name, MISSING)
        if value is not MISSING and not isinstance(value, types.ModuleType):
            _watch_value(guard, names, name, value, found)
        for kind in classes:
            place = _Class(kind)
            value = place.get(name, MISSING)
            if value is not MISSING and not hasattr(nn.Module, name):
                guard.watch(place, name, value)
    if not code.co_freevars:
        return
    for function in gc.get_referrers(code):
        if isinstance(function, types.FunctionType):
            for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
                variable = _Cell(cell)
                value = variable.get(name, MISSING)
                if value is not MISSING:
                    _watch_value(guard, variable, name, value, found)
