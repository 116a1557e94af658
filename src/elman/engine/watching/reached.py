"""What a run of a step enters and touches, seen while it runs: code, objects, and what these held before."""

from __future__ import annotations

import functools
import gc
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from elman.engine.backends import core_profile
from elman.engine.errors import NotSupported
from elman.engine.origins import (
    is_elman,
    is_engine,
    is_of_others,
    is_packaged,
    is_torch,
    is_users_own,
    package_of,
)
from elman.engine.watching.kinds import code_of, is_constant
from elman.engine.watching.names import Read, read_by
from elman.engine.watching.picture import Picture
from elman.engine.watching.places import Place

__all__ = ["GLOBAL_HOOKS", "Entered", "Reached", "names_of"]

GLOBAL_HOOKS = ("_global_forward_pre_hooks", "_global_forward_hooks", "_global_backward_hooks",
                "_global_backward_pre_hooks")  # fmt: skip
_HOOKS = {
    "_forward_hooks": "forward hook",
    "_forward_pre_hooks": "forward pre-hook",
    "_backward_hooks": "backward hook",
    "_backward_pre_hooks": "backward pre-hook",
}
_IMPORTS = "<frozen importlib._bootstrap>"
_NO_OBJECTS = (type, types.ModuleType, Tensor)
_OUTSIDE = {
    "time",
    "posix",
    "nt",
    "_io",
    "io",
    "_socket",
    "select",
    "_posixsubprocess",
    "sys",
    "gc",
    "decimal",
}
_ASKED = {"open", "input", "print", "id"}
_MACHINERY = {"contextlib", "abc", "<frozen abc>", "typing", "warnings", "_weakrefset"}
_CLOCKS = {"now", "today", "utcnow"}
_SWITCH = ("_get_", "get_", "is_", "_is_", "are_")
_IN_THE_KEY = {
    "is_grad_enabled",
    "get_default_dtype",
    "_get_tracing_state",
    "_get_dispatch_mode",
}


def names_of(read: Read, namespace: dict[str, Any]) -> set[str]:
    """Attributes that are taken from anything but a module that is a global."""
    names = set(read.names)
    for chain in read.chains:
        value = namespace.get(chain[0])
        for i, name in enumerate(chain[1:], 1):
            if not isinstance(value, types.ModuleType) or name not in value.__dict__:
                names.update(chain[i:])
                break
            value = value.__dict__[name]
    return names


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


