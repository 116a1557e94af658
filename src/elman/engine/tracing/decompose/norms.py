"""Layer norm, group norm, batch norm with fixed statistics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from elman.engine.tracing.decompose.arithmetic import variance
from elman.engine.tracing.decompose.table import count, decomposes

aten = torch.ops.aten


def _wide(t: Tensor) -> Tensor:
    """In the precision that torch's kernels reckon in: float32 at least."""
    return t if t.dtype in (torch.float32, torch.float64) else t.to(torch.float32)


@decomposes(aten.native_layer_norm.default)
def _layer_norm(
    x: Tensor, shape: list[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    dims = list(range(x.dim() - len(shape), x.dim()))
    wide = _wide(x)
    spread, mean = variance(wide, dims, 0, True)
    rstd = aten.rsqrt.default(aten.add.Tensor(spread, eps))
    out = aten.mul.Tensor(aten.sub.Tensor(wide, mean), rstd)
    if weight is not None:
        out = aten.mul.Tensor(out, weight)
    if bias is not None:
        out = aten.add.Tensor(out, bias)
    return out.to(x.dtype), mean, rstd


def _centred(g: Tensor, normal: Tensor, rstd: Tensor, dims: list[int]) -> Tensor:
    """The gradient of what was centred and scaled over `dims`."""
    n = float(count(g, dims))
    m1 = aten.div.Tensor(aten.sum.dim_IntList(g, dims, True), n)
    m2 = aten.div.Tensor(aten.sum.dim_IntList(aten.mul.Tensor(g, normal), dims, True), n)
    return aten.mul.Tensor(aten.sub.Tensor(aten.sub.Tensor(g, m1), aten.mul.Tensor(normal, m2)), rstd)


@decomposes(aten.native_layer_norm_backward.default)
def _layer_norm_backward(
    grad: Tensor, x: Tensor, shape: list[int], mean: Tensor, rstd: Tensor, weight: Tensor | None,
    bias: Tensor | None, mask: list[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    dims = list(range(x.dim() - len(shape), x.dim()))
    outer = list(range(x.dim() - len(shape)))
    kind, x, grad = x.dtype, _wide(x), _wide(grad)
    normal = aten.mul.Tensor(aten.sub.Tensor(x, mean), rstd)
    dx = dw = db = None
    if mask[0]:
        g = grad if weight is None else aten.mul.Tensor(grad, weight)
        dx = _centred(g, normal, rstd, dims).to(kind)
    if mask[1] and weight is not None:
        dw = aten.sum.dim_IntList(aten.mul.Tensor(grad, normal), outer, False).to(weight.dtype)
    if mask[2] and bias is not None:
        db = aten.sum.dim_IntList(grad, outer, False).to(bias.dtype)
    return dx, dw, db


def _per_channel(t: Tensor, like: Tensor) -> Tensor:
    return aten.view.default(t, [1, -1, *[1] * (like.dim() - 2)])


@decomposes(aten._native_batch_norm_legit_no_training.default)
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


@decomposes(aten.native_batch_norm.default)
def _batch_norm(
    x: Tensor, weight: Any, bias: Any, mean: Any, var: Any, training: bool, momentum: float, eps: float
) -> Any:
    return NotImplemented if training else _batch_norm_eval(x, weight, bias, mean, var, momentum, eps)


@decomposes(aten.native_batch_norm_backward.default)
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


def _in_groups(t: Tensor, groups: int) -> Tensor:
    return aten.reshape.default(t, [t.shape[0], groups, -1])


@decomposes(aten.native_group_norm.default)
def _group_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, rows: int, channels: int, places: int, groups: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    parts = _in_groups(_wide(x), groups)
    spread, mean = variance(parts, [2], 0, True)
    rstd = aten.rsqrt.default(aten.add.Tensor(spread, eps))
    out = aten.view.default(aten.mul.Tensor(aten.sub.Tensor(parts, mean), rstd), x.shape)
    if weight is not None:
        out = aten.mul.Tensor(out, _per_channel(weight, x))
    if bias is not None:
        out = aten.add.Tensor(out, _per_channel(bias, x))
    return out.to(x.dtype), aten.squeeze.dim(mean, 2).to(x.dtype), aten.squeeze.dim(rstd, 2).to(x.dtype)


@decomposes(aten.native_group_norm_backward.default)
def _group_norm_backward(
    grad: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor | None, rows: int, channels: int,
    places: int, groups: int, mask: list[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    kind, wide, grad = x.dtype, _wide(x), _wide(grad)
    mean, rstd = (aten.unsqueeze.default(_wide(t), 2) for t in (mean, rstd))
    normal = aten.mul.Tensor(aten.sub.Tensor(_in_groups(wide, groups), mean), rstd)
    outer = [0, *range(2, x.dim())]
    dx = dw = db = None
    if mask[0]:
        g = grad if weight is None else aten.mul.Tensor(grad, _per_channel(weight, x))
        dx = aten.view.default(_centred(_in_groups(g, groups), normal, rstd, [2]), x.shape).to(kind)
    if mask[1]:
        scaled = aten.mul.Tensor(grad, aten.view.default(normal, x.shape))
        dw = aten.sum.dim_IntList(scaled, outer, False).to(kind)
    if mask[2]:
        db = aten.sum.dim_IntList(grad, outer, False).to(kind)
    return dx, dw, db
