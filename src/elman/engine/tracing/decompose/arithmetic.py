"""Products, sums, means and variances."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from elman.engine.tracing.decompose.table import all_dims, count, decomposes, scaled

aten = torch.ops.aten

__all__ = ["variance"]


@decomposes(aten.addmm.default)
def _addmm(bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    return aten.add.Tensor(scaled(aten.mm.default(a, b), alpha), scaled(bias, beta))


@decomposes(aten.mv.default)
def _mv(a: Tensor, v: Tensor) -> Tensor:
    return aten.squeeze.dim(aten.mm.default(a, aten.unsqueeze.default(v, 1)), 1)


@decomposes(aten.baddbmm.default)
def _baddbmm(bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    return aten.add.Tensor(scaled(aten.bmm.default(a, b), alpha), scaled(bias, beta))


@decomposes(aten.addcmul.default)
def _addcmul(t: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    return aten.add.Tensor(t, scaled(aten.mul.Tensor(a, b), value))


@decomposes(aten.addcdiv.default)
def _addcdiv(t: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    return aten.add.Tensor(t, scaled(aten.div.Tensor(a, b), value))


@decomposes(aten.lerp.Scalar, aten.lerp.Tensor)
def _lerp(a: Tensor, b: Tensor, weight: Any) -> Tensor:
    return aten.add.Tensor(a, aten.mul.Tensor(aten.sub.Tensor(b, a), weight))


@decomposes(aten.add.Tensor, aten.add.Scalar)
def _add(a: Tensor, b: Any, alpha: float = 1) -> Any:
    if alpha == 1:
        return NotImplemented
    return aten.add.Tensor(a, aten.mul.Tensor(b, alpha) if isinstance(b, Tensor) else b * alpha)


@decomposes(aten.sub.Tensor, aten.sub.Scalar)
def _sub(a: Tensor, b: Any, alpha: float = 1) -> Any:
    if alpha == 1:
        return NotImplemented
    return aten.sub.Tensor(a, aten.mul.Tensor(b, alpha) if isinstance(b, Tensor) else b * alpha)


@decomposes(aten.rsub.Scalar, aten.rsub.Tensor)
def _rsub(a: Tensor, b: Any, alpha: float = 1) -> Tensor:
    if isinstance(b, Tensor):
        return aten.sub.Tensor(b, scaled(a, alpha))
    return aten.add.Tensor(aten.neg.default(scaled(a, alpha)), b)


@decomposes(aten.pow.Tensor_Scalar)
def _pow(a: Tensor, exponent: float) -> Any:
    if exponent == 2:
        return aten.mul.Tensor(a, a)
    if exponent == 1:
        return aten.clone.default(a)
    return NotImplemented


@decomposes(aten.square.default)
def _square(a: Tensor) -> Tensor:
    return aten.mul.Tensor(a, a)


@decomposes(aten.mean.dim, aten.mean.default)
def _mean(t: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Tensor:
    dims = all_dims(t, dim)
    total = aten.sum.dim_IntList(t if dtype is None else t.to(dtype), dims, keepdim)
    return aten.div.Tensor(total, float(count(t, dims)))


@decomposes(aten.sum.default)
def _sum(t: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    return aten.sum.dim_IntList(t if dtype is None else t.to(dtype), list(range(t.dim())), False)


def variance(t: Tensor, dim: Any, correction: Any, keepdim: bool) -> tuple[Tensor, Tensor]:
    """(variance, mean) over `dim`."""
    dims = all_dims(t, dim)
    n = count(t, dims)
    mean = aten.div.Tensor(aten.sum.dim_IntList(t, dims, True), float(n))
    centred = aten.sub.Tensor(t, mean)
    spread = aten.sum.dim_IntList(aten.mul.Tensor(centred, centred), dims, keepdim)
    freedom = max(n - (1 if correction is None else correction), 0)
    if not keepdim:
        mean = aten.sum.dim_IntList(mean, dims, False)
    return aten.div.Tensor(spread, float(freedom)), mean


@decomposes(aten.var.correction)
def _var(t: Tensor, dim: Any = None, *, correction: Any = None, keepdim: bool = False) -> Tensor:
    return variance(t, dim, correction, keepdim)[0]


@decomposes(aten.std.correction)
def _std(t: Tensor, dim: Any = None, *, correction: Any = None, keepdim: bool = False) -> Tensor:
    return aten.sqrt.default(variance(t, dim, correction, keepdim)[0])


@decomposes(aten.var_mean.correction)
def _var_mean(
    t: Tensor, dim: Any = None, *, correction: Any = None, keepdim: bool = False
) -> tuple[Tensor, Tensor]:
    return variance(t, dim, correction, keepdim)


@decomposes(aten.linalg_vector_norm.default)
def _vector_norm(
    t: Tensor, ord: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Any:
    if dtype is not None or not t.dtype.is_floating_point or ord not in (1, 2, math.inf):
        return NotImplemented
    if ord == 1:
        return aten.sum.dim_IntList(aten.abs.default(t), all_dims(t, dim), keepdim)
    if ord == math.inf:
        return aten.amax.default(aten.abs.default(t), all_dims(t, dim), keepdim)
    return aten.sqrt.default(aten.sum.dim_IntList(aten.mul.Tensor(t, t), all_dims(t, dim), keepdim))


def _safe(top: Tensor) -> Tensor:
    """A maximum that may be taken off: an infinite one would leave no number."""
    return aten.masked_fill.Scalar(top, aten.eq.Scalar(aten.abs.default(top), math.inf), 0)


@decomposes(aten.logsumexp.default)
def _logsumexp(t: Tensor, dim: list[int], keepdim: bool = False) -> Any:
    if not t.dtype.is_floating_point:
        return NotImplemented
    top = _safe(aten.amax.default(t, dim, True))
    total = aten.sum.dim_IntList(aten.exp.default(aten.sub.Tensor(t, top)), dim, keepdim)
    if not keepdim:
        top = aten.sum.dim_IntList(top, dim, False)
    return aten.add.Tensor(aten.log.default(total), top)


def _truth(t: Tensor) -> Tensor:
    return t if t.dtype == torch.bool else aten.ne.Scalar(t, 0)


@decomposes(aten.all.dim, aten.all.dims)
def _all(t: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    return aten.amin.default(_truth(t), all_dims(t, dim), keepdim)


@decomposes(aten.any.dim, aten.any.dims)
def _any(t: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    return aten.amax.default(_truth(t), all_dims(t, dim), keepdim)


@decomposes(aten.logaddexp.default)
def _logaddexp(a: Tensor, b: Tensor) -> Tensor:
    """Infinite where the larger one is; else log1p of the quotient is added to that."""
    top = aten.maximum.default(a, b)
    quotient = aten.exp.default(aten.neg.default(aten.abs.default(aten.sub.Tensor(a, b))))
    total = aten.add.Tensor(top, aten.log1p.default(quotient))
    return aten.where.self(aten.eq.Scalar(aten.abs.default(top), math.inf), top, total)


# ---- functions of others


@decomposes(aten.exp2.default)
def _exp2(t: Tensor) -> Any:
    return aten.pow.Scalar(2.0, t) if t.dtype.is_floating_point else NotImplemented


@decomposes(aten.log2.default)
def _log2(t: Tensor) -> Any:
    return (
        aten.mul.Tensor(aten.log.default(t), 1 / math.log(2)) if t.dtype.is_floating_point else NotImplemented
    )


@decomposes(aten.log10.default)
def _log10(t: Tensor) -> Any:
    return (
        aten.mul.Tensor(aten.log.default(t), 1 / math.log(10))
        if t.dtype.is_floating_point
        else NotImplemented
    )


@decomposes(aten.trunc.default)
def _trunc(t: Tensor) -> Any:
    if not t.dtype.is_floating_point:
        return NotImplemented
    return aten.where.self(aten.lt.Scalar(t, 0), aten.ceil.default(t), aten.floor.default(t))


@decomposes(aten.frac.default)
def _frac(t: Tensor) -> Any:
    return aten.sub.Tensor(t, aten.trunc.default(t))


@decomposes(aten.clamp.Tensor)
def _clamp(t: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    if low is not None:
        t = aten.maximum.default(t, low)
    return t if high is None else aten.minimum.default(t, high)


@decomposes(aten.threshold_backward.default)
def _threshold_backward(grad: Tensor, t: Tensor, threshold: float) -> Any:
    """That of relu has an instruction of its own."""
    if threshold == 0:
        return NotImplemented
    return aten.masked_fill.Scalar(grad, aten.le.Scalar(t, threshold), 0)


# ---- questions


@decomposes(aten.isnan.default)
def _isnan(t: Tensor) -> Any:
    return aten.ne.Tensor(t, t) if t.dtype.is_floating_point else NotImplemented


@decomposes(aten.isinf.default)
def _isinf(t: Tensor) -> Any:
    return aten.eq.Scalar(aten.abs.default(t), math.inf) if t.dtype.is_floating_point else NotImplemented


@decomposes(aten.isfinite.default)
def _isfinite(t: Tensor) -> Any:
    return aten.lt.Scalar(aten.abs.default(t), math.inf) if t.dtype.is_floating_point else NotImplemented


def _booleans(*tensors: Any) -> bool:
    return all(isinstance(t, Tensor) and t.dtype == torch.bool for t in tensors)


@decomposes(aten.bitwise_and.Tensor)
def _and(a: Tensor, b: Tensor) -> Any:
    return aten.logical_and.default(a, b) if _booleans(a, b) else NotImplemented


@decomposes(aten.bitwise_or.Tensor)
def _or(a: Tensor, b: Tensor) -> Any:
    return aten.logical_or.default(a, b) if _booleans(a, b) else NotImplemented


@decomposes(aten.bitwise_xor.Tensor, aten.logical_xor.default)
def _xor(a: Tensor, b: Tensor) -> Any:
    return aten.ne.Tensor(a, b) if _booleans(a, b) else NotImplemented


@decomposes(aten.bitwise_and.Scalar)
def _and_number(a: Tensor, number: int) -> Any:
    return aten.bitwise_and.Tensor(a, _number_like(a, number))


@decomposes(aten.bitwise_or.Scalar)
def _or_number(a: Tensor, number: int) -> Any:
    return aten.bitwise_or.Tensor(a, _number_like(a, number))


@decomposes(aten.bitwise_xor.Scalar)
def _xor_number(a: Tensor, number: int) -> Any:
    return aten.bitwise_xor.Tensor(a, _number_like(a, number))


def _number_like(a: Tensor, number: int) -> Tensor:
    """A number as a tensor, of the kind that it has beside `a`."""
    return aten.full.default([], number, dtype=torch.result_type(a, number), device=a.device)


# ---- draws


@decomposes(aten.normal.Tensor_float, aten.normal.float_Tensor, aten.normal.Tensor_Tensor)
def _normal(mean: Any, std: Any = 1, *, generator: Any = None) -> Any:
    """N(mean, std), a number for each place."""
    if generator is not None:
        return NotImplemented
    like = mean if isinstance(mean, Tensor) else std
    if isinstance(mean, Tensor) and isinstance(std, Tensor) and mean.shape != std.shape:
        like = aten.add.Tensor(mean, std)
    draw = aten.randn_like.default(like)
    draw = aten.mul.Tensor(draw, std) if isinstance(std, Tensor) else scaled(draw, std)
    return aten.add.Tensor(draw, mean) if isinstance(mean, Tensor) or mean else draw
