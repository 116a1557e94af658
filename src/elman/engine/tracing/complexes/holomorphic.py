"""Functions of one complex number, with its derivative: sines, tangents, roots, logarithms, powers.

dL/dz = dL/dw conj(f'(z)) for w = f(z), where a gradient stands for dL/da + i dL/db. Values are torch's for all
numbers; of infinities sines, tangents and powers may be NaN where torch's have an infinite part.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from elman.engine.tracing.complexes.functions import Two, exponential, length_of, quotient
from elman.engine.tracing.complexes.pair import RULES, Pair, paired

__all__ = ["power"]

Function = Callable[[Tensor, Tensor], Two]


def _times(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Two:
    return a * c - b * d, a * d + b * c


def _product(size: Tensor, turn: Tensor) -> Tensor:
    """0 where the second factor is, however large the first one."""
    return torch.where(turn == 0, turn, size * turn)


def _sin(a: Tensor, b: Tensor) -> Two:
    return _product(b.cosh(), a.sin()), _product(a.cos(), b.sinh())


def _cos(a: Tensor, b: Tensor) -> Two:
    return b.cosh() * a.cos(), -_product(b.sinh(), a.sin())


def _sinh(a: Tensor, b: Tensor) -> Two:
    return _product(b.cos(), a.sinh()), _product(a.cosh(), b.sin())


def _cosh(a: Tensor, b: Tensor) -> Two:
    return a.cosh() * b.cos(), _product(a.sinh(), b.sin())


def _tanh(a: Tensor, b: Tensor) -> Two:
    """Kahan's way: of large numbers what is left of it, where sinh may be no float."""
    far = a.abs() > (22.0 if a.dtype == torch.float64 else 11.0)
    s = torch.where(far, torch.zeros_like(a), a).sinh()
    t = b.tan()
    turn = 1 + t * t
    below = 1 + turn * s * s
    small = 4 * b.sin() * b.cos() * (-2 * a.abs()).exp()
    re = torch.where(far, a.sign(), turn * (1 + s * s).sqrt() * s / below)
    return re, torch.where(far, small, t / below)


def _tan(a: Tensor, b: Tensor) -> Two:
    """-i tanh(iz)."""
    re, im = _tanh(-b, a)
    return im, -re


def _log(a: Tensor, b: Tensor) -> Two:
    return length_of(a, b).log(), torch.atan2(b, a)


def _sqrt(a: Tensor, b: Tensor) -> Two:
    """The root with a real part that is not negative; on the cut from the side that the zero's sign tells."""
    size = (0.5 * length_of(a, b) + 0.5 * a.abs()).sqrt()
    none = size == 0
    other = 0.5 * b.abs() / torch.where(none, torch.ones_like(size), size)
    other = torch.where(none, torch.zeros_like(size), other)
    left = a < 0
    im = torch.where(left, size, other)
    below = (b < 0) | ((b == 0) & (b.reciprocal() < 0))
    endless = b.abs() == torch.inf
    re = torch.where(endless, b.abs(), torch.where(left, other, size))
    return re, torch.where(endless, b, torch.where(below, -im, im))


def _one_over(function: Function) -> Function:
    def inverse(a: Tensor, b: Tensor) -> Two:
        one = torch.ones_like(a)
        return quotient(one, torch.zeros_like(a), *function(a, b))

    return inverse


def _times_number(number: float, function: Callable[..., Two]) -> Callable[..., Two]:
    def times(*parts: Tensor) -> Two:
        re, im = function(*parts)
        return number * re, number * im

    return times


def _one_less_square(re: Tensor, im: Tensor) -> Two:
    x, y = _times(re, im, re, im)
    return 1 - x, -y


def _one_and_square(re: Tensor, im: Tensor) -> Two:
    x, y = _times(re, im, re, im)
    return 1 + x, y


# The function, and its derivative: of z, or of the function's value.
_TABLE: dict[str, tuple[Function, Function, bool]] = {
    "sin": (_sin, _cos, False),
    "cos": (_cos, _times_number(-1.0, _sin), False),
    "sinh": (_sinh, _cosh, False),
    "cosh": (_cosh, _sinh, False),
    "tanh": (_tanh, _one_less_square, True),
    "tan": (_tan, _one_and_square, True),
    "sqrt": (_sqrt, _one_over(_times_number(2.0, lambda a, b: (a, b))), True),
}


