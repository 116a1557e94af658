"""The LSTM whose gates see the cell state."""

from __future__ import annotations

import torch
from torch import Tensor

from elman.nn.cells.base import Cell, read_weights
from elman.nn.cells.lstm import lstm_step

__all__ = ["PeepholeLSTMCell"]


class PeepholeLSTMCell(Cell):
    r"""LSTM with peephole connections (Gers, Schraudolph & Schmidhuber 2002; written as Graves 2013, eqs. 7-11).

        i_t = σ(W_xi x_t + W_hi h_{t−1} + w_ci⊙c_{t−1} + b_i)
        f_t = σ(W_xf x_t + W_hf h_{t−1} + w_cf⊙c_{t−1} + b_f)
        c_t = f_t⊙c_{t−1} + i_t⊙tanh(W_xc x_t + W_hc h_{t−1} + b_c)
        o_t = σ(W_xo x_t + W_ho h_{t−1} + w_co⊙c_t + b_o)
        h_t = o_t⊙tanh(c_t)                                   y_t = h_t

    State: (h, c), each `(B, H)`. Parameters: those of `LSTMCell`, and the diagonals `weight_ci`, `weight_cf`,
    `weight_co` `(H)`, drawn like the others.
    """

    state_names = ("h", "c")
    gates = 4

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
        for name in ("weight_ci", "weight_cf", "weight_co"):
            self._add(name, hidden_size)
        self.reset_parameters()

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One step; x `(B, I)`, state (h, c) -> (h_t, (h_t, c_t))."""
        h, c = lstm_step(x, self._start(x, state), read_weights(self))
        return h, (h, c)
