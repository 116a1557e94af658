"""A complex tensor as two real ones, and the table of what can be done with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from elman.engine.errors import NotSupported

__all__ = ["COMPLEX", "EACH", "REAL", "RULES", "Pair", "Part", "handled", "joined", "paired", "parts"]

REAL = {torch.complex64: torch.float32, torch.complex128: torch.float64, torch.complex32: torch.float16}
COMPLEX = {real: imaginary for imaginary, real in REAL.items()}
Part = Any  # a real tensor or a number; None: zero

# Functions by name, filled by the modules beside this one; and those that are done to both parts alike.
RULES: dict[str, Callable[..., Any]] = {}
EACH = {
    "unsqueeze", "squeeze", "view", "reshape", "flatten", "unflatten", "permute", "transpose", "t", "expand",
    "narrow", "select", "chunk", "split", "unbind", "roll", "flip", "contiguous", "clone", "detach", "sum", "mean",
    "index_select", "repeat", "movedim", "swapaxes", "resolve_conj",
}  # fmt: skip
_METHODS = set(dir(Tensor))


class Pair:
    """A complex tensor re + i im, as two real ones of one shape and dtype."""

    __slots__ = ("im", "re")

    def __init__(self, re: Tensor, im: Tensor) -> None:
        dtype = torch.promote_types(re.dtype, im.dtype)
        if re.shape != im.shape:
            shape = torch.broadcast_shapes(re.shape, im.shape)
            re, im = re.expand(shape), im.expand(shape)
        self.re, self.im = re.to(dtype), im.to(dtype)

    @classmethod
    def __torch_function__(cls, func: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        return handled(func.__name__, *args, **(kwargs or {}))

    def __getattr__(self, name: str) -> Any:
        if name in _METHODS and (name in RULES or name in EACH):
            return partial(handled, name, self)
        raise NotSupported(
            f"the step calls .{name} of a complex tensor", op=name, hint="write it with .real and .imag"
        )

    # ---- what is read off

    @property
    def real(self) -> Tensor:
        """Re z."""
        return self.re

    @property
    def imag(self) -> Tensor:
        """Im z."""
        return self.im

    @property
    def shape(self) -> torch.Size:
        """That of each part."""
        return self.re.shape

    @property
    def dtype(self) -> torch.dtype:
        """The complex one."""
        return COMPLEX[self.re.dtype]

    @property
    def device(self) -> torch.device:
        """Where the parts are."""
        return self.re.device

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.re.ndim

    @property
    def mT(self) -> Pair:
        """The last two axes the other way around."""
        return Pair(self.re.mT, self.im.mT)

    @property
    def mH(self) -> Pair:
        """The same, conjugated."""
        return Pair(self.re.mT, -self.im.mT)

    @property
    def T(self) -> Pair:
        """The transposed matrix."""
        return Pair(self.re.T, self.im.T)

    @property
    def H(self) -> Pair:
        """The same, conjugated."""
        return Pair(self.re.T, -self.im.T)

    def size(self, dim: int | None = None) -> Any:
        """That of each part."""
        return self.re.size() if dim is None else self.re.size(dim)

    def dim(self) -> int:
        """The number of axes."""
        return self.re.dim()

    def is_complex(self) -> bool:
        """True."""
        return True

    # ---- operators

    def __add__(self, other: Any) -> Any:
        return RULES["add"](self, other)

    def __radd__(self, other: Any) -> Any:
        return RULES["add"](other, self)

    def __sub__(self, other: Any) -> Any:
        return RULES["sub"](self, other)

    def __rsub__(self, other: Any) -> Any:
        return RULES["sub"](other, self)

    def __mul__(self, other: Any) -> Any:
        return RULES["mul"](self, other)

    def __rmul__(self, other: Any) -> Any:
        return RULES["mul"](other, self)

    def __truediv__(self, other: Any) -> Any:
        return RULES["div"](self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return RULES["div"](other, self)

    def __matmul__(self, other: Any) -> Any:
        return RULES["matmul"](self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return RULES["matmul"](other, self)

    def __pow__(self, exponent: Any) -> Any:
        return RULES["pow"](self, exponent)

    def __rpow__(self, base: Any) -> Any:
        return RULES["pow"](base, self)

    def __neg__(self) -> Pair:
        return Pair(-self.re, -self.im)

    def __abs__(self) -> Tensor:
        return RULES["abs"](self)

    def __getitem__(self, index: Any) -> Pair:
        return Pair(self.re[index], self.im[index])

    def __eq__(self, other: object) -> Any:
        return RULES["eq"](self, other)

    def __ne__(self, other: object) -> Any:
        return ~RULES["eq"](self, other)

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise NotSupported("the step decides by a complex number", op="bool", hint="use torch.where")


def handled(name: str, *args: Any, **kwargs: Any) -> Any:
    """What the function of this name gives. Raises NotSupported for one without a rule."""
    if name in RULES:
        return RULES[name](*args, **kwargs)
    if name in EACH:
        return of_each(name, *args, **kwargs)
    raise NotSupported(
        f"{name} of complex numbers has no rule",
        op=name,
        hint="write it with .real and .imag, which are native",
    )


def parts(value: Any) -> tuple[Part, Part]:
    """Re and Im of a pair, a tensor or a number; None for an imaginary part that is not there."""
    if isinstance(value, Pair):
        return value.re, value.im
    if isinstance(value, Tensor) and value.is_complex():
        both = torch.view_as_real(value.resolve_conj())
        return both.select(-1, 0), both.select(-1, 1)
    if isinstance(value, complex):
        return value.real, value.imag
    return value, None


def paired(value: Any) -> Pair:
    """A pair, a tensor or a number as a pair."""
    re, im = parts(value)
    if not isinstance(re, Tensor):
        re = torch.as_tensor(re)
    return Pair(re, torch.zeros_like(re) if im is None else torch.as_tensor(im))


def joined(re: Part, im: Part, *like: Any) -> Any:
    """A pair of these parts; a real tensor where there is no imaginary one."""
    if im is None:
        return re
    some = next(p for p in (re, im, *like) if isinstance(p, Tensor))
    re, im = (
        p if isinstance(p, Tensor) else torch.full_like(some, 0.0 if p is None else p) for p in (re, im)
    )
    return Pair(re, im)


def of_each(name: str, z: Any, *args: Any, **kwargs: Any) -> Any:
    """A function that moves, picks or adds numbers, of both parts."""
    if any(isinstance(a, torch.dtype) for a in (*args, *kwargs.values())):
        raise NotSupported(
            f"{name} of complex numbers to another dtype", op=name, hint="use .to(dtype) first"
        )
    z = paired(z)
    re, im = (getattr(part, name)(*args, **kwargs) for part in (z.re, z.im))
    return Pair(re, im) if isinstance(re, Tensor) else tuple(map(Pair, re, im))