class Holomorphic(torch.autograd.Function):
    """f(z), with the gradient g conj(f'(z))."""

    @staticmethod
    def forward(ctx: Any, name: str, a: Tensor, b: Tensor) -> Two:
        """The parts of f(z)."""
        function, slope, of_value = _TABLE[name]
        re, im = function(a, b)
        ctx.slope = slope
        ctx.save_for_backward(*((re, im) if of_value else (a, b)))
        return re, im

    @staticmethod
    def backward(ctx: Any, g: Tensor, h: Tensor) -> Any:
        """For each part."""
        re, im = ctx.slope(*ctx.saved_tensors)
        return None, *_times(g, h, re, -im)


class Logarithm(torch.autograd.Function):
    """log z, with the gradient g / conj(z)."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Two:
        """The logarithm of the length, and the angle."""
        ctx.save_for_backward(a, b)
        return _log(a, b)

    @staticmethod
    def backward(ctx: Any, g: Tensor, h: Tensor) -> Any:
        """For each part."""
        a, b = ctx.saved_tensors
        return quotient(g, h, a, -b)


def _raised(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Two:
    """z^w = exp(w log z); 1 for w = 0, and 0 for z = 0 and a w with a positive real part."""
    x, y = exponential(*_times(c, d, *_log(a, b)))
    none = (c == 0) & (d == 0)
    zero = (a == 0) & (b == 0) & (c > 0)
    x = torch.where(none, torch.ones_like(x), torch.where(zero, torch.zeros_like(x), x))
    return x, torch.where(none | zero, torch.zeros_like(y), y)


class Power(torch.autograd.Function):
    """z^w; gradients g conj(w z^(w - 1)), none for w = 0, and g conj(z^w log z), none for z = 0."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Two:
        """The parts of z, then those of w."""
        x, y = _raised(a, b, c, d)
        ctx.save_for_backward(a, b, c, d, x, y)
        return x, y

    @staticmethod
    def backward(ctx: Any, g: Tensor, h: Tensor) -> Any:
        """For each part."""
        a, b, c, d, x, y = ctx.saved_tensors
        zero = torch.zeros_like(g)
        none = (c == 0) & (d == 0)
        re, im = _times(c, d, *_raised(a, b, c - 1, d))
        da, db = _times(g, h, re, -im)
        re, im = _times(x, y, *_log(a, b))
        dc, dd = _times(g, h, re, -im)
        still = (a == 0) & (b == 0) & (d == 0) & (c >= 0)
        return (
            torch.where(none, zero, da), torch.where(none, zero, db),
            torch.where(still, zero, dc), torch.where(still, zero, dd),
        )  # fmt: skip


def power(z: Any, w: Any) -> Pair:
    """z^w of a pair, tensor or number each, one of which is complex."""
    numbers = [part for v in (z, w) for part in (paired(v).re, paired(v).im)]
    some = {
        t.dtype
        for v, t in zip((z, z, w, w), numbers, strict=True)
        if isinstance(v, Pair | Tensor) and t.is_floating_point()
    }
    dtype = max(some, key=lambda kind: torch.finfo(kind).bits)
    return Pair(*Power.apply(*torch.broadcast_tensors(*(t.to(dtype) for t in numbers))))


def _rule(name: str) -> Callable[[Any], Pair]:
    def rule(z: Any) -> Pair:
        z = paired(z)
        return Pair(*Holomorphic.apply(name, z.re, z.im))

    return rule


def _logarithm(base: float) -> Callable[[Any], Pair]:
    def rule(z: Any) -> Pair:
        z = paired(z)
        re, im = Logarithm.apply(z.re, z.im)
        return Pair(re, im) if base == math.e else Pair(re / math.log(base), im / math.log(base))

    return rule


RULES.update({name: _rule(name) for name in _TABLE})
RULES.update({"log": _logarithm(math.e), "log2": _logarithm(2.0), "log10": _logarithm(10.0)})
RULES["rsqrt"] = lambda z: RULES["reciprocal"](RULES["sqrt"](z))
