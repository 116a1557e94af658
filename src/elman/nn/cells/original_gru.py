"""The gated recurrent unit as first published."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from elman.nn.cells.base import Cell, Weights, read_weights

__all__ = ["OriginalGRUCell", "original_gru_step"]


def original_gru_step(
    x: Tensor, h: Tensor, w: Weights, *, drop_h: Tensor | None = None, drop_g: Tensor | None = None
) -> Tensor:
    """r, z = σ(...)    n = tanh(W_in x + W_hn (r⊙h) + b_n)    h' = (1 − z)⊙n⊙drop_g + z⊙h    h⊙drop_h in products."""
    H2 = w.weight_hh.shape[0] * 2 // 3
    seen = h if drop_h is None else h * drop_h
    a = F.linear(x, w.weight_ih, w.bias_ih)
    b_rz, b_n = (None, None) if w.bias_hh is None else (w.bias_hh[:H2], w.bias_hh[H2:])
    r, z = (a[..., :H2] + F.linear(seen, w.weight_hh[:H2], b_rz)).sigmoid().chunk(2, -1)
    n = (a[..., H2:] + F.linear(r * seen, w.weight_hh[H2:], b_n)).tanh()
    n = n if drop_g is None else n * drop_g
    return n + z * (h - n)


class OriginalGRUCell(Cell):
    r"""Gated recurrent unit, reset gate before the product (Cho et al. 2014, arXiv:1406.1078, eqs. 5-8).

        r_t = σ(W_ir x_t + W_hr h_{t−1} + b_r)                z_t the same with rows z
        n_t = tanh(W_in x_t + W_hn (r_t⊙h_{t−1}) + b_n)
        h_t = (1 − z_t)⊙n_t + z_t⊙h_{t−1}                     y_t = h_t

    State: h `(B, H)`. Parameters have the names and shapes of `GRUCell` (each b is the sum of its rows in `bias_ih`
    and `bias_hh`; the paper has none), but the same numbers give another function.
    """

    gates = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device=device, dtype=dtype)
        self.reset_parameters()

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One step; x `(B, I)`, state `(B, H)` -> (h_t, h_t)."""
        h = original_gru_step(x, self._start(x, state), read_weights(self))
        return h, h
