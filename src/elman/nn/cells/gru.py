"""The gated recurrent unit in the form of torch.nn and cuDNN."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from elman.nn.cells.base import Cell, Weights, normalize, read_weights

__all__ = ["GRUCell", "gru_step"]


def gru_product(v: Tensor, weight: Tensor, bias: Tensor | None, gain: Tensor | None) -> tuple[Tensor, Tensor]:
    """W v + b, cut into the rows of the gates r, z `(B, 2H)` and of the candidate n `(B, H)`.

    With a gain both parts are normalized, each on its own: the GRU in the supplement of Ba, Kiros & Hinton 2016.
    """
    H2 = weight.shape[0] * 2 // 3
    if gain is None:
        a = F.linear(v, weight, bias)
        return a[..., :H2], a[..., H2:]
    a = F.linear(v, weight)
    b_rz, b_n = (None, None) if bias is None else (bias[:H2], bias[H2:])
    return normalize(a[..., :H2], gain[:H2], b_rz), normalize(a[..., H2:], gain[H2:], b_n)


def gru_step(
    x: Tensor, h: Tensor, w: Weights, *, drop_h: Tensor | None = None, drop_g: Tensor | None = None
) -> Tensor:
    """r, z = σ(x_rz + h_rz)    n = tanh(x_n + r⊙h_n)    h' = (1 − z)⊙n⊙drop_g + z⊙h    products of x and h⊙drop_h."""
    x_rz, x_n = gru_product(x, w.weight_ih, w.bias_ih, w.gain_ih)
    h_rz, h_n = gru_product(h if drop_h is None else h * drop_h, w.weight_hh, w.bias_hh, w.gain_hh)
    r, z = (x_rz + h_rz).sigmoid().chunk(2, -1)
    n = (x_n + r * h_n).tanh()
    n = n if drop_g is None else n * drop_g
    return n + z * (h - n)


class GRUCell(Cell):
    r"""Gated recurrent unit, reset gate after the product (Cho et al. 2014 as changed in cuDNN; torch.nn's form).

        r_t = σ(W_ir x_t + b_ir + W_hr h_{t−1} + b_hr)        z_t the same with rows z
        n_t = tanh(W_in x_t + b_in + r_t⊙(W_hn h_{t−1} + b_hn))
        h_t = (1 − z_t)⊙n_t + z_t⊙h_{t−1}                     y_t = h_t

    State: h `(B, H)`. Parameters and next state are those of torch.nn.GRUCell: `weight_ih` `(3H, I)`, `weight_hh`
    `(3H, H)`, `bias_ih`, `bias_hh` `(3H)`, rows r, z, n. `OriginalGRUCell` has the paper's own form.
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
        h = gru_step(x, self._start(x, state), read_weights(self))
        return h, h
