"""The functions of csrc/elman.h, as they stand in the compiled core."""

from __future__ import annotations

import ctypes
import importlib.machinery
import importlib.util
import os
from functools import cache
from pathlib import Path

__all__ = ["Described", "FrozenError", "SequenceArguments", "library", "refuse"]

Pointer = ctypes.c_void_p
Pointers = ctypes.POINTER(Pointer)
_INT = ctypes.c_int64


class FrozenError(ValueError):
    """What is wrong with a frozen file, or with a call of a frozen model."""


class Described(ctypes.Structure):
    """`elman_array`."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("width", _INT),
        ("dims", ctypes.c_int32),
        ("shape", ctypes.POINTER(_INT)),
        ("per_sequence", ctypes.c_int32),
    )


class SequenceArguments(ctypes.Structure):
    """`elman_sequence`."""

    _fields_ = (
        ("steps", _INT),
        ("batch", _INT),
        ("lengths", Pointer),
        ("x", Pointers),
        ("y", Pointers),
        ("context", Pointers),
        ("initial", Pointers),
        ("final", Pointers),
        ("threads", ctypes.c_int),
    )


_NAMES = {
    "elman_version": (ctypes.c_char_p,),
    "elman_isa": (ctypes.c_char_p,),
    "elman_error": (ctypes.c_char_p,),
    "elman_load": (ctypes.c_int, ctypes.c_char_p, Pointers),
    "elman_load_memory": (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, Pointers),
    "elman_free": (None, Pointer),
    "elman_count": (_INT, Pointer, ctypes.c_int),
    "elman_describe": (ctypes.c_int, Pointer, ctypes.c_int, _INT, ctypes.POINTER(Described)),
    "elman_text": (ctypes.c_char_p, Pointer, ctypes.c_char_p),
    "elman_can_step": (ctypes.c_int, Pointer),
    "elman_open": (ctypes.c_int, Pointer, _INT, Pointers),
    "elman_close": (None, Pointer),
    "elman_step": (ctypes.c_int, Pointer, Pointer, Pointer),
    "elman_step_all": (ctypes.c_int, Pointer, Pointers, Pointers),
    "elman_step_rows": (ctypes.c_int, Pointer, _INT, Pointer, Pointers, Pointers),
    "elman_get_state": (ctypes.c_int, Pointer, _INT, Pointer),
    "elman_set_state": (ctypes.c_int, Pointer, _INT, Pointer),
    "elman_row_size": (ctypes.c_size_t, Pointer),
    "elman_get_row": (ctypes.c_int, Pointer, _INT, Pointer),
    "elman_set_row": (ctypes.c_int, Pointer, _INT, Pointer),
    "elman_reset": (ctypes.c_int, Pointer, Pointer),
    "elman_set_context": (ctypes.c_int, Pointer, Pointers),
    "elman_run": (ctypes.c_int, Pointer, ctypes.POINTER(SequenceArguments)),
}


@cache
def library() -> ctypes.CDLL:
    """The library: that of ELMAN_RUNTIME, else the compiled core of this package. FrozenError where there is none."""
    given = os.environ.get("ELMAN_RUNTIME")
    place = Path(given) if given else _core()
    try:
        found = ctypes.CDLL(str(place))
        for name, (gives, *takes) in _NAMES.items():
            function = getattr(found, name)
            function.restype, function.argtypes = gives, takes
    except (OSError, AttributeError) as error:
        raise FrozenError(f"{place} is no library of elman.h: {error}") from None
    return found


def _core() -> Path:
    """The library of elman-runtime, or the compiled core, which has these functions too; it is not imported."""
    alone = Path(__file__).parents[1] / "libelman_runtime.so"
    if alone.is_file():
        return alone
    spec = importlib.util.find_spec("elman._core")
    if spec is None or spec.origin is None:
        raise FrozenError(
            "this installation has no compiled core, which runs frozen models; build it, or name the library "
            "elman_runtime by ELMAN_RUNTIME"
        )
    return Path(spec.origin)


def refuse() -> FrozenError:
    """What the last call that failed says."""
    return FrozenError(library().elman_error().decode(errors="replace"))
