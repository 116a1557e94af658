"""Complex numbers while a step is traced: pairs of real tensors, so that what is recorded is real.

The core computes with real numbers. While a step is looked at, each complex tensor that it makes is a `Pair`, two real
tensors, and each function of it is written with real operations; a complex parameter is read as its two parts.
Gradients follow from these: torch's gradient of a real loss with respect to z = a + ib is dL/da + i dL/db.

Where torch multiplies a real factor as one with an imaginary part of 0, the parts are multiplied here by the real one
alone: the two differ for infinities and NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from elman.engine.errors import NotSupported

__all__ = ["Pair", "complex_call", "is_complex_call"]

_REAL = {torch.complex64: torch.float32, torch.complex128: torch.float64, torch.complex32: torch.float16}
_COMPLEX = {real: imaginary for imaginary, real in _REAL.items()}
Part = Any  # a real tensor or a number; None: zero


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
        return complex_call(func, args, kwargs or {})

    def __getattr__(self, name: str) -> Any:
        if name in _METHODS and (name in _TABLE or name in _EACH):
            return partial(_handled, name, self)
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
        return _COMPLEX[self.re.dtype]

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
        return _add(self, other)

    def __radd__(self, other: Any) -> Any:
        return _add(other, self)

    def __sub__(self, other: Any) -> Any:
        return _sub(self, other)

    def __rsub__(self, other: Any) -> Any:
        return _sub(other, self)

    def __mul__(self, other: Any) -> Any:
        return _mul(self, other)

    def __rmul__(self, other: Any) -> Any:
        return _mul(other, self)

    def __truediv__(self, other: Any) -> Any:
        return _div(self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _div(other, self)

    def __matmul__(self, other: Any) -> Any:
        return _matmul(self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return _matmul(other, self)

    def __pow__(self, exponent: Any) -> Any:
        return _pow(self, exponent)

    def __neg__(self) -> Pair:
        return Pair(-self.re, -self.im)

    def __abs__(self) -> Tensor:
        return _abs(self)

    def __getitem__(self, index: Any) -> Pair:
        return Pair(self.re[index], self.im[index])

    def __eq__(self, other: object) -> Any:
        return _equal(self, other)

    def __ne__(self, other: object) -> Any:
        return ~_equal(self, other)

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise NotSupported("the step decides by a complex number", op="bool", hint="use torch.where")


# ---- what is complex


def is_complex_call(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call of torch makes complex numbers or is given some, other than to ask what kind of tensor it is."""
    if isinstance(func, torch._ops.OpOverload):  # what was recorded, once more
        return False
    name = getattr(func, "__name__", "")
    if name == "__get__":
        return getattr(func.__self__, "__name__", "") in _GOTTEN and _has_complex(args)
    if name in _METADATA or name == "__set__":
        return False
    wanted = kwargs.get("dtype")
    if name in ("complex", "polar", "view_as_complex") or name.startswith("fft_"):
        return True
    if isinstance(wanted, torch.dtype) and wanted.is_complex:
        return True
    if name in ("to", "type") and any(isinstance(a, torch.dtype) and a.is_complex for a in args):
        return True
    return name in ("cfloat", "cdouble") or _has_complex(args) or _has_complex(tuple(kwargs.values()))


def _has_complex(args: Any) -> bool:
    for a in args:
        if isinstance(a, Pair | complex) or (isinstance(a, Tensor) and a.is_complex()):
            return True
        if isinstance(a, tuple | list) and _has_complex(a):
            return True
    return False


