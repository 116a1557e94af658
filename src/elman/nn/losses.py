"""Losses over a large vocabulary."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Smoothed", "smoothed_cross_entropy"]


class Smoothed(NamedTuple):
    """losses: `(N,)`, to be differentiated. total: the sum of -log p of the truth alone, in nats."""

    losses: Tensor
    total: float


class _SmoothedCrossEntropy(torch.autograd.Function):
    """Fewer passes over the logits than a log-softmax, its sum and its gather take."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, truth: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
        top = logits.logsumexp(-1)
        right = logits.gather(1, truth.unsqueeze(1)).squeeze(1)
        nll = top - right
        losses = nll if smoothing == 0 else nll + smoothing * (right - logits.mean(-1))
        ctx.save_for_backward(logits, truth)
        ctx.smoothing = smoothing
        total = nll.sum(dtype=torch.float64)
        ctx.mark_non_differentiable(total)
        return losses, total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        logits, truth = ctx.saved_tensors
        grad = grads[0].unsqueeze(1)
        found = torch.softmax(logits, -1)
        if ctx.smoothing:
            found.sub_(ctx.smoothing / logits.shape[1])
        found.mul_(grad)
        found.scatter_add_(1, truth.unsqueeze(1), (ctx.smoothing - 1) * grad)
        return found, None, None


def smoothed_cross_entropy(logits: Tensor, truth: Tensor, smoothing: float = 0.0) -> Smoothed:
    r"""Cross entropy with label smoothing (Szegedy et al. 2016, section 7), as `F.cross_entropy` computes it.

        loss = -(1 - ε) log p(truth) - ε / K Σ_k log p(k)        p = softmax(logits)

    logits `(N, K)`, truth `(N,)`, ε = `smoothing`. Gradients of the first order; of higher ones by `F.cross_entropy`.
    """
    losses, total = _SmoothedCrossEntropy.apply(logits, truth, smoothing)  # type: ignore[no-untyped-call]
    return Smoothed(losses, float(total))
