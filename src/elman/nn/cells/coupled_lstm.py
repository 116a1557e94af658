"""The LSTM that forgets as much as it takes in."""

from __future__ import annotations

import torch
from torch import Tensor

from elman.nn.cells.base import Cell, read_weights
from elman.nn.cells.lstm import lstm_step

__all__ = ["CoupledLSTMCell"]


class CoupledLSTMCell(Cell):
    r"""LSTM with coupled input and forget gates, CIFG (Greff, Srivastava, Koutník, Steunebrink & Schmidhuber 2017).

        i_t = σ(W_ii x_t + b_ii + W_hi h_{t−1} + b_hi)        o_t the same with rows o
        g_t = tanh(W_ig x_t + b_ig + W_hg h_{t−1} + b_hg)
        c_t = (1 − i_t)⊙c_{t−1} + i_t⊙g_t
        h_t = o_t⊙tanh(c_t)                                   y_t = h_t

    State: (h, c), each `(B, H)`. Parameters: `weight_ih` `(3H, I)`, `weight_hh` `(3H, H)`, `bias_ih`, `bias_hh`
    `(3H)`, rows i, g, o: those of `LSTMCell` without the forget gate's.
    """

    state_names = ("h", "c")
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

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One step; x `(B, I)`, state (h, c) -> (h_t, (h_t, c_t))."""
        h, c = lstm_step(x, self._start(x, state), read_weights(self), coupled=True)
        return h, (h, c)
