"""The gated recurrent unit with layer normalization inside."""

from __future__ import annotations

import torch
from torch import Tensor

from elman.nn.cells.base import Cell, read_weights
from elman.nn.cells.gru import gru_step

__all__ = ["LayerNormGRUCell"]


class LayerNormGRUCell(Cell):
    r"""GRU with layer normalization (Ba, Kiros & Hinton 2016, arXiv:1607.06450, the GRU of its supplement).

        (r_t, z_t) = σ(LN(W_ih x_t of r, z) + LN(W_hh h_{t−1} of r, z))
        n_t = tanh(LN(W_ih x_t of n) + r_t⊙LN(W_hh h_{t−1} of n))
        h_t = (1 − z_t)⊙n_t + z_t⊙h_{t−1}                     y_t = h_t

    LN with the rows of `gain_ih`, `gain_hh` `(3H)` as gains (one at the start) and those of `bias_ih`, `bias_hh` as
    biases; over the 2H products of the gates together, over the H of the candidate. State: h `(B, H)`.
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
        for name in ("gain_ih", "gain_hh"):
            self._add(name, 3 * hidden_size)
        self.reset_parameters()

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One step; x `(B, I)`, state `(B, H)` -> (h_t, h_t)."""
        h = gru_step(x, self._start(x, state), read_weights(self))
        return h, h
