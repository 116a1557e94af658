"""The minimal gated unit."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from elman.nn.cells.base import Cell, Weights, read_weights

__all__ = ["MinimalGatedCell", "minimal_gated_step"]


def minimal_gated_step(x: Tensor, h: Tensor, w: Weights) -> Tensor:
    """f = σ(...)    n = tanh(W_in x + W_hn (f⊙h) + b_n)    h' = (1 − f)⊙h + f⊙n    rows f, n."""
    H = w.weight_hh.shape[1]
    b_f, b_n = (None, None) if w.bias_hh is None else (w.bias_hh[:H], w.bias_hh[H:])
    a_f, a_n = F.linear(x, w.weight_ih, w.bias_ih).chunk(2, -1)
    f = (a_f + F.linear(h, w.weight_hh[:H], b_f)).sigmoid()
    n = (a_n + F.linear(f * h, w.weight_hh[H:], b_n)).tanh()
    return h + f * (n - h)


class MinimalGatedCell(Cell):
    r"""Minimal gated unit, MGU (Zhou, Wu, Zhang & Zhou 2016, arXiv:1603.09420).

        f_t = σ(W_if x_t + W_hf h_{t−1} + b_f)
        n_t = tanh(W_in x_t + W_hn (f_t⊙h_{t−1}) + b_n)
        h_t = (1 − f_t)⊙h_{t−1} + f_t⊙n_t                     y_t = h_t

    State: h `(B, H)`. Parameters: `weight_ih` `(2H, I)`, `weight_hh` `(2H, H)`, `bias_ih`, `bias_hh` `(2H)`, rows
    f, n; each b is the sum of its rows in the two biases.
    """

    gates = 2

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
        h = minimal_gated_step(x, self._start(x, state), read_weights(self))
        return h, h
