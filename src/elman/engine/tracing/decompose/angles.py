"""Angles, and the functions whose inverses they are: a quotient of two polynomials, and exponentials."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from elman.engine.tracing.decompose.table import decomposes

__all__: list[str] = []

aten = torch.ops.aten

# atan(t) = t + t^3 P(t^2) / Q(t^2) for |t| <= tan(pi / 8), to 3e-17 of it: S. L. Moshier, Cephes 2.8, atan.c.
_P = (
    -8.750608600031904122785e-1, -1.615753718733365076637e1, -7.500855792314704667340e1, -1.228866684490136173410e2,
    -6.485021904942025371773e1,
)  # fmt: skip
_Q = (
    1.0, 2.485846490142306297962e1, 1.650270098316988542046e2, 4.328810604912902668951e2, 4.853903996359136964868e2,
    1.945506571482613964425e2,
)  # fmt: skip


def _polynomial(t: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """Highest power first."""
    first, second, *rest = coefficients
    value = aten.add.Tensor(t if first == 1 else aten.mul.Tensor(t, first), second)
    for c in rest:
        value = aten.add.Tensor(aten.mul.Tensor(value, t), c)
    return value


def _of_quotient(small: Tensor, large: Tensor) -> Tensor:
    """atan(small / large), 0 <= small <= large, both of the ends of the range too."""
    both = aten.eq.Tensor(small, large)  # 0 / 0 and inf / inf are not asked
    none = aten.logical_and.default(both, aten.eq.Scalar(large, 0))
    t = aten.masked_fill.Scalar(aten.div.Tensor(small, large), both, 1.0)
    steep = aten.gt.Scalar(t, math.tan(math.pi / 8))
    turned = aten.where.self(steep, aten.div.Tensor(aten.sub.Tensor(t, 1.0), aten.add.Tensor(t, 1.0)), t)
    square = aten.mul.Tensor(turned, turned)
    bend = aten.mul.Tensor(square, aten.div.Tensor(_polynomial(square, _P), _polynomial(square, _Q)))
    angle = aten.add.Tensor(aten.mul.Tensor(turned, bend), turned)
    angle = aten.where.self(steep, aten.add.Tensor(angle, math.pi / 4), angle)
    return aten.masked_fill.Scalar(angle, none, 0.0)


def _below_zero(t: Tensor) -> Tensor:
    """Whether the sign is set, also that of a zero."""
    none = aten.eq.Scalar(t, 0)
    turned = aten.lt.Scalar(aten.reciprocal.default(t), 0)
    return aten.logical_or.default(aten.lt.Scalar(t, 0), aten.logical_and.default(none, turned))


def _signed(size: Tensor, like: Tensor) -> Tensor:
    return aten.where.self(_below_zero(like), aten.neg.default(size), size)


@decomposes(aten.atan2.default)
def _atan2(y: Tensor, x: Tensor) -> Any:
    """The angle of (x, y), from -pi to pi."""
    if not (y.dtype.is_floating_point and x.dtype == y.dtype):
        return NotImplemented
    a, b = aten.abs.default(x), aten.abs.default(y)
    angle = _of_quotient(aten.minimum.default(a, b), aten.maximum.default(a, b))
    flat = aten.ge.Tensor(a, b)
    angle = aten.where.self(flat, angle, aten.add.Tensor(aten.neg.default(angle), math.pi / 2))
    angle = aten.where.self(_below_zero(x), aten.add.Tensor(aten.neg.default(angle), math.pi), angle)
    return _signed(angle, y)


@decomposes(aten.atan.default)
def _atan(t: Tensor) -> Any:
    if not t.dtype.is_floating_point:
        return NotImplemented
    return aten.atan2.default(t, aten.full.default([], 1.0, dtype=t.dtype, device=t.device))


def _other_leg(t: Tensor) -> Tensor:
    """sqrt(1 - t^2)."""
    return aten.sqrt.default(
        aten.mul.Tensor(aten.add.Tensor(t, 1.0), aten.add.Tensor(aten.neg.default(t), 1.0))
    )


@decomposes(aten.asin.default)
def _asin(t: Tensor) -> Any:
    return aten.atan2.default(t, _other_leg(t)) if t.dtype.is_floating_point else NotImplemented


@decomposes(aten.acos.default)
def _acos(t: Tensor) -> Any:
    return aten.atan2.default(_other_leg(t), t) if t.dtype.is_floating_point else NotImplemented


@decomposes(aten.tan.default)
def _tan(t: Tensor) -> Any:
    if not t.dtype.is_floating_point:
        return NotImplemented
    return aten.div.Tensor(aten.sin.default(t), aten.cos.default(t))


@decomposes(aten.sinh.default)
def _sinh(t: Tensor) -> Any:
    """By expm1, which is right near 0; of large numbers as a product, since their exponential may be no float."""
    if not t.dtype.is_floating_point:
        return NotImplemented
    size = aten.abs.default(t)
    e = aten.expm1.default(size)
    near = aten.mul.Tensor(aten.add.Tensor(e, aten.div.Tensor(e, aten.add.Tensor(e, 1.0))), 0.5)
    root = aten.exp.default(aten.mul.Tensor(size, 0.5))
    far = aten.mul.Tensor(aten.mul.Tensor(root, 0.5), root)
    return _signed(aten.where.self(aten.gt.Scalar(size, 20.0), far, near), t)


@decomposes(aten.cosh.default)
def _cosh(t: Tensor) -> Any:
    if not t.dtype.is_floating_point:
        return NotImplemented
    root = aten.exp.default(aten.mul.Tensor(aten.abs.default(t), 0.5))
    half = aten.mul.Tensor(root, 0.5)
    return aten.add.Tensor(
        aten.mul.Tensor(half, root),
        aten.div.Tensor(aten.div.Tensor(aten.full_like.default(root, 0.5), root), root),
    )


@decomposes(aten.atanh.default)
def _atanh(t: Tensor) -> Any:
    if not t.dtype.is_floating_point:
        return NotImplemented
    return aten.mul.Tensor(
        aten.sub.Tensor(aten.log1p.default(t), aten.log1p.default(aten.neg.default(t))), 0.5
    )
