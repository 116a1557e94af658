"""Softmax and activations, with their gradients."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from elman.engine.tracing.decompose.table import decomposes, scaled

aten = torch.ops.aten


@decomposes(aten._softmax.default)
def _softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    e = aten.exp.default(aten.sub.Tensor(x, aten.amax.default(x, [dim], True)))
    return aten.div.Tensor(e, aten.sum.dim_IntList(e, [dim], True))


@decomposes(aten._log_softmax.default)
def _log_softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    shifted = aten.sub.Tensor(x, aten.amax.default(x, [dim], True))
    total = aten.sum.dim_IntList(aten.exp.default(shifted), [dim], True)
    return aten.sub.Tensor(shifted, aten.log.default(total))


@decomposes(aten._softmax_backward_data.default)
def _softmax_backward(grad: Tensor, out: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    g = aten.mul.Tensor(grad, out)
    return aten.sub.Tensor(g, aten.mul.Tensor(out, aten.sum.dim_IntList(g, [dim], True)))


@decomposes(aten._log_softmax_backward_data.default)
def _log_softmax_backward(grad: Tensor, out: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    return aten.sub.Tensor(
        grad, aten.mul.Tensor(aten.exp.default(out), aten.sum.dim_IntList(grad, [dim], True))
    )


@decomposes(aten.silu.default)
def _silu(x: Tensor) -> Tensor:
    return aten.mul.Tensor(x, aten.sigmoid.default(x))


@decomposes(aten.silu_backward.default)
def _silu_backward(grad: Tensor, x: Tensor) -> Tensor:
    s = aten.sigmoid.default(x)
    inner = aten.add.Tensor(aten.mul.Tensor(x, aten.add.Tensor(aten.neg.default(s), 1.0)), 1.0)
    return aten.mul.Tensor(aten.mul.Tensor(grad, s), inner)


@decomposes(aten.leaky_relu.default)
def _leaky_relu(x: Tensor, slope: float = 0.01) -> Tensor:
    return aten.where.self(aten.gt.Scalar(x, 0), x, aten.mul.Tensor(x, slope))


@decomposes(aten.leaky_relu_backward.default)
def _leaky_relu_backward(grad: Tensor, x: Tensor, slope: float, is_result: bool) -> Tensor:
    return aten.where.self(aten.gt.Scalar(x, 0), grad, aten.mul.Tensor(grad, slope))


@decomposes(aten.elu.default)
def _elu(x: Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Tensor:
    low = scaled(aten.expm1.default(scaled(x, input_scale)), alpha * scale)
    return aten.where.self(aten.gt.Scalar(x, 0), scaled(x, scale), low)


@decomposes(aten.elu_backward.default)
def _elu_backward(
    grad: Tensor, alpha: float, scale: float, input_scale: float, is_result: bool, x: Tensor
) -> Tensor:
    if is_result:
        low = scaled(aten.add.Tensor(x, alpha * scale), input_scale)
    else:
        low = scaled(aten.exp.default(scaled(x, input_scale)), input_scale * alpha * scale)
    high = scaled(grad, scale)
    return aten.where.self(aten.le.Scalar(x, 0), aten.mul.Tensor(grad, low), high)


_ROOT_HALF, _ROOT_2_PI = math.sqrt(0.5), math.sqrt(2 / math.pi)


def _gelu_tanh_inner(x: Tensor) -> Tensor:
    cube = aten.mul.Tensor(aten.mul.Tensor(x, x), x)
    return aten.tanh.default(aten.mul.Tensor(aten.add.Tensor(x, aten.mul.Tensor(cube, 0.044715)), _ROOT_2_PI))


@decomposes(aten.gelu.default)
def _gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    bell = _gelu_tanh_inner(x) if approximate == "tanh" else aten.erf.default(aten.mul.Tensor(x, _ROOT_HALF))
    return aten.mul.Tensor(aten.mul.Tensor(x, 0.5), aten.add.Tensor(bell, 1.0))


@decomposes(aten.gelu_backward.default)
def _gelu_backward(grad: Tensor, x: Tensor, *, approximate: str = "none") -> Tensor:
    square = aten.mul.Tensor(x, x)
    if approximate == "tanh":
        t = _gelu_tanh_inner(x)
        inner = aten.mul.Tensor(aten.add.Tensor(aten.mul.Tensor(square, 3 * 0.044715), 1.0), _ROOT_2_PI)
        bend = aten.mul.Tensor(aten.add.Tensor(aten.neg.default(aten.mul.Tensor(t, t)), 1.0), inner)
        slope = aten.mul.Tensor(aten.mul.Tensor(x, 0.5), bend)
        half = aten.mul.Tensor(aten.add.Tensor(t, 1.0), 0.5)
    else:
        density = aten.mul.Tensor(aten.exp.default(aten.mul.Tensor(square, -0.5)), 1 / math.sqrt(2 * math.pi))
        slope = aten.mul.Tensor(x, density)
        half = aten.mul.Tensor(aten.add.Tensor(aten.erf.default(aten.mul.Tensor(x, _ROOT_HALF)), 1.0), 0.5)
    return aten.mul.Tensor(grad, aten.add.Tensor(half, slope))


@decomposes(aten.hardsigmoid.default)
def _hardsigmoid(x: Tensor) -> Tensor:
    return aten.div.Tensor(aten.clamp.default(aten.add.Tensor(x, 3.0), 0, 6), 6.0)


@decomposes(aten.hardsigmoid_backward.default)
def _hardsigmoid_backward(grad: Tensor, x: Tensor) -> Tensor:
    inside = aten.logical_and.default(aten.gt.Scalar(x, -3), aten.lt.Scalar(x, 3))
    sixth = 0.1666666716337204  # torch takes 1/6 in single precision, in double too
    return aten.masked_fill.Scalar(aten.mul.Tensor(grad, sixth), aten.logical_not.default(inside), 0)


@decomposes(aten.mish.default)
def _mish(x: Tensor) -> Tensor:
    return aten.mul.Tensor(x, aten.tanh.default(_softplus(x)))


@decomposes(aten.mish_backward.default)
def _mish_backward(grad: Tensor, x: Tensor) -> Tensor:
    t, s = aten.tanh.default(_softplus(x)), aten.sigmoid.default(x)
    bend = aten.add.Tensor(aten.neg.default(aten.mul.Tensor(t, t)), 1.0)
    return aten.mul.Tensor(grad, aten.add.Tensor(t, aten.mul.Tensor(aten.mul.Tensor(x, s), bend)))


@decomposes(aten.glu.default)
def _glu(x: Tensor, dim: int = -1) -> Tensor:
    n = x.shape[dim] // 2
    a, b = aten.slice.Tensor(x, dim, 0, n), aten.slice.Tensor(x, dim, n, 2 * n)
    return aten.mul.Tensor(a, aten.sigmoid.default(b))


@decomposes(aten.glu_backward.default)
def _glu_backward(grad: Tensor, x: Tensor, dim: int) -> Tensor:
    n = x.shape[dim] // 2
    a, s = aten.slice.Tensor(x, dim, 0, n), aten.sigmoid.default(aten.slice.Tensor(x, dim, n, 2 * n))
    db = aten.sigmoid_backward.default(aten.mul.Tensor(grad, a), s)
    return aten.cat.default([aten.mul.Tensor(grad, s), db], dim)


@decomposes(aten.hardtanh.default)
def _hardtanh(x: Tensor, low: float = -1, high: float = 1) -> Tensor:
    return aten.clamp.default(x, low, high)


@decomposes(aten.hardtanh_backward.default)
def _hardtanh_backward(grad: Tensor, x: Tensor, low: float, high: float) -> Tensor:
    outside = aten.logical_or.default(aten.le.Scalar(x, low), aten.ge.Scalar(x, high))
    return aten.masked_fill.Scalar(grad, outside, 0)


@decomposes(aten.log_sigmoid_forward.default)
def _log_sigmoid(x: Tensor) -> tuple[Tensor, Tensor]:
    low = aten.clamp_max.default(x, 0)
    small = aten.log1p.default(aten.exp.default(aten.neg.default(aten.abs.default(x))))
    return aten.sub.Tensor(low, small), x.new_zeros(0)


@decomposes(aten.log_sigmoid_backward.default)
def _log_sigmoid_backward(grad: Tensor, x: Tensor, buffer: Tensor) -> Tensor:
    return aten.mul.Tensor(grad, aten.sigmoid.default(aten.neg.default(x)))


@decomposes(aten.softplus.default)
def _softplus(x: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    steep = scaled(x, beta)
    soft = scaled(aten.log1p.default(aten.exp.default(steep)), 1 / beta)
    return aten.where.self(aten.gt.Scalar(steep, threshold), x, soft)


@decomposes(aten.softplus_backward.default)
def _softplus_backward(grad: Tensor, x: Tensor, beta: float, threshold: float) -> Tensor:
    steep = scaled(x, beta)
    soft = aten.mul.Tensor(grad, aten.sigmoid.default(steep))
    return aten.where.self(aten.gt.Scalar(steep, threshold), grad, soft)


@decomposes(aten.hardshrink_backward.default, aten.softshrink_backward.default)
def _shrink_backward(grad: Tensor, x: Tensor, bound: float) -> Tensor:
    return aten.masked_fill.Scalar(grad, aten.le.Scalar(aten.abs.default(x), bound), 0)


@decomposes(aten._efficientzerotensor.default)
def _zeros(size: list[int], *, dtype: Any = None, device: Any = None, **_: Any) -> Tensor:
    """A gradient that autograd knows to be zero (of `sgn`) becomes a plain one."""
    return aten.zeros.default(size, dtype=dtype, device=device)
