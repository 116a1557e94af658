"""Larger torch operations, written with those of the op table.

Called by the tracer below autograd: forward operations and the backward ones that autograd calls are both taken apart
here, so that few operations need a kernel.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from elman.engine.windows import in_rows, window

aten = torch.ops.aten

__all__ = ["DECOMPOSITIONS", "library_decomposition"]

DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {}


def _for(*overloads: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        DECOMPOSITIONS.update(dict.fromkeys(overloads, function))
        return function

    return register


def library_decomposition(func: Any) -> Callable[..., Any] | None:
    """How torch takes an operation apart; its table takes a second to load, so only where there is none here."""
    if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
        return func.decompose
    watching = sys.getprofile()
    sys.setprofile(None)  # what loads here is none of the step's
    try:
        from torch._decomp import decomposition_table
    finally:
        sys.setprofile(watching)
    return decomposition_table.get(func)


def _scaled(t: Tensor, factor: float) -> Tensor:
    return t if factor == 1 else aten.mul.Tensor(t, factor)


# ---- products and sums


@_for(aten.addmm.default)
def _addmm(bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    return aten.add.Tensor(_scaled(aten.mm.default(a, b), alpha), _scaled(bias, beta))


@_for(aten.baddbmm.default)
def _baddbmm(bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    return aten.add.Tensor(_scaled(aten.bmm.default(a, b), alpha), _scaled(bias, beta))


@_for(aten.addcmul.default)
def _addcmul(t: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    return aten.add.Tensor(t, _scaled(aten.mul.Tensor(a, b), value))


@_for(aten.addcdiv.default)
def _addcdiv(t: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    return aten.add.Tensor(t, _scaled(aten.div.Tensor(a, b), value))


@_for(aten.lerp.Scalar, aten.lerp.Tensor)
def _lerp(a: Tensor, b: Tensor, weight: Any) -> Tensor:
    return aten.add.Tensor(a, aten.mul.Tensor(aten.sub.Tensor(b, a), weight))


@_for(aten.add.Tensor, aten.add.Scalar)
def _add(a: Tensor, b: Any, alpha: float = 1) -> Any:
    if alpha == 1:
        return NotImplemented
    return aten.add.Tensor(a, aten.mul.Tensor(b, alpha) if isinstance(b, Tensor) else b * alpha)


@_for(aten.sub.Tensor, aten.sub.Scalar)
def _sub(a: Tensor, b: Any, alpha: float = 1) -> Any:
    if alpha == 1:
        return NotImplemented
    return aten.sub.Tensor(a, aten.mul.Tensor(b, alpha) if isinstance(b, Tensor) else b * alpha)


@_for(aten.rsub.Scalar, aten.rsub.Tensor)
def _rsub(a: Tensor, b: Any, alpha: float = 1) -> Tensor:
    if isinstance(b, Tensor):
        return aten.sub.Tensor(b, _scaled(a, alpha))
    return aten.add.Tensor(aten.neg.default(_scaled(a, alpha)), b)


@_for(aten.pow.Tensor_Scalar)
def _pow(a: Tensor, exponent: float) -> Any:
    if exponent == 2:
        return aten.mul.Tensor(a, a)
    if exponent == 1:
        return aten.clone.default(a)
    return NotImplemented


@_for(aten.square.default)
def _square(a: Tensor) -> Tensor:
    return aten.mul.Tensor(a, a)


# ---- statistics


def _count(t: Tensor, dims: list[int]) -> int:
    return math.prod(t.shape[d] for d in dims)


def _all_dims(t: Tensor, dim: Any) -> list[int]:
    if dim is None or (isinstance(dim, list | tuple) and not dim):
        return list(range(t.dim()))
    return [dim] if isinstance(dim, int) else list(dim)


@_for(aten.mean.dim, aten.mean.default)
def _mean(t: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Tensor:
    dims = _all_dims(t, dim)
    total = aten.sum.dim_IntList(t if dtype is None else t.to(dtype), dims, keepdim)
    return aten.div.Tensor(total, float(_count(t, dims)))


@_for(aten.sum.default)
def _sum(t: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    return aten.sum.dim_IntList(t if dtype is None else t.to(dtype), list(range(t.dim())), False)


def _variance(t: Tensor, dim: Any, correction: Any, keepdim: bool) -> tuple[Tensor, Tensor]:
    dims = _all_dims(t, dim)
    n = _count(t, dims)
    mean = aten.div.Tensor(aten.sum.dim_IntList(t, dims, True), float(n))
    centred = aten.sub.Tensor(t, mean)
    spread = aten.sum.dim_IntList(aten.mul.Tensor(centred, centred), dims, keepdim)
    freedom = max(n - (1 if correction is None else correction), 0)
    if not keepdim:
        mean = aten.sum.dim_IntList(mean, dims, False)
    return aten.div.Tensor(spread, float(freedom)), mean


@_for(aten.var.correction)
def _var(t: Tensor, dim: Any = None, *, correction: Any = None, keepdim: bool = False) -> Tensor:
    return _variance(t, dim, correction, keepdim)[0]


@_for(aten.std.correction)
def _std(t: Tensor, dim: Any = None, *, correction: Any = None, keepdim: bool = False) -> Tensor:
    return aten.sqrt.default(_variance(t, dim, correction, keepdim)[0])


@_for(aten.var_mean.correction)
def _var_mean(
    t: Tensor, dim: Any = None, *, correction: Any = None, keepdim: bool = False
) -> tuple[Tensor, Tensor]:
    return _variance(t, dim, correction, keepdim)


@_for(aten.linalg_vector_norm.default)
def _vector_norm(
    t: Tensor, ord: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Any:
    if ord != 2 or dtype is not None or not t.dtype.is_floating_point:
        return NotImplemented
    return aten.sqrt.default(aten.sum.dim_IntList(aten.mul.Tensor(t, t), _all_dims(t, dim), keepdim))


def _wide(t: Tensor) -> Tensor:
    """In the precision that torch's kernels reckon in: float32 at least."""
    return t if t.dtype in (torch.float32, torch.float64) else t.to(torch.float32)


