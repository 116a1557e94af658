"""Kinds of Python values: which are plain, which never change, which have nothing but attributes."""

from __future__ import annotations

import datetime
import decimal
import functools
import re
import threading
import types
from typing import Any, NamedTuple

import numpy as np
import torch

__all__ = ["BY_VALUE", "SAME_FOREVER", "Same", "are_constants", "code_of", "is_constant", "is_made_in_python",
           "is_open", "own_dict", "written"]  # fmt: skip


class _Pair(NamedTuple):
    one: int


_CONSTANTS: frozenset[type] = frozenset({
    bool, int, float, complex, str, bytes, type(None), type(...), type(NotImplemented), range, slice, torch.dtype,
    torch.device, torch.layout, torch.memory_format, torch.Size,
})  # fmt: skip
_BY_REPR = (float, complex, slice)
SAME_FOREVER = (
    types.CodeType, types.MethodDescriptorType, types.WrapperDescriptorType, types.MethodWrapperType,
    types.GetSetDescriptorType, types.MemberDescriptorType, types.ClassMethodDescriptorType, types.GenericAlias,
    types.UnionType, type(vars(_Pair)["one"]), re.Pattern, type(threading.Lock()), type(threading.RLock()),
    np.dtype, np.ufunc, type(np.mean), torch.finfo, torch.iinfo, type(torch.ops.aten.add),
    type(torch.ops.aten.add.Tensor), torch.ScriptFunction,
)  # fmt: skip
BY_VALUE = (np.generic, datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo, decimal.Decimal)
_HEAP_TYPE = 1 << 9


class Same:
    """Equal to itself alone; keeps what it stands for, so that no later object can take its place in memory."""

    __slots__ = ("what",)

    def __init__(self, what: Any) -> None:
        self.what = what

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.what is self.what

    __hash__ = None  # type: ignore[assignment]


def is_constant(value: Any) -> bool:
    """Whether a value is plain and cannot change."""
    return type(value) in _CONSTANTS


def are_constants(values: list[Any]) -> bool:
    """Whether all of them are."""
    return _CONSTANTS.issuperset(map(type, values))


def written(value: Any) -> Any:
    """A plain value, so that it equals its like alone: not 0.0 and -0.0, and NaN itself."""
    return (type(value), repr(value) if isinstance(value, _BY_REPR) else value)


def is_made_in_python(kind: type) -> bool:
    """Whether a class can be changed: those that are compiled in cannot."""
    return bool(kind.__flags__ & _HEAP_TYPE)


@functools.lru_cache(maxsize=1024)
def is_open(kind: Any) -> bool:
    """Whether objects of a class have nothing but attributes: no memory that only compiled code knows of."""
    if issubclass(kind, BaseException):
        return True
    words = sum(isinstance(v, types.MemberDescriptorType) for k in kind.__mro__ for v in vars(k).values())
    words += sum(any(name in vars(k) for k in kind.__mro__) for name in ("__weakref__", "__dict__"))
    return bool(kind.__basicsize__ <= object.__basicsize__ + 8 * words)


def own_dict(value: Any) -> dict[str, Any] | None:
    """The dictionary of an object's attributes; no code of the object is run."""
    try:
        own = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None
    return own if isinstance(own, dict) else None


def code_of(value: Any) -> types.CodeType | None:
    """The code of a function, or of a method of any kind."""
    function = value
    if isinstance(value, staticmethod | classmethod | types.MethodType):
        function = value.__func__
    elif isinstance(value, property):
        function = value.fget
    return function.__code__ if isinstance(function, types.FunctionType) else None
