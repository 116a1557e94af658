"""Who runs the loops of a Program: `reference` with torch, `native` with the compiled core."""

from __future__ import annotations

import os
from typing import Any

from elman.engine.backends.reference import ReferenceLoops
from elman.engine.errors import EngineError, NotSupported
from elman.engine.program.program import Program

__all__ = ["BACKENDS", "backend_of_environment", "caller", "choose_loops", "core_profile", "core_watch"]

BACKENDS = ("native", "reference", "loop")


def backend_of_environment() -> str | None:
    """What the variable ELMAN_BACKEND asks for. Raises EngineError where there is no such backend."""
    wanted = os.environ.get("ELMAN_BACKEND") or None
    if wanted is not None and wanted not in BACKENDS:
        raise EngineError(f"ELMAN_BACKEND={wanted!r}; expected one of {BACKENDS}")
    return wanted


def core_watch(nothing: Any) -> Any:
    """An `elman._core.Watch`, or None without the core. nothing: what stands for no value among those it is given."""
    try:
        from elman.engine.backends.kernel import Watch
    except ImportError:
        return None
    return Watch(nothing)


def core_profile() -> Any:
    """An `elman._core.Profile`, or None without the core."""
    try:
        from elman.engine.backends.kernel import Profile
    except ImportError:
        return None
    return Profile()


class _Caller:
    """`elman._core.Caller` without the core: it hands every call on."""

    steps: Any = None

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return self._call(*args, **keywords)  # type: ignore[attr-defined]


def caller() -> type[Any]:
    """What is called with one x after the other: the class `elman._core.Caller`, or one like it without the core."""
    try:
        from elman.engine.backends.kernel import Caller
    except ImportError:
        return _Caller
    return Caller


def choose_loops(program: Program, wanted: str | None, device: Any) -> tuple[Any, str]:
    """The loops of the fastest backend that can run `program`, and why it is not a faster one.

    Raises EngineError where a backend was named that cannot.
    """
    if wanted == "reference":
        return ReferenceLoops(program), "the reference was asked for"
    try:
        from elman.engine.backends.counting import CountingLoops, counts
        from elman.engine.backends.native import NativeLoops

        return (CountingLoops if counts(program) else NativeLoops)(program, device), ""
    except (ImportError, NotSupported) as error:
        reason = f"not native: {error}"
        if wanted == "native":
            raise EngineError(f"backend='native' cannot run this step: {error}") from error
        return ReferenceLoops(program), reason