def complex_call(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The call with pairs for complex tensors. Raises NotSupported for a function without a rule."""
    name = func.__name__
    if name == "__get__":
        return getattr(_paired(args[0]), func.__self__.__name__)
    return _handled(name.strip("_") if name.startswith("__") else name, *args, **kwargs)


def _handled(name: str, *args: Any, **kwargs: Any) -> Any:
    if name in _TABLE:
        return _TABLE[name](*args, **kwargs)
    if name in _EACH:
        return _of_each(name, *args, **kwargs)
    raise NotSupported(
        f"{name} of complex numbers has no rule",
        op=name,
        hint="write it with .real and .imag, which are native",
    )


def _parts(value: Any) -> tuple[Part, Part]:
    """Re and Im of a pair, a tensor or a number; None for an imaginary part that is not there."""
    if isinstance(value, Pair):
        return value.re, value.im
    if isinstance(value, Tensor) and value.is_complex():
        both = torch.view_as_real(value.resolve_conj())
        return both.select(-1, 0), both.select(-1, 1)
    if isinstance(value, complex):
        return value.real, value.imag
    return value, None


def _paired(value: Any) -> Pair:
    re, im = _parts(value)
    if not isinstance(re, Tensor):
        re = torch.as_tensor(re)
    return Pair(re, torch.zeros_like(re) if im is None else torch.as_tensor(im))


def _joined(re: Part, im: Part, *like: Any) -> Any:
    """A pair of these parts; a real tensor where there is no imaginary one."""
    if im is None:
        return re
    some = next(p for p in (re, im, *like) if isinstance(p, Tensor))
    re, im = (
        p if isinstance(p, Tensor) else torch.full_like(some, 0.0 if p is None else p) for p in (re, im)
    )
    return Pair(re, im)


def _sum(a: Part, b: Part) -> Part:
    return b if a is None else a if b is None else a + b


def _difference(a: Part, b: Part) -> Part:
    return a if b is None else -b if a is None else a - b


def _bilinear(product: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
    """A product that is linear in each of its factors: (a + ib)(c + id) = ac - bd + i(ad + bc)."""
    (a, b), (c, d) = _parts(a), _parts(b)

    def times(one: Part, other: Part) -> Part:
        return None if one is None or other is None else product(one, other)

    return _joined(_difference(times(a, c), times(b, d)), _sum(times(a, d), times(b, c)))


# ---- arithmetic


def _add(a: Any, b: Any, *, alpha: Any = 1) -> Any:
    (a, b), (c, d) = _parts(a), _parts(b if alpha == 1 else _mul(alpha, b))
    return _joined(_sum(a, c), _sum(b, d))


def _sub(a: Any, b: Any, *, alpha: Any = 1) -> Any:
    (a, b), (c, d) = _parts(a), _parts(b if alpha == 1 else _mul(alpha, b))
    return _joined(_difference(a, c), _difference(b, d))


def _mul(a: Any, b: Any) -> Any:
    return _bilinear(lambda u, v: u * v, a, b)


def _div(a: Any, b: Any, *, rounding_mode: None = None) -> Any:
    """a / b, by b over its larger part, so that no square leaves the range of numbers."""
    c, d = _parts(b)
    if rounding_mode is not None:
        raise NotSupported("complex division has no rounding", op="div", hint="divide the parts")
    re, im = _parts(a)
    if d is None:
        return _joined(re / c, None if im is None else im / c)
    if isinstance(b, complex):
        return _mul(a, 1 / b)
    scale = torch.maximum(c.abs(), d.abs()).detach()
    c, d = c / scale, d / scale
    below = (c * c + d * d) * scale
    return _mul(a, Pair(c / below, -d / below))


def _pow(z: Any, exponent: Any) -> Any:
    if isinstance(exponent, float) and exponent.is_integer():
        exponent = int(exponent)
    if not isinstance(z, Pair | Tensor) or not isinstance(exponent, int) or abs(exponent) > 16:
        raise NotSupported(
            "a complex power has a rule for whole exponents up to 16 alone",
            op="pow",
            hint="use exp and polar",
        )
    if exponent < 0:
        return _div(1.0, _pow(z, -exponent))
    z = _paired(z)
    found = Pair(torch.ones_like(z.re), torch.zeros_like(z.im)) if exponent == 0 else z
    for _ in range(exponent - 1):
        found = _mul(found, z)
    return found


def _abs(z: Any) -> Tensor:
    """|z|, over its larger part; with the gradient 0 at 0, as torch has it."""
    return _length(_paired(z))[0]


def _length(z: Pair) -> tuple[Tensor, Tensor]:
    larger = torch.maximum(z.re.abs(), z.im.abs()).detach()
    none = larger == 0
    scale = torch.where(none, torch.ones_like(larger), larger)
    a, b = z.re / scale, z.im / scale
    squares = torch.where(none, torch.ones_like(larger), a * a + b * b)
    return torch.where(none, torch.zeros_like(larger), scale * squares.sqrt()), none


def _sgn(z: Any) -> Pair:
    z = _paired(z)
    length, none = _length(z)
    length, zero = torch.where(none, torch.ones_like(length), length), torch.zeros_like(length)
    return Pair(torch.where(none, zero, z.re / length), torch.where(none, zero, z.im / length))


def _exp(z: Any) -> Pair:
    z = _paired(z)
    size = z.re.exp()
    return Pair(size * z.im.cos(), size * z.im.sin())


def _polar(size: Any, angle: Any) -> Pair:
    return Pair(size * angle.cos(), size * angle.sin())


def _angle(z: Any) -> Tensor:
    z = _paired(z)
    return torch.atan2(z.im, z.re)


def _conj(z: Any) -> Any:
    re, im = _parts(z)
    return _joined(re, None if im is None else -im)


def _equal(a: Any, b: Any) -> Tensor:
    one, other = _paired(a), _paired(b)
    return (one.re == other.re) & (one.im == other.im)


# ---- products


def _matmul(a: Any, b: Any) -> Any:
    return _bilinear(torch.matmul, a, b)


def _linear(input: Any, weight: Any, bias: Any = None) -> Any:
    y = _bilinear(torch.nn.functional.linear, input, weight)
    return y if bias is None else _add(y, bias)


def _einsum(equation: str, *operands: Any) -> Any:
    if len(operands) == 1 and isinstance(operands[0], tuple | list):
        operands = tuple(operands[0])
    parts = [_parts(o) for o in operands]
    found: list[Part] = [None, None]
    for imaginary, chosen in _terms(parts):
        term = torch.einsum(equation, *chosen)
        join = _sum if imaginary % 4 < 2 else _difference
        found[imaginary % 2] = join(found[imaginary % 2], term)
    return _joined(*found)


def _terms(parts: list[tuple[Part, Part]]) -> Iterator[tuple[int, list[Part]]]:
    """One part of each operand, in all ways; how many are imaginary: i to that power."""
    if not parts:
        yield 0, []
        return
    for count, rest in _terms(parts[1:]):
        for imaginary, part in enumerate(parts[0]):
            if part is not None:
                yield count + imaginary, [part, *rest]


def _fourier(z: Any, n: int | None = None, dim: int = -1, norm: str | None = None, *, kind: str) -> Any:
    """The discrete Fourier transform of an axis, as the product with its matrix."""
    inverse = kind.startswith("i")
    given = _paired(z)
    whole = given.re.shape[dim]
    if "r" in kind and inverse:
        length = n if n is not None else 2 * (whole - 1)
        if whole != length // 2 + 1:
            raise NotSupported(
                "irfft of other than n // 2 + 1 numbers", op="fft_irfft", hint="cut or pad first"
            )
        given = _both_halves(given, length, dim)
    elif n is not None and n != whole:
        raise NotSupported("a Fourier transform of another length", op=f"fft_{kind}", hint="cut or pad first")
    length = given.re.shape[dim]
    scale = {"ortho": length**-0.5, "forward": 1.0 if inverse else 1 / length}.get(
        norm or "backward", 1 / length if inverse else 1.0
    )
    rows = range(length // 2 + 1 if kind == "rfft" else length)
    turn = (1 if inverse else -1) * 2 * math.pi / length
    angles = [[turn * (j * k % length) for k in rows] for j in range(length)]
    dtype = given.re.dtype
    cos = torch.tensor([[scale * math.cos(a) for a in row] for row in angles], dtype=dtype)
    sin = torch.tensor([[scale * math.sin(a) for a in row] for row in angles], dtype=dtype)
    re, im = _parts(z) if "r" not in kind or not inverse else (given.re, given.im)
    moved = _joined(re.movedim(dim, -1), None if im is None else im.movedim(dim, -1))
    out = _matmul(moved, Pair(cos, sin))
    out = Pair(out.re.movedim(-1, dim), out.im.movedim(-1, dim))
    return out.re if kind == "irfft" else out


def _both_halves(z: Pair, length: int, dim: int) -> Pair:
    """The numbers of all frequencies of a real signal, from those that are not negative."""
    inner = _slice_of(z, dim, 1, (length + 1) // 2)
    re = torch.cat([z.re, inner.re.flip(dim)], dim)
    zero = torch.zeros_like(z.im.narrow(dim, 0, 1))  # what has to be real is taken as real
    middle = z.im.narrow(dim, 1, (length + 1) // 2 - 1)
    parts = [zero, middle, *([zero] if length % 2 == 0 else []), -inner.im.flip(dim)]
    return Pair(re, torch.cat(parts, dim))


def _slice_of(z: Pair, dim: int, begin: int, end: int) -> Pair:
    """z[begin:end] of an axis."""
    return Pair(z.re.narrow(dim, begin, end - begin), z.im.narrow(dim, begin, end - begin))


# ---- both parts alike


def _of_each(name: str, z: Any, *args: Any, **kwargs: Any) -> Any:
    """A function that moves, picks or adds numbers, of both parts."""
    if any(isinstance(a, torch.dtype) for a in (*args, *kwargs.values())):
        raise NotSupported(
            f"{name} of complex numbers to another dtype", op=name, hint="use .to(dtype) first"
        )
    z = _paired(z)
    re, im = (getattr(part, name)(*args, **kwargs) for part in (z.re, z.im))
    return Pair(re, im) if isinstance(re, Tensor) else tuple(map(Pair, re, im))


def _of_several(join: Callable[..., Tensor], tensors: Any, *args: Any, **kwargs: Any) -> Pair:
    pairs = [_paired(t) for t in tensors]
    return Pair(join([p.re for p in pairs], *args, **kwargs), join([p.im for p in pairs], *args, **kwargs))


def _where(condition: Any, a: Any, b: Any) -> Pair:
    (a, b), (c, d) = _parts(a), _parts(b)
    zero = 0.0
    return Pair(
        torch.where(condition, a, c),
        torch.where(condition, zero if b is None else b, zero if d is None else d),
    )


def _to(z: Any, *args: Any, **kwargs: Any) -> Any:
    """To another complex precision; a real tensor becomes complex."""
    wanted = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.dtype)]
    if any(not w.is_complex for w in wanted):
        raise NotSupported("a complex tensor becomes real", op="to", hint="use .real")
    args = tuple(_REAL[a] if isinstance(a, torch.dtype) else a for a in args)
    kwargs = {k: _REAL[a] if isinstance(a, torch.dtype) else a for k, a in kwargs.items()}
    other = next((a for a in args if isinstance(a, Pair | Tensor)), None)
    if other is not None:
        args = tuple(_paired(a).re if a is other else a for a in args)
    re, im = _parts(z)
    return Pair(re.to(*args, **kwargs), (torch.zeros_like(re) if im is None else im).to(*args, **kwargs))


def _filled(name: str, like: Any, *args: Any, **kwargs: Any) -> Pair:
    """zeros_like, new_ones and their kin."""
    like = _paired(like)
    if (wanted := kwargs.pop("dtype", None)) is not None:
        if wanted not in _REAL:
            raise NotSupported(f"{name} of a complex tensor that is real", op=name, hint="use .real")
        kwargs["dtype"] = _REAL[wanted]
    re = (
        getattr(torch, name)(like.re, **kwargs)
        if name.endswith("_like")
        else getattr(like.re, name)(*args, **kwargs)
    )
    return Pair(re, torch.zeros_like(re))


def _made(name: str, *args: Any, dtype: torch.dtype, **kwargs: Any) -> Pair:
    """zeros and ones of a complex dtype."""
    re = getattr(torch, name)(*args, dtype=_REAL[dtype], **kwargs)
    return Pair(re, torch.zeros_like(re))


def _view_as_complex(t: Tensor) -> Pair:
    return Pair(t.select(-1, 0), t.select(-1, 1))


def _view_as_real(z: Any) -> Tensor:
    z = _paired(z)
    return torch.stack((z.re, z.im), -1)


def _reversed(compute: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda a, b: compute(b, a)


_METADATA = {
    "size", "dim", "ndimension", "is_complex", "is_floating_point", "numel", "element_size", "stride", "storage_offset",
    "is_contiguous", "get_device", "requires_grad_", "is_conj", "is_neg", "__hash__", "__repr__", "data_ptr",
}  # fmt: skip
_GOTTEN = {"real", "imag", "T", "H", "mT", "mH"}
_EACH = {
    "unsqueeze", "squeeze", "view", "reshape", "flatten", "unflatten", "permute", "transpose", "t", "expand",
    "narrow", "select", "chunk", "split", "unbind", "roll", "flip", "contiguous", "clone", "detach", "sum", "mean",
    "index_select", "repeat", "movedim", "swapaxes", "resolve_conj",
}  # fmt: skip
_TABLE: dict[str, Callable[..., Any]] = {
    "add": _add, "radd": _reversed(_add), "sub": _sub, "subtract": _sub, "rsub": _reversed(_sub),
    "mul": _mul, "multiply": _mul, "rmul": _reversed(_mul), "div": _div, "divide": _div, "true_divide": _div,
    "rdiv": _reversed(_div), "rtruediv": _reversed(_div), "truediv": _div, "reciprocal": lambda z: _div(1.0, z),
    "neg": lambda z: _mul(z, -1.0), "negative": lambda z: _mul(z, -1.0), "pow": _pow, "square": lambda z: _mul(z, z),
    "getitem": lambda z, index: _paired(z)[index], "eq": _equal, "ne": lambda a, b: ~_equal(a, b),
    "abs": _abs, "absolute": _abs, "angle": _angle, "conj": _conj, "conj_physical": _conj, "sgn": _sgn, "exp": _exp,
    "log": lambda z: Pair(_abs(z).log(), _angle(z)), "polar": _polar, "complex": Pair,
    "real": lambda z: _paired(z).re, "imag": lambda z: _paired(z).im,
    "view_as_real": _view_as_real, "view_as_complex": _view_as_complex,
    "matmul": _matmul, "rmatmul": _reversed(_matmul), "mm": _matmul, "bmm": _matmul, "mv": _matmul, "linear": _linear,
    "einsum": _einsum,
    "stack": partial(_of_several, torch.stack), "cat": partial(_of_several, torch.cat),
    "concat": partial(_of_several, torch.cat), "where": _where,
    "to": _to, "type": _to, "cfloat": lambda z: _to(z, torch.complex64), "cdouble": lambda z: _to(z, torch.complex128),
    "zeros": partial(_made, "zeros"), "ones": partial(_made, "ones"),
    "zeros_like": partial(_filled, "zeros_like"), "ones_like": partial(_filled, "ones_like"),
    "new_zeros": partial(_filled, "new_zeros"), "new_ones": partial(_filled, "new_ones"),
    **{f"fft_{kind}": partial(_fourier, kind=kind) for kind in ("fft", "ifft", "rfft", "irfft")},
}  # fmt: skip
_METHODS = set(dir(Tensor))
