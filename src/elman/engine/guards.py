"""What a traced step depends on beside its inputs, and whether it is still so.

A trace is good as long as every plain attribute, hook, global and closure variable that the step could read is what it
was, and every tensor it reads can be found again, live, where it was found. Nothing is ever keyed on a tensor's version:
`p.data.mul_` does not move it.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from elman.engine.errors import NotSupported

__all__ = ["Guard", "Snapshot", "make_guard"]

_INTERNAL = {"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "_is_full_backward_hook"}
_HOOKS = {
    "_backward_pre_hooks", "_backward_hooks", "_forward_hooks", "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called", "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_state_dict_hooks",
    "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
}  # fmt: skip
_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
_BY_IDENTITY = (nn.Module, type, types.FunctionType, types.MethodType, types.ModuleType, types.BuiltinFunctionType)
_MISSING = object()
_DEPTH = 3


def _frozen(value: Any, depth: int = 0) -> Any:
    """A picture of a plain value that compares equal while it is unchanged; other objects are compared by identity."""
    if isinstance(value, _PLAIN):
        return (type(value), repr(value) if isinstance(value, float) else value)
    if isinstance(value, Tensor):
        return ("tensor", tuple(value.shape), value.dtype, value.device, value.requires_grad)
    if depth < _DEPTH and isinstance(value, list | tuple | set):
        return (type(value).__name__, tuple(_frozen(v, depth + 1) for v in value))
    if depth < _DEPTH and isinstance(value, dict):
        return ("dict", tuple((k, _frozen(v, depth + 1)) for k, v in value.items()))
    if isinstance(value, np.ndarray):
        return ("array", value.dtype.str, value.shape, hash(value.tobytes()))
    own = getattr(value, "__dict__", None)
    if depth < _DEPTH and isinstance(own, dict) and not isinstance(value, _BY_IDENTITY):
        return ("object", id(value), tuple((k, _frozen(v, depth + 1)) for k, v in own.items()))
    return id(value)


class _Class:
    """Attributes of a class, inherited ones too, seen as a dictionary."""

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def get(self, key: str, default: Any = None) -> Any:
        return inspect.getattr_static(self.kind, key, default)


class _Cell:
    """A closure cell seen as a dictionary with one entry."""

    def __init__(self, cell: types.CellType) -> None:
        self.cell = cell

    def get(self, key: str, default: Any = None) -> Any:
        try:
            return self.cell.cell_contents
        except ValueError:
            return default


@dataclass(slots=True)
class Guard:
    """Watched places with what they held, and the places where the step's tensors are."""

    watched: list[tuple[Any, str, Any]] = field(default_factory=list)
    sizes: list[tuple[dict[str, Any], int]] = field(default_factory=list)
    places: list[tuple[Any, Any, Any]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def holds(self) -> bool:
        """Whether everything is as it was when the step was traced."""
        for mapping, n in self.sizes:
            if len(mapping) != n:
                return False
        for mapping, key, expected in self.watched:
            now = mapping.get(key, _MISSING)
            if _frozen(now) != expected:
                return False
        for mapping, key, expected in self.places:
            now = mapping.get(key) if key is not None else mapping
            if not isinstance(now, Tensor) or _frozen(now) != expected:
                return False
        return True

    def tensors(self) -> list[Tensor]:
        """The tensors that the step reads, as they are now."""
        return [mapping.get(key) if key is not None else mapping for mapping, key, _ in self.places]


def make_guard(step: Callable[..., Any], owner: nn.Module | None, tensors: list[Tensor]) -> Guard:
    """Watch all that `step` and the modules under `owner` could read; find each of `tensors` by name."""
    guard = Guard()
    found: dict[int, tuple[Any, Any, str]] = {}
    for path, module in _modules(step, owner):
        _watch_module(guard, path, module, found)
    classes = {type(m) for _, m in _modules(step, owner) if not type(m).__module__.startswith("torch.")}
    for path, function in _functions(step, owner):
        _watch_function(guard, path, function, found)
        _watch_classes(guard, classes, function)
    for t in tensors:
        mapping, key, name = found.get(id(t), (t, None, f"a tensor {tuple(t.shape)} of the step's own"))
        guard.places.append((mapping, key, _frozen(t)))
        guard.names.append(name)
    return guard


def _modules(step: Callable[..., Any], owner: nn.Module | None) -> list[tuple[str, nn.Module]]:
    roots = [m for m in (owner, *_bound(step)) if isinstance(m, nn.Module)]
    seen: dict[int, tuple[str, nn.Module]] = {}
    for root in roots:
        for path, module in root.named_modules():
            seen.setdefault(id(module), (path, module))
    return list(seen.values())


def _bound(step: Any) -> Iterator[Any]:
    """The objects that a callable carries: itself, a method's self, a partial's arguments, a function's closure."""
    yield step
    if isinstance(step, functools.partial):
        yield from _bound(step.func)
        yield from (*step.args, *step.keywords.values())
    elif inspect.ismethod(step):
        yield step.__self__
    elif inspect.isfunction(step):
        for cell in step.__closure__ or ():
            yield _Cell(cell).get("")


def _watch_module(guard: Guard, path: str, module: nn.Module, found: dict[int, tuple[Any, Any, str]]) -> None:
    prefix = f"{path}." if path else ""
    for mapping in (module._parameters, module._buffers, module._modules, module.__dict__):
        guard.sizes.append((mapping, len(mapping)))
    for mapping in (module._parameters, module._buffers):
        for key, t in mapping.items():
            if t is not None:
                found.setdefault(id(t), (mapping, key, prefix + key))
            else:
                guard.watched.append((mapping, key, _frozen(None)))
    for key, child in module._modules.items():
        guard.watched.append((module._modules, key, _frozen(child)))
    for key, value in module.__dict__.items():
        if key in _INTERNAL or key.startswith("__"):
            continue
        if key in _HOOKS:
            guard.sizes.append((value, len(value)))
        else:
            _watch(guard, module.__dict__, key, value, prefix + key, found)


def _watch(
    guard: Guard, mapping: Any, key: str, value: Any, name: str, found: dict[int, tuple[Any, Any, str]]
) -> None:
    guard.watched.append((mapping, key, _frozen(value)))
    if isinstance(value, Tensor):
        found.setdefault(id(value), (mapping, key, name))
    elif isinstance(value, list | tuple):
        found.update({id(t): (_Item(mapping, key, i), key, f"{name}[{i}]") for i, t in enumerate(value) if isinstance(t, Tensor)})
    elif isinstance(value, dict):
        found.update({id(t): (value, k, f"{name}[{k!r}]") for k, t in value.items() if isinstance(t, Tensor)})


class _Item:
    """One place of a list or tuple attribute, seen as a dictionary."""

    def __init__(self, mapping: Any, key: str, i: int) -> None:
        self.mapping, self.key, self.i = mapping, key, i

    def get(self, key: str, default: Any = None) -> Any:
        items = self.mapping.get(self.key, ())
        return items[self.i] if self.i < len(items) else default


def _functions(step: Callable[..., Any], owner: nn.Module | None) -> list[tuple[str, types.FunctionType]]:
    """The user's own functions that a call of the step can reach by name (not those of torch)."""
    todo: list[tuple[str, Any, int]] = [("", b, 0) for b in _bound(step)]
    modules = _modules(step, owner)
    todo += [(path, type(m).forward, 0) for path, m in modules]
    todo += [(path, v, 0) for path, m in modules for v in m.__dict__.values() if isinstance(v, types.FunctionType)]
    classes = {type(m) for _, m in modules if not type(m).__module__.startswith("torch.")}
    found: dict[int, tuple[str, types.FunctionType]] = {}
    while todo:
        path, f, depth = todo.pop()
        f = inspect.unwrap(f.__func__ if inspect.ismethod(f) else f) if callable(f) else f
        if not isinstance(f, types.FunctionType) or id(f.__code__) in found or f.__module__.startswith("torch."):
            continue
        found[id(f.__code__)] = (path, f)
        if depth < _DEPTH:
            todo += [(path, f.__globals__.get(n), depth + 1) for n in f.__code__.co_names]
            todo += [(path, _Class(c).get(n), depth + 1) for n in f.__code__.co_names for c in classes]
            todo += [(path, _Cell(c).get(""), depth + 1) for c in f.__closure__ or ()]
    return list(found.values())


def _watch_function(
    guard: Guard, path: str, function: types.FunctionType, found: dict[int, tuple[Any, Any, str]]
) -> None:
    for name in function.__code__.co_names:
        value = function.__globals__.get(name, _MISSING)
        if value is not _MISSING and not isinstance(value, types.ModuleType | type):
            _watch(guard, function.__globals__, name, value, f"the global {name}", found)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        place = _Cell(cell)
        value = place.get(name, _MISSING)
        if value is not _MISSING:
            _watch(guard, place, name, value, f"the closure variable {name}", found)


def _watch_classes(guard: Guard, classes: set[type], function: types.FunctionType) -> None:
    """Plain values on a module's class that a function could read."""
    for kind in classes:
        place = _Class(kind)
        for name in function.__code__.co_names:
            value = place.get(name, _MISSING)
            if isinstance(value, (*_PLAIN, list, tuple, dict)) and not hasattr(nn.Module, name):
                guard.watched.append((place, name, _frozen(value)))


class Snapshot:
    """The modules under a step as they are, to be put back exactly; says what has changed."""

    def __init__(self, step: Callable[..., Any], owner: nn.Module | None) -> None:
        self._modules = _modules(step, owner)
        self._dicts = [
            [dict(d) for d in (m.__dict__, m._parameters, m._buffers, m._modules)] for _, m in self._modules
        ]
        self._frozen = [{k: _frozen(v) for k, v in m.__dict__.items()} for _, m in self._modules]
        self._contents = [
            {k: type(v)(v) for k, v in m.__dict__.items() if type(v) in (list, dict, set) and k not in _INTERNAL}
            for _, m in self._modules
        ]
        self._rng = torch.get_rng_state()

    def changed(self) -> str | None:
        """The name of an attribute that the step changed, or None."""
        for (path, module), dicts, frozen in zip(self._modules, self._dicts, self._frozen, strict=True):
            prefix = f"{path}." if path else ""
            for now, before in zip((module._parameters, module._buffers, module._modules), dicts[1:], strict=True):
                for key in (*now, *before):
                    if now.get(key) is not before.get(key, _MISSING):
                        return prefix + str(key)
            for key in {**module.__dict__, **dicts[0]}:
                same = module.__dict__.get(key, _MISSING) is dicts[0].get(key, _MISSING)
                if key not in _INTERNAL and not (same and _frozen(module.__dict__.get(key)) == frozen.get(key)):
                    return prefix + key
        return None

    def better_reason(self, reason: NotSupported) -> NotSupported:
        """A step that fails because of what it changed itself is told by the attribute."""
        name = self.changed()
        if name is None:
            return reason
        return NotSupported(
            f"the step changes the attribute {name!r} ({reason.reason})", op=name,
            hint="hand it on as part of the state instead, or make it before the first call",
        )  # fmt: skip

    def tensors(self) -> list[Tensor]:
        """Parameters, buffers and tensor attributes of the modules."""
        return [t for dicts in self._dicts for d in dicts[:3] for t in d.values() if isinstance(t, Tensor)]

    def labels(self) -> dict[int, str]:
        """Names of these by their memory."""
        names = {}
        for (path, module), dicts in zip(self._modules, self._dicts, strict=True):
            prefix = f"{path}." if path else ""
            kinds = (("the attribute", dicts[0]), ("the parameter", dicts[1]), ("the buffer", dicts[2]))
            for what, entries in kinds:
                for key, t in entries.items():
                    if isinstance(t, Tensor):
                        label = f"{what} '{prefix}{key}' of {type(module).__name__}"
                        names[t.untyped_storage()._cdata] = label
        return names

    def restore(self) -> None:
        """Put every attribute and the random state back."""
        torch.set_rng_state(self._rng)
        for (_, module), dicts, contents in zip(self._modules, self._dicts, self._contents, strict=True):
            for now, before in zip(
                (module.__dict__, module._parameters, module._buffers, module._modules), dicts, strict=True
            ):
                if _differs(now, before):
                    now.clear()
                    now.update(before)
            for key, items in contents.items():
                _restore_container(module.__dict__[key], items)

    def check(self) -> None:
        """Raise NotSupported where the step has changed an attribute."""
        if (name := self.changed()) is not None:
            raise NotSupported(
                f"the step changes the attribute {name!r}", op=name, hint="hand it on as part of the state instead"
            )


def _differs(now: dict[str, Any], before: dict[str, Any]) -> bool:
    return now.keys() != before.keys() or any(now[k] is not before[k] for k in now)


def _restore_container(value: Any, items: Any) -> None:
    if isinstance(value, list):
        value[:] = items
    elif isinstance(value, set):
        value.clear()
        value.update(items)
    elif _differs(value, items):
        value.clear()
        value.update(items)
