"""Normalization of features over padded sequences."""

from __future__ import annotations

from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from elman.nn.layout import going

__all__ = ["FeatureNorm", "MaskedBatchNorm", "apply_norm", "feature_norm"]

FeatureNorm = Literal["none", "layer", "batch"]


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch normalization (Ioffe & Szegedy 2015) of features over the steps that belong to a sequence.

        y = γ (x − mean) / sqrt(variance + eps) + β

    x `(T, B, H)` or `(B, H)`; in training mean and variance of each feature are over the rows (t, b) with
    t < lengths[b], and move the running statistics; in eval mode those are used. Padding never counts, and comes out
    as zeros. With fewer than two rows there is no variance: they are then normalized by the running statistics.
    Parameters and buffers are those of torch.nn.BatchNorm1d, which takes `(B, H)` or `(B, H, T)` and knows no lengths.
    """

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """`x` normalized; lengths: `(B,)`, None where every row takes every step."""
        if x.shape[-1] != self.num_features or x.dim() not in (2, 3):
            raise ValueError(
                f"MaskedBatchNorm: input of shape {tuple(x.shape)}; expected (T, B, H) or (B, H) with "
                f"H = {self.num_features}"
            )
        if lengths is None or x.dim() == 2:
            return self._rows(x.reshape(-1, x.shape[-1])).reshape(x.shape)
        valid = going(x, lengths)
        y = x.new_zeros(x.shape)
        return y.masked_scatter(valid.unsqueeze(-1).expand_as(x), self._rows(x[valid]))

    def _rows(self, rows: Tensor) -> Tensor:
        if self.training and len(rows) < 2:
            return F.batch_norm(
                rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(rows)


def feature_norm(kind: FeatureNorm, features: int) -> nn.Module:
    """The norm called `kind` over `features`; ValueError for another word."""
    if kind not in get_args(FeatureNorm):
        raise ValueError(f"norm={kind!r}; expected one of {', '.join(map(repr, get_args(FeatureNorm)))}")
    makers: dict[str, type[nn.Module]] = {
        "none": nn.Identity,
        "layer": nn.LayerNorm,
        "batch": MaskedBatchNorm,
    }
    return makers[kind](features)


def apply_norm(norm: nn.Module, x: Tensor, lengths: Tensor | None) -> Tensor:
    """`norm(x)`, told of the lengths where it looks at other rows."""
    y: Tensor = norm(x, lengths) if isinstance(norm, MaskedBatchNorm) else norm(x)
    return y
