"""The LSTM with layer normalization inside."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from elman.nn.cells.base import Cell, read_weights
from elman.nn.cells.lstm import lstm_step

__all__ = ["LayerNormLSTMCell"]


class LayerNormLSTMCell(Cell):
    r"""LSTM with layer normalization (Ba, Kiros & Hinton 2016, arXiv:1607.06450).

    variant "separate" is the LSTM of the paper's supplement, each product normalized on its own:

        (a_i, a_f, a_g, a_o) = LN(W_ih x_t; gain_ih, b_ih) + LN(W_hh h_{t−1}; gain_hh, b_hh)

    variant "sum" follows the paper's eq. 4, the summed products normalized together:

        (a_i, a_f, a_g, a_o) = LN(W_ih x_t + W_hh h_{t−1}; gain_sum, b_ih) + b_hh

    and in both

        c_t = σ(a_f)⊙c_{t−1} + σ(a_i)⊙tanh(a_g)
        h_t = σ(a_o)⊙tanh(LN(c_t; gain_cell, bias_cell))      y_t = h_t

    LN over all 4H products together, LN of the cell over H; variance + 1e-5. State: (h, c), each `(B, H)`.
    Parameters: those of `LSTMCell` (torch's two biases are the paper's β₁ and β₂, whose b is their sum), the gains
    `(4H)`, and `gain_cell`, `bias_cell` `(H)`. Gains start at one, `bias_cell` at zero.

    Raises ValueError for another variant.
    """

    state_names = ("h", "c")
    gates = 4

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        variant: Literal["separate", "sum"] = "separate",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device=device, dtype=dtype)
        if variant not in ("separate", "sum"):
            raise ValueError(f"variant={variant!r}; expected 'separate' or 'sum'")
        for name in ("gain_sum",) if variant == "sum" else ("gain_ih", "gain_hh"):
            self._add(name, 4 * hidden_size)
        self._add("gain_cell", hidden_size)
        self._add("bias_cell", hidden_size if bias else None)
        self.reset_parameters()

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One step; x `(B, I)`, state (h, c) -> (h_t, (h_t, c_t))."""
        h, c = lstm_step(x, self._start(x, state), read_weights(self))
        return h, (h, c)
