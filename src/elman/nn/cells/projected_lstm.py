"""The LSTM whose output is a projection."""

from __future__ import annotations

import torch
from torch import Tensor

from elman.nn.cells.base import Cell, read_weights
from elman.nn.cells.lstm import lstm_step

__all__ = ["ProjectedLSTMCell"]


class ProjectedLSTMCell(Cell):
    r"""LSTM with a recurrent projection (Sak, Senior & Beaufays 2014, arXiv:1402.1128, without its peepholes).

        i_t = σ(W_ii x_t + b_ii + W_hi h_{t−1} + b_hi)        f_t, o_t the same with rows f, o
        g_t = tanh(W_ig x_t + b_ig + W_hg h_{t−1} + b_hg)
        c_t = f_t⊙c_{t−1} + i_t⊙g_t
        h_t = W_hr (o_t⊙tanh(c_t))                            y_t = h_t

    State: (h `(B, P)`, c `(B, H)`). Parameters as one layer of torch.nn.LSTM with `proj_size=P`: `weight_ih` `(4H, I)`,
    `weight_hh` `(4H, P)`, `bias_ih`, `bias_hh` `(4H)`, `weight_hr` `(P, H)`.

    Raises ValueError unless 0 < proj_size < hidden_size.
    """

    state_names = ("h", "c")
    gates = 4

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        proj_size: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if not 0 < proj_size < hidden_size:
            raise ValueError(f"proj_size={proj_size}; expected 0 < proj_size < hidden_size = {hidden_size}")
        super().__init__(input_size, hidden_size, bias, recurrent_size=proj_size, device=device, dtype=dtype)
        self.output_size = proj_size
        self._add("weight_hr", proj_size, hidden_size)
        self.reset_parameters()

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """P and H."""
        return self.output_size, self.hidden_size

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One step; x `(B, I)`, state (h, c) -> (h_t, (h_t, c_t))."""
        h, c = lstm_step(x, self._start(x, state), read_weights(self))
        return h, (h, c)

    def extra_repr(self) -> str:
        """The sizes, and what differs from the default."""
        return f"{super().extra_repr()}, proj_size={self.output_size}"