@_for(aten.native_layer_norm.default)
def _layer_norm(
    x: Tensor, shape: list[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    dims = list(range(x.dim() - len(shape), x.dim()))
    wide = _wide(x)
    variance, mean = _variance(wide, dims, 0, True)
    rstd = aten.rsqrt.default(aten.add.Tensor(variance, eps))
    out = aten.mul.Tensor(aten.sub.Tensor(wide, mean), rstd)
    if weight is not None:
        out = aten.mul.Tensor(out, weight)
    if bias is not None:
        out = aten.add.Tensor(out, bias)
    return out.to(x.dtype), mean, rstd


@_for(aten.native_layer_norm_backward.default)
def _layer_norm_backward(
    grad: Tensor, x: Tensor, shape: list[int], mean: Tensor, rstd: Tensor, weight: Tensor | None,
    bias: Tensor | None, mask: list[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    dims = list(range(x.dim() - len(shape), x.dim()))
    outer = list(range(x.dim() - len(shape)))
    n = float(_count(x, dims))
    kind, x, grad = x.dtype, _wide(x), _wide(grad)
    normal = aten.mul.Tensor(aten.sub.Tensor(x, mean), rstd)
    dx = dw = db = None
    if mask[0]:
        g = grad if weight is None else aten.mul.Tensor(grad, weight)
        m1 = aten.div.Tensor(aten.sum.dim_IntList(g, dims, True), n)
        m2 = aten.div.Tensor(aten.sum.dim_IntList(aten.mul.Tensor(g, normal), dims, True), n)
        dx = aten.mul.Tensor(aten.sub.Tensor(aten.sub.Tensor(g, m1), aten.mul.Tensor(normal, m2)), rstd).to(
            kind
        )
    if mask[1] and weight is not None:
        dw = aten.sum.dim_IntList(aten.mul.Tensor(grad, normal), outer, False).to(weight.dtype)
    if mask[2] and bias is not None:
        db = aten.sum.dim_IntList(grad, outer, False).to(bias.dtype)
    return dx, dw, db


def _per_channel(t: Tensor, like: Tensor) -> Tensor:
    return aten.view.default(t, [1, -1, *[1] * (like.dim() - 2)])


@_for(aten._native_batch_norm_legit_no_training.default)
def _batch_norm_eval(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    out = aten.mul.Tensor(
        aten.sub.Tensor(_wide(x), _per_channel(mean, x)),
        _per_channel(aten.rsqrt.default(aten.add.Tensor(var, eps)), x),
    )
    if weight is not None:
        out = aten.mul.Tensor(out, _per_channel(weight, x))
    if bias is not None:
        out = aten.add.Tensor(out, _per_channel(bias, x))
    empty = x.new_zeros(0)
    return out.to(x.dtype), empty, empty


@_for(aten.native_batch_norm.default)
def _batch_norm(
    x: Tensor, weight: Any, bias: Any, mean: Any, var: Any, training: bool, momentum: float, eps: float
) -> Any:
    return NotImplemented if training else _batch_norm_eval(x, weight, bias, mean, var, momentum, eps)


@_for(aten.native_batch_norm_backward.default)
def _batch_norm_backward(
    grad: Tensor, x: Tensor, weight: Tensor | None, mean: Any, var: Any, save_mean: Any, save_rstd: Any, train: bool,
    eps: float, mask: list[bool],
) -> Any:  # fmt: skip
    if train:
        return NotImplemented
    rstd = _per_channel(aten.rsqrt.default(aten.add.Tensor(var, eps)), x)
    dims = [0, *range(2, x.dim())]
    scaled = aten.mul.Tensor(grad, rstd)
    dx = (scaled if weight is None else aten.mul.Tensor(scaled, _per_channel(weight, x))) if mask[0] else None
    centred = aten.sub.Tensor(x, _per_channel(mean, x))
    dw = aten.sum.dim_IntList(aten.mul.Tensor(scaled, centred), dims, False) if mask[1] else None
    return dx, dw, aten.sum.dim_IntList(grad, dims, False) if mask[2] else None


# ---- softmax


@_for(aten._softmax.default)
def _softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    e = aten.exp.default(aten.sub.Tensor(x, aten.amax.default(x, [dim], True)))
    return aten.div.Tensor(e, aten.sum.dim_IntList(e, [dim], True))


@_for(aten._log_softmax.default)
def _log_softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    shifted = aten.sub.Tensor(x, aten.amax.default(x, [dim], True))
    total = aten.sum.dim_IntList(aten.exp.default(shifted), [dim], True)
    return aten.sub.Tensor(shifted, aten.log.default(total))


@_for(aten._softmax_backward_data.default)
def _softmax_backward(grad: Tensor, out: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    g = aten.mul.Tensor(grad, out)
    return aten.sub.Tensor(g, aten.mul.Tensor(out, aten.sum.dim_IntList(g, [dim], True)))


@_for(aten._log_softmax_backward_data.default)
def _log_softmax_backward(grad: Tensor, out: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    return aten.sub.Tensor(
        grad, aten.mul.Tensor(aten.exp.default(out), aten.sum.dim_IntList(grad, [dim], True))
    )


# ---- activations


@_for(aten.silu.default)
def _silu(x: Tensor) -> Tensor:
    return aten.mul.Tensor(x, aten.sigmoid.default(x))


@_for(aten.silu_backward.default)
def _silu_backward(grad: Tensor, x: Tensor) -> Tensor:
    s = aten.sigmoid.default(x)
    inner = aten.add.Tensor(aten.mul.Tensor(x, aten.add.Tensor(aten.neg.default(s), 1.0)), 1.0)
    return aten.mul.Tensor(aten.mul.Tensor(grad, s), inner)


@_for(aten.leaky_relu.default)
def _leaky_relu(x: Tensor, slope: float = 0.01) -> Tensor:
    return aten.where.self(aten.gt.Scalar(x, 0), x, aten.mul.Tensor(x, slope))


@_for(aten.leaky_relu_backward.default)
def _leaky_relu_backward(grad: Tensor, x: Tensor, slope: float, is_result: bool) -> Tensor:
    return aten.where.self(aten.gt.Scalar(x, 0), grad, aten.mul.Tensor(grad, slope))


@_for(aten.elu.default)
def _elu(x: Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Tensor:
    low = _scaled(aten.expm1.default(_scaled(x, input_scale)), alpha * scale)
    return aten.where.self(aten.gt.Scalar(x, 0), _scaled(x, scale), low)


@_for(aten.elu_backward.default)
def _elu_backward(
    grad: Tensor, alpha: float, scale: float, input_scale: float, is_result: bool, x: Tensor
) -> Tensor:
    if is_result:
        low = _scaled(aten.add.Tensor(x, alpha * scale), input_scale)
    else:
        low = _scaled(aten.exp.default(_scaled(x, input_scale)), input_scale * alpha * scale)
    high = _scaled(grad, scale)
    return aten.where.self(aten.le.Scalar(x, 0), aten.mul.Tensor(grad, low), high)


_ROOT_HALF, _ROOT_2_PI = math.sqrt(0.5), math.sqrt(2 / math.pi)


def _gelu_tanh_inner(x: Tensor) -> Tensor:
    cube = aten.mul.Tensor(aten.mul.Tensor(x, x), x)
    return aten.tanh.default(aten.mul.Tensor(aten.add.Tensor(x, aten.mul.Tensor(cube, 0.044715)), _ROOT_2_PI))


@_for(aten.gelu.default)
def _gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    bell = _gelu_tanh_inner(x) if approximate == "tanh" else aten.erf.default(aten.mul.Tensor(x, _ROOT_HALF))
    return aten.mul.Tensor(aten.mul.Tensor(x, 0.5), aten.add.Tensor(bell, 1.0))


@_for(aten.gelu_backward.default)
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


@_for(aten.hardsigmoid.default)
def _hardsigmoid(x: Tensor) -> Tensor:
    return aten.div.Tensor(aten.clamp.default(aten.add.Tensor(x, 3.0), 0, 6), 6.0)


@_for(aten.hardsigmoid_backward.default)
def _hardsigmoid_backward(grad: Tensor, x: Tensor) -> Tensor:
    inside = aten.logical_and.default(aten.gt.Scalar(x, -3), aten.lt.Scalar(x, 3))
    sixth = 0.1666666716337204  # torch takes 1/6 in single precision, in double too
    return aten.masked_fill.Scalar(aten.mul.Tensor(grad, sixth), aten.logical_not.default(inside), 0)


@_for(aten.mish.default)
def _mish(x: Tensor) -> Tensor:
    return aten.mul.Tensor(x, aten.tanh.default(_softplus(x)))


@_for(aten.mish_backward.default)
def _mish_backward(grad: Tensor, x: Tensor) -> Tensor:
    t, s = aten.tanh.default(_softplus(x)), aten.sigmoid.default(x)
    bend = aten.add.Tensor(aten.neg.default(aten.mul.Tensor(t, t)), 1.0)
    return aten.mul.Tensor(grad, aten.add.Tensor(t, aten.mul.Tensor(aten.mul.Tensor(x, s), bend)))


@_for(aten.glu.default)
def _glu(x: Tensor, dim: int = -1) -> Tensor:
    n = x.shape[dim] // 2
    a, b = aten.slice.Tensor(x, dim, 0, n), aten.slice.Tensor(x, dim, n, 2 * n)
    return aten.mul.Tensor(a, aten.sigmoid.default(b))


@_for(aten.glu_backward.default)
def _glu_backward(grad: Tensor, x: Tensor, dim: int) -> Tensor:
    n = x.shape[dim] // 2
    a, s = aten.slice.Tensor(x, dim, 0, n), aten.sigmoid.default(aten.slice.Tensor(x, dim, n, 2 * n))
    db = aten.sigmoid_backward.default(aten.mul.Tensor(grad, a), s)
    return aten.cat.default([aten.mul.Tensor(grad, s), db], dim)


@_for(aten.hardtanh.default)
def _hardtanh(x: Tensor, low: float = -1, high: float = 1) -> Tensor:
    return aten.clamp.default(x, low, high)


@_for(aten.hardtanh_backward.default)
def _hardtanh_backward(grad: Tensor, x: Tensor, low: float, high: float) -> Tensor:
    outside = aten.logical_or.default(aten.le.Scalar(x, low), aten.ge.Scalar(x, high))
    return aten.masked_fill.Scalar(grad, outside, 0)


@_for(aten.log_sigmoid_forward.default)
def _log_sigmoid(x: Tensor) -> tuple[Tensor, Tensor]:
    low = aten.clamp_max.default(x, 0)
    small = aten.log1p.default(aten.exp.default(aten.neg.default(aten.abs.default(x))))
    return aten.sub.Tensor(low, small), x.new_zeros(0)


@_for(aten.log_sigmoid_backward.default)
def _log_sigmoid_backward(grad: Tensor, x: Tensor, buffer: Tensor) -> Tensor:
    return aten.mul.Tensor(grad, aten.sigmoid.default(aten.neg.default(x)))


@_for(aten.softplus.default)
def _softplus(x: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    scaled = _scaled(x, beta)
    soft = _scaled(aten.log1p.default(aten.exp.default(scaled)), 1 / beta)
    return aten.where.self(aten.gt.Scalar(scaled, threshold), x, soft)


@_for(aten.softplus_backward.default)
def _softplus_backward(grad: Tensor, x: Tensor, beta: float, threshold: float) -> Tensor:
    scaled = _scaled(x, beta)
    soft = aten.mul.Tensor(grad, aten.sigmoid.default(scaled))
    return aten.where.self(aten.gt.Scalar(scaled, threshold), grad, soft)


@_for(aten.hardshrink_backward.default, aten.softshrink_backward.default)
def _shrink_backward(grad: Tensor, x: Tensor, bound: float) -> Tensor:
    return aten.masked_fill.Scalar(grad, aten.le.Scalar(aten.abs.default(x), bound), 0)


@_for(aten._efficientzerotensor.default)
def _zeros(size: list[int], *, dtype: Any = None, device: Any = None, **_: Any) -> Tensor:
    """A gradient that autograd knows to be zero (of `sgn`) becomes a plain one."""
    return aten.zeros.default(size, dtype=dtype, device=device)


# ---- shapes


@_for(aten.split.Tensor, aten.unsafe_split.Tensor)
def _split(t: Tensor, size: int, dim: int = 0) -> list[Tensor]:
    n = t.shape[dim]
    return [aten.slice.Tensor(t, dim, i, min(i + size, n)) for i in range(0, n, size)]


@_for(aten.split_with_sizes.default, aten.unsafe_split_with_sizes.default)
def _split_with_sizes(t: Tensor, sizes: list[int], dim: int = 0) -> list[Tensor]:
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [aten.slice.Tensor(t, dim, end - size, end) for size, end in zip(sizes, ends, strict=True)]


@_for(aten.unbind.int)
def _unbind(t: Tensor, dim: int = 0) -> list[Tensor]:
    return [aten.select.int(t, dim, i) for i in range(t.shape[dim])]


@_for(aten.stack.default)
def _stack(tensors: list[Tensor], dim: int = 0) -> Tensor:
    return aten.cat.default([aten.unsqueeze.default(t, dim) for t in tensors], dim)


@_for(aten.t.default)
def _t(a: Tensor) -> Tensor:
    return aten.permute.default(a, [1, 0] if a.dim() == 2 else list(range(a.dim())))


@_for(aten.transpose.int)
def _transpose(a: Tensor, first: int, second: int) -> Tensor:
    order = list(range(a.dim()))
    order[first], order[second] = order[second], order[first]
    return aten.permute.default(a, order)


@_for(aten.index_put.default)
def _index_put(t: Tensor, indices: list[Any], values: Tensor, accumulate: bool = False) -> Any:
    """`t[mask] = number`."""
    mask = indices[0] if len(indices) == 1 else None
    if mask is None or mask.dtype != torch.bool or mask.shape != t.shape or values.dim() or accumulate:
        return NotImplemented
    return aten.where.self(mask, values, t)


@_for(aten.as_strided.default)
def _as_strided(t: Tensor, sizes: list[int], strides: list[int], offset: int | None = None) -> Any:
    """A window into a contiguous tensor, as autograd's backward of in-place writes makes it."""
    found = window(t, sizes, strides, int(t.storage_offset()) if offset is None else offset)
    if found is None:
        return NotImplemented
    starts, chosen = found
    t = in_rows(t, strides)
    wide = list(sizes) if chosen is None else [*sizes[:chosen], 1, *sizes[chosen:]]
    for d, (start, n) in enumerate(zip(starts, wide, strict=True)):
        if n != t.shape[d] and d != chosen:
            t = aten.slice.Tensor(t, d, start, start + n)
    return t if chosen is None else aten.select.int(t, chosen, starts[chosen])


@_for(aten.as_strided_scatter.default)
def _as_strided_scatter(
    t: Tensor, source: Tensor, sizes: list[int], strides: list[int], offset: int | None = None
) -> Any:
    found = window(t, sizes, strides, int(t.storage_offset()) if offset is None else offset)
    if found is None:
        return NotImplemented
    starts, chosen = found
    shape, t = t.shape, in_rows(t, strides)
    wide = list(sizes) if chosen is None else [*sizes[:chosen], 1, *sizes[chosen:]]
    parts = [d for d, n in enumerate(wide) if n != t.shape[d] and d != chosen]
    if chosen is not None and not parts:
        return aten.view.default(aten.select_scatter.default(t, source, chosen, starts[chosen]), shape)
    if chosen is not None or len(parts) > 1:
        return NotImplemented
    if not parts:
        return aten.view.default(source, shape)
    d = parts[0]
    return aten.view.default(aten.slice_scatter.default(t, source, d, starts[d], starts[d] + wide[d]), shape)
