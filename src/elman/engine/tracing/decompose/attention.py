"""Scaled dot-product attention as torch carries it out on the CPU. torch's own decomposition of the forward gives other
second results than the backward wants, so both are here. And nn.MultiheadAttention with the batch first all the way:
torch's own puts it between the steps and the features, where no row is in one piece."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from elman.engine.tracing.decompose.table import decomposes, scaled

__all__ = ["multi_head_attention"]

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


def multi_head_attention(
    query: Tensor, key: Tensor, value: Tensor, embed_dim: int, heads: int, in_weight: Any, in_bias: Any, bias_k: Any,
    bias_v: Any, add_zero_attn: bool, dropout_p: float, out_weight: Tensor, out_bias: Any, *, training: bool = True,
    key_padding_mask: Tensor | None = None, need_weights: bool = True, attn_mask: Tensor | None = None,
    is_causal: bool = False, use_separate_proj_weight: bool = False, q_proj_weight: Any = None,
    k_proj_weight: Any = None, v_proj_weight: Any = None, static_k: Any = None, static_v: Any = None,
    average_attn_weights: bool = True,
) -> Any:  # fmt: skip
    """`F.multi_head_attention_forward` of query (L, B, E), key and value (S, B, ..); NotImplemented for rare ones."""
    rare = bias_k is not None or add_zero_attn or static_k is not None or static_v is not None
    if rare or query.dim() != 3 or is_causal or query.shape[2] != embed_dim or embed_dim % heads:
        return NotImplemented
    weights = (
        (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else in_weight.chunk(3)
    )
    biases = (None, None, None) if in_bias is None else in_bias.chunk(3)

    def split(t: Tensor, weight: Tensor, bias: Any) -> Tensor:
        return F.linear(t.transpose(0, 1), weight, bias).unflatten(2, (heads, -1)).transpose(1, 2)

    q, k, v = (split(t, w, b) for t, w, b in zip((query, key, value), weights, biases, strict=True))
    mask = _joint_mask(attn_mask, key_padding_mask, q)
    if need_weights:
        scores = torch.matmul(q * math.sqrt(1.0 / q.shape[-1]), k.transpose(-2, -1))
        found = torch.softmax(scores if mask is None else scores + mask, -1)
        if training and dropout_p > 0:
            found = F.dropout(found.flatten(0, 1), dropout_p).unflatten(0, (-1, heads))
        out = torch.matmul(found, v)
    else:
        out = F.scaled_dot_product_attention(q, k, v, mask, dropout_p if training else 0.0)
    out = F.linear(out.transpose(1, 2).flatten(2), out_weight, out_bias).transpose(0, 1)
    if not need_weights:
        return out, None
    return out, found.mean(1) if average_attn_weights else found


def _joint_mask(mask: Tensor | None, padding: Tensor | None, q: Tensor) -> Tensor | None:
    """Both masks as one that is added to the scores (B, N, L, S)."""

    def added(t: Tensor) -> Tensor:
        return torch.zeros_like(t, dtype=q.dtype).masked_fill_(t, -math.inf) if t.dtype == torch.bool else t

    if mask is not None:
        mask = added(mask)
        mask = mask if mask.dim() == 2 else mask.unflatten(0, (-1, q.shape[1]))
    if padding is None:
        return mask
    padding = added(padding)[:, None, None]
    return padding if mask is None else mask + padding
