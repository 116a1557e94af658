"""Scaled dot-product attention as torch carries it out on the CPU. torch's own decomposition of the forward gives other
second results than the backward wants, so both are here."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from elman.engine.decompose.table import decomposes, scaled

aten = torch.ops.aten


def _product(a: Tensor, b: Tensor) -> Tensor:
    """`a @ b` over the last two dimensions."""
    flat = aten.bmm.default(*(aten.reshape.default(t, [-1, *t.shape[-2:]]) for t in (a, b)))
    return aten.reshape.default(flat, [*a.shape[:-1], b.shape[-1]])


def _turned(t: Tensor) -> Tensor:
    return aten.permute.default(t, [0, 1, 3, 2])


def _scores(q: Tensor, k: Tensor, causal: bool, mask: Tensor | None, factor: float) -> Tensor:
    scores = scaled(_product(q, _turned(k)), factor)
    if causal:
        later = aten.triu.default(aten.ones.default(scores.shape[-2:], dtype=torch.bool, device=q.device), 1)
        scores = aten.masked_fill.Scalar(scores, later, -math.inf)
    return scores if mask is None else aten.add.Tensor(scores, mask)


def _factor(q: Tensor, scale: float | None) -> float:
    return 1 / math.sqrt(q.shape[-1]) if scale is None else scale


@decomposes(aten._scaled_dot_product_flash_attention_for_cpu.default)
def _attention(
    q: Tensor, k: Tensor, v: Tensor, dropout_p: float = 0.0, is_causal: bool = False, *,
    attn_mask: Tensor | None = None, scale: float | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(output, logarithm of the sum of the weights); a place that sees nothing gets zero, and a logarithm of inf."""
    scores = _scores(q, k, is_causal, attn_mask, _factor(q, scale))
    top = aten.amax.default(scores, [-1], True)
    blind = aten.eq.Scalar(top, -math.inf)
    top = aten.masked_fill.Scalar(top, blind, 0)
    total = aten.sum.dim_IntList(aten.exp.default(aten.sub.Tensor(scores, top)), [-1], True)
    logarithm = aten.masked_fill.Scalar(aten.add.Tensor(top, aten.log.default(total)), blind, math.inf)
    weights = aten.exp.default(aten.sub.Tensor(scores, logarithm))
    return _product(weights, v), aten.squeeze.dim(logarithm, -1)


@decomposes(aten._scaled_dot_product_flash_attention_for_cpu_backward.default)
def _attention_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, logarithm: Tensor, dropout_p: float,
    is_causal: bool, *, attn_mask: Tensor | None = None, scale: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    factor = _factor(q, scale)
    scores = _scores(q, k, is_causal, attn_mask, factor)
    weights = aten.exp.default(aten.sub.Tensor(scores, aten.unsqueeze.default(logarithm, -1)))
    through = _product(grad, _turned(v))
    mean = aten.sum.dim_IntList(aten.mul.Tensor(grad, out), [-1], True)
    ds = scaled(aten.mul.Tensor(weights, aten.sub.Tensor(through, mean)), factor)
    return _product(ds, k), _product(_turned(ds), q), _product(_turned(weights), grad)
