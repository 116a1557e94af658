"""Sums, products, powers, lengths and angles; what joins and makes tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor

from elman.engine.errors import NotSupported
from elman.engine.tracing.complexes.functions import Exponential, Length, Quotient
from elman.engine.tracing.complexes.holomorphic import power
from elman.engine.tracing.complexes.pair import REAL, RULES, Pair, Part, joined, paired, parts

__all__ = ["matmul"]


def _sum(a: Part, b: Part) -> Part:
    return b if a is None else a if b is None else a + b


def _difference(a: Part, b: Part) -> Part:
    return a if b is None else -b if a is None else a - b


def _bilinear(product: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
    """A product that is linear in each of its factors: (a + ib)(c + id) = ac - bd + i(ad + bc)."""
    (a, b), (c, d) = parts(a), parts(b)

    def times(one: Part, other: Part) -> Part:
        return None if one is None or other is None else product(one, other)

    return joined(_difference(times(a, c), times(b, d)), _sum(times(a, d), times(b, c)))


def _add(a: Any, b: Any, *, alpha: Any = 1) -> Any:
    (a, b), (c, d) = parts(a), parts(b if alpha == 1 else _mul(alpha, b))
    return joined(_sum(a, c), _sum(b, d))


def _sub(a: Any, b: Any, *, alpha: Any = 1) -> Any:
    (a, b), (c, d) = parts(a), parts(b if alpha == 1 else _mul(alpha, b))
    return joined(_difference(a, c), _difference(b, d))


def _nothing(part: Part) -> Part:
    """What the imaginary part of a real factor, 0, makes of a part: 0 too, but NaN of what is infinite or NaN."""
    return part * 0.0 if isinstance(part, Tensor) or not math.isfinite(part) else None


def _mul(a: Any, b: Any) -> Any:
    (re, im), (c, d) = parts(a), parts(b)
    if (im is None) == (d is None):
        return _bilinear(lambda u, v: u * v, a, b)
    if im is None:
        (re, im), c = (c, d), re
    return joined(_difference(re * c, _nothing(im)), _sum(im * c, _nothing(re)))


def _div(a: Any, b: Any, *, rounding_mode: None = None) -> Any:
    """a / b."""
    c, d = parts(b)
    if rounding_mode is not None:
        raise NotSupported("complex division has no rounding", op="div", hint="divide the parts")
    re, im = parts(a)
    if d is None and im is not None:
        return joined(_sum(re / c, _nothing(im)), _difference(im / c, _nothing(re)))
    if d is None:
        return joined(re / c, None)
    some = [v for v in (re, im, c, d) if isinstance(v, Tensor)]
    dtypes = {v.dtype for v in some if v.dim() and v.is_floating_point()} or {v.dtype for v in some}
    dtype = reduce(torch.promote_types, dtypes, torch.float16)
    numbers = [torch.as_tensor(0.0 if v is None else v, dtype=dtype) for v in (re, im, c, d)]
    return Pair(*Quotient.apply(*torch.broadcast_tensors(*numbers)))


def _pow(z: Any, exponent: Any) -> Any:
    """Whole exponents up to 16 by products, all others by the logarithm."""
    if isinstance(exponent, float) and exponent.is_integer():
        exponent = int(exponent)
    if not isinstance(exponent, int) or not 0 < abs(exponent) <= 16:
        return power(z, exponent)
    if exponent < 0:
        return _div(1.0, _pow(z, -exponent))
    found = z = paired(z)
    for _ in range(exponent - 1):
        found = _mul(found, z)
    return found


def _abs(z: Any) -> Tensor:
    z = paired(z)
    length: Tensor = Length.apply(z.re, z.im)
    return length


def _sgn(z: Any) -> Pair:
    z = paired(z)
    length = _abs(z)
    none = length == 0
    length, zero = torch.where(none, torch.ones_like(length), length), torch.zeros_like(length)
    return Pair(torch.where(none, zero, z.re / length), torch.where(none, zero, z.im / length))


def _exp(z: Any) -> Pair:
    z = paired(z)
    return Pair(*Exponential.apply(z.re, z.im))


def _neg(z: Any) -> Pair:
    z = paired(z)
    return Pair(-z.re, -z.im)


def _polar(size: Any, angle: Any) -> Pair:
    return Pair(size * angle.cos(), size * angle.sin())


def _angle(z: Any) -> Tensor:
    z = paired(z)
    return torch.atan2(z.im, z.re)


def _conj(z: Any) -> Any:
    re, im = parts(z)
    return joined(re, None if im is None else -im)


def _equal(a: Any, b: Any) -> Tensor:
    one, other = paired(a), paired(b)
    return (one.re == other.re) & (one.im == other.im)


# ---- products


def matmul(a: Any, b: Any) -> Any:
    """a @ b."""
    return _bilinear(torch.matmul, a, b)


def _linear(input: Any, weight: Any, bias: Any = None) -> Any:
    y = _bilinear(torch.nn.functional.linear, input, weight)
    return y if bias is None else _add(y, bias)


def _einsum(equation: str, *operands: Any) -> Any:
    if len(operands) == 1 and isinstance(operands[0], tuple | list):
        operands = tuple(operands[0])
    both = [parts(o) for o in operands]
    found: list[Part] = [None, None]
    for imaginary, chosen in _terms(both):
        term = torch.einsum(equation, *chosen)
        join = _sum if imaginary % 4 < 2 else _difference
        found[imaginary % 2] = join(found[imaginary % 2], term)
    return joined(*found)


def _terms(parts: list[tuple[Part, Part]]) -> Iterator[tuple[int, list[Part]]]:
    """One part of each operand, in all ways; how many are imaginary: i to that power."""
    if not parts:
        yield 0, []
        return
    for count, rest in _terms(parts[1:]):
        for imaginary, part in enumerate(parts[0]):
            if part is not None:
                yield count + imaginary, [part, *rest]


def _of_several(join: Callable[..., Tensor], tensors: Any, *args: Any, **kwargs: Any) -> Pair:
    pairs = [paired(t) for t in tensors]
    return Pair(join([p.re for p in pairs], *args, **kwargs), join([p.im for p in pairs], *args, **kwargs))


def _where(condition: Any, a: Any, b: Any) -> Pair:
    (a, b), (c, d) = parts(a), parts(b)
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
    args = tuple(REAL[a] if isinstance(a, torch.dtype) else a for a in args)
    kwargs = {k: REAL[a] if isinstance(a, torch.dtype) else a for k, a in kwargs.items()}
    other = next((a for a in args if isinstance(a, Pair | Tensor)), None)
    if other is not None:
        args = tuple(paired(a).re if a is other else a for a in args)
    re, im = parts(z)
    return Pair(re.to(*args, **kwargs), (torch.zeros_like(re) if im is None else im).to(*args, **kwargs))


def _filled(name: str, like: Any, *args: Any, **kwargs: Any) -> Pair:
    """zeros_like, new_ones and their kin."""
    like = paired(like)
    if (wanted := kwargs.pop("dtype", None)) is not None:
        if wanted not in REAL:
            raise NotSupported(f"{name} of a complex tensor that is real", op=name, hint="use .real")
        kwargs["dtype"] = REAL[wanted]
    re = (
        getattr(torch, name)(like.re, **kwargs)
        if name.endswith("_like")
        else getattr(like.re, name)(*args, **kwargs)
    )
    return Pair(re, torch.zeros_like(re))


def _made(name: str, *args: Any, dtype: torch.dtype, **kwargs: Any) -> Pair:
    """zeros and ones of a complex dtype."""
    re = getattr(torch, name)(*args, dtype=REAL[dtype], **kwargs)
    return Pair(re, torch.zeros_like(re))


def _view_as_complex(t: Tensor) -> Pair:
    return Pair(t.select(-1, 0), t.select(-1, 1))


def _view_as_real(z: Any) -> Tensor:
    z = paired(z)
    return torch.stack((z.re, z.im), -1)


def _reversed(compute: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda a, b: compute(b, a)


RULES.update({
    "add": _add, "radd": _reversed(_add), "sub": _sub, "subtract": _sub, "rsub": _reversed(_sub),
    "mul": _mul, "multiply": _mul, "rmul": _reversed(_mul), "div": _div, "divide": _div, "true_divide": _div,
    "rdiv": _reversed(_div), "rtruediv": _reversed(_div), "truediv": _div, "reciprocal": lambda z: _div(1.0, z),
    "neg": _neg, "negative": _neg, "pow": _pow,
    "rpow": _reversed(_pow), "square": lambda z: _mul(z, z),
    "getitem": lambda z, index: paired(z)[index], "eq": _equal, "ne": lambda a, b: ~_equal(a, b),
    "abs": _abs, "absolute": _abs, "angle": _angle, "conj": _conj, "conj_physical": _conj, "sgn": _sgn, "exp": _exp,
    "polar": _polar, "complex": Pair,
    "real": lambda z: paired(z).re, "imag": lambda z: paired(z).im,
    "view_as_real": _view_as_real, "view_as_complex": _view_as_complex,
    "matmul": matmul, "rmatmul": _reversed(matmul), "mm": matmul, "bmm": matmul, "mv": matmul, "linear": _linear,
    "einsum": _einsum,
    "stack": partial(_of_several, torch.stack), "cat": partial(_of_several, torch.cat),
    "concat": partial(_of_several, torch.cat), "where": _where,
    "to": _to, "type": _to, "cfloat": lambda z: _to(z, torch.complex64), "cdouble": lambda z: _to(z, torch.complex128),
    "zeros": partial(_made, "zeros"), "ones": partial(_made, "ones"),
    "zeros_like": partial(_filled, "zeros_like"), "ones_like": partial(_filled, "ones_like"),
    "new_zeros": partial(_filled, "new_zeros"), "new_ones": partial(_filled, "new_ones"),
})  # fmt: skip