class Entered:
    """Which functions of the user's and of libraries runs of a step enter, until they are known; then, which others."""

    def __init__(self) -> None:
        self.codes: set[types.CodeType] = set()
        self.others: set[types.CodeType] = set()
        self.known = False

    def __call__(self, frame: types.FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code not in self.codes and not is_torch(code) and not is_engine(code):
            (self.others if self.known else self.codes).add(code)

    def during(self, call: Callable[[], Any]) -> Any:
        """Run `call` and see what it enters. A profiler that is under way sees nothing of it, and goes on after."""
        profile, collecting = core_profile() or _Profile(), gc.isenabled()
        profile.take()
        gc.disable()  # what a collection runs is not what the step runs
        self.others.clear()
        sys.setprofile(self)
        try:
            return call()
        finally:
            sys.setprofile(None)
            profile.put_back()
            if collecting:
                gc.enable()


@dataclass(slots=True)
class Reached:
    """The Python code and the objects that runs of the step entered (a profile function while they run).

    What they could change is pictured before they can: at the entry of each function, what it can see from there.
    """

    codes: dict[types.CodeType, list[dict[str, Any]]] = field(default_factory=dict)  # and their globals
    objects: dict[int, Any] = field(default_factory=dict)
    called: set[int] = field(default_factory=set)  # ids of modules that were called as such, with their hooks
    importing: types.FrameType | None = None  # a module's body and what it calls are no part of the step
    blinded: bool = False  # the step has set a profile function of its own
    whole: set[int] = field(default_factory=set)  # objects whose attributes are found by computed names
    switches: dict[str, Any] = field(default_factory=dict)  # settings of torch that were asked for
    kinds: set[type] = field(default_factory=set)  # classes of the objects that the step makes itself
    outside: str = ""  # what it asks of the world outside Python
    package: str | None = None  # the installed package of the step itself, if it is of one
    before: Picture = field(default_factory=lambda: Picture((), before=True))
    said: dict[types.CodeType, bool] = field(
        default_factory=dict
    )  # whether a function returned anything but None
    _seen: dict[types.CodeType, dict[int, int]] = field(default_factory=dict)
    _names: dict[types.CodeType, list[str]] = field(default_factory=dict)

    def __call__(self, frame: types.FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if argument is sys.setprofile and not is_engine(code):
            self.blinded = True
        if self.importing is not None:
            if event == "return" and frame is self.importing:
                self.importing = None
            return
        if is_engine(code) or frame.f_globals.get("__name__", "").startswith("elman.engine."):
            return
        if event == "call":
            if code.co_filename == _IMPORTS and code.co_name == "_find_and_load":
                self.importing = frame
            else:
                self._enter(frame, code)
        elif event == "return":
            if not is_torch(code):
                self._leave(frame, code, argument)
        elif event == "c_call":
            self._ask(frame, code, argument)

    def _enter(self, frame: types.FrameType, code: types.CodeType) -> None:
        torch_code = is_torch(code)
        if torch_code and code.co_name not in ("_call_impl", "_wrapped_call_impl"):
            if self._is_a_method_of_torch(frame, code):
                self._picture(frame, code)
            return
        if code.co_argcount:
            first = frame.f_locals.get(code.co_varnames[0])
            kind = type(first)  # the object itself is not asked: it may be half made
            own = is_users_own(kind) and not kind.__module__.startswith("elman.engine.")
            if issubclass(kind, nn.Module) or (own and not issubclass(kind, _NO_OBJECTS)):
                self.objects[id(first)] = first
                if torch_code:
                    self.called.add(id(first))
        if self.package is None and not torch_code and not is_elman(code):
            self.package = package_of(code) or (None if is_of_others(code) else "")
        if not torch_code and (not self.is_of_others(code) or self._is_called_by_the_step(frame, code)):
            self._picture(frame, code)

    def is_of_others(self, code: types.CodeType) -> bool:
        """Whether code is of a library, and not of the package that the step itself is of."""
        return is_of_others(code) and not (self.package and package_of(code) == self.package)

    def _is_a_method_of_torch(self, frame: types.FrameType, code: types.CodeType) -> bool:
        """Whether the step asks an object of torch that is neither tensor nor module: an optimizer, a schedule."""
        caller = frame.f_back.f_code if frame.f_back is not None else None
        if caller not in self.codes or is_torch(caller) or not code.co_argcount:
            return False
        return not isinstance(frame.f_locals.get(code.co_varnames[0]), Tensor | nn.Module | type) and (
            code.co_varnames[0] == "self"
        )

    def _is_called_by_the_step(self, frame: types.FrameType, code: types.CodeType) -> bool:
        """Whether code of a library is no business of torch's alone, nor of how Python itself works."""
        caller = frame.f_back
        while caller is not None and is_packaged(code) and is_torch(caller.f_code):  # a module, a transform
            caller = caller.f_back
        return (
            caller is not None
            and caller.f_code in self.codes
            and Path(code.co_filename).stem not in _MACHINERY
        )

    def _picture(self, frame: types.FrameType, code: types.CodeType) -> None:
        """What a function can see at its entry, before it changes any of it."""
        read = read_by(code)
        namespaces = self.codes.setdefault(code, [])
        if not any(frame.f_globals is known for known in namespaces):
            namespaces.append(frame.f_globals)
            self._names[code] = sorted({*self._names.get(code, ()), *names_of(read, frame.f_globals)})
            if not self.is_of_others(code):
                asked = f"calls {read.anywhere}()" if read.anywhere else ""
                self.outside = self.outside or asked or ("reads _version" if "_version" in read.names else "")
            self._look(code)
            if not self.is_of_others(code):
                self.before.read(read, frame.f_globals)
        if not code.co_argcount and not code.co_freevars and not code.co_kwonlyargcount:
            return
        self._look(code)
        for name, value in frame.f_locals.items():
            if not is_constant(value):
                self.before.look_at_given(value, name)
                if read.dynamic and not isinstance(value, type | types.ModuleType | Tensor):
                    self.whole.add(id(value))

    def _look(self, code: types.CodeType) -> None:
        """From here on by the names in `code`."""
        self.before.names = self._names[code]
        self.before.seen = self._seen.setdefault(code, {})

    def _leave(self, frame: types.FrameType, code: types.CodeType, value: Any) -> None:
        self.said[code] = self.said.get(code, False) or value is not None
        caller = frame.f_back.f_code if frame.f_back is not None else None
        if caller in self._names and not isinstance(value, Tensor) and not is_constant(value):
            self._look(caller)
            self.before.look_at_given(value, f"{code.co_name}()")

    def _ask(self, frame: types.FrameType, code: types.CodeType, asked: Any) -> None:
        """A compiled function is called: one that reads the world outside, or a setting of torch."""
        if self.is_of_others(code) and not is_torch(code) and code not in self.codes:
            return
        name, module, owner = (
            getattr(asked, "__name__", ""),
            getattr(asked, "__module__", "") or "",
            asked.__self__,
        )
        if is_torch(code):
            back = frame.f_back
            if (
                back is None
                or is_torch(back.f_code)
                or is_engine(back.f_code)
                or not module.startswith("torch")
            ):
                return
        elif module in _OUTSIDE or (module == "builtins" and name in _ASKED and not is_elman(code)):
            self.outside = self.outside or f"calls {name}()"
        elif isinstance(owner, type) and owner.__module__ == "datetime" and name in _CLOCKS:
            self.outside = self.outside or f"asks {owner.__name__}.{name}() for the time"
        if self.outside:  # before it is done
            raise self._refusal()
        if module.startswith("torch") and name.startswith(_SWITCH) and name not in _IN_THE_KEY:
            self.switches[name] = asked

    def during(self, call: Callable[[], Any]) -> Any:
        """Run `call` and see what it reaches. A profiler that is under way sees nothing of it, and goes on after."""
        profile, collecting = core_profile() or _Profile(), gc.isenabled()
        profile.take()
        gc.disable()  # what a collection runs is not what the step runs
        gc.collect(0)  # from here on the youngest generation is what the step makes
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
            self._forget_own()
            if collecting:
                gc.enable()

    def _forget_own(self) -> None:
        """Objects that the step makes and drops are none of its surroundings; their classes are."""
        young = {id(thing) for thing in gc.get_objects(0)}
        self.before.forget(young)
        for number, thing in list(self.objects.items()):
            if number in young and not self.before.is_known(thing):
                self.kinds.add(type(thing))
                del self.objects[number]

    # ---- what the step leaves behind

    def changes(self) -> list[Place]:
        """Places that hold something else than before the step first ran."""
        return [place for place in self.before.places.values() if place.changed()]

    def check(self) -> None:
        """Raise NotSupported where the step does more than to compute its results."""
        if self.outside:
            raise self._refusal()
        changed = self.changes()
        if changed:
            raise self._told(changed[0], "")
        for hook, what in self._hooks():
            code = _code_of_hook(hook)
            if code is not None and self.said.get(code) is False and not is_torch(code):
                raise NotSupported(
                    f"{what} only watches: the fast path would not call it at each step", op=what,
                    hint="keep what it needs as part of y, or take the hook away when it has seen enough",
                )  # fmt: skip

    def _refusal(self) -> NotSupported:
        return NotSupported(
            f"the step {self.outside}, which the fast path would do once for all steps", op=self.outside,
            hint="do it outside the step, and hand in what it gives with x or the context",
        )  # fmt: skip

    def better_reason(self, reason: NotSupported) -> NotSupported:
        """A step that fails because of what it changed itself is told by that."""
        changed = self.changes()
        return self._told(changed[0], f" ({reason.reason})") if changed else reason

    def _told(self, place: Place, rest: str) -> NotSupported:
        name = place.label()
        return NotSupported(
            f"the step changes {name!r}, which is there before it{rest}", op=name,
            hint="hand it on as part of the state or of y instead",
        )  # fmt: skip

    def restore(self) -> None:
        """Put back what runs of the step have changed."""
        for place in self.changes():
            place.put()

    def _hooks(self) -> Iterator[tuple[Any, str]]:
        """Hooks on modules that were run, with words for them."""
        for name in GLOBAL_HOOKS:
            for hook in getattr(torch_module, name).values():
                yield hook, f"a hook on all modules ({_name_of(hook)})"
        for module in self.objects.values():
            if isinstance(module, nn.Module) and id(module) in self.called:
                for attribute, word in _HOOKS.items():
                    for hook in module.__dict__.get(attribute, {}).values():
                        yield hook, f"the {word} {_name_of(hook)} of {type(module).__name__}"

    def hooks(self) -> list[Any]:
        """The same without words."""
        return [hook for hook, _ in self._hooks()]

    def settings(self) -> list[tuple[str, Any]]:
        """Settings of torch that were asked for and can be asked for again."""
        found = []
        for name, ask in self.switches.items():
            try:
                answer = ask()
            except (TypeError, RuntimeError):
                continue
            if is_constant(answer) and not isinstance(answer, torch.Size):
                found.append((name, ask))
        return found


def _name_of(hook: Any) -> str:
    return repr(getattr(hook, "__name__", type(hook).__name__))


def _code_of_hook(hook: Any) -> types.CodeType | None:
    """The code that runs when a hook is called."""
    while isinstance(hook, functools.partial):
        hook = hook.func
    return code_of(hook) or code_of(getattr(type(hook), "__call__", None))  # noqa: B004 - the method is wanted
