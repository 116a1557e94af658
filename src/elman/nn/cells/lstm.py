"""Long short-term memory, and the step function that its variants share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from elman.nn.cells.base import Cell, Weights, gate_sums, normalize, read_weights

__all__ = ["LSTMCell", "lstm_step", "set_forget_bias"]


def lstm_step(
    x: Tensor,
    state: tuple[Tensor, Tensor],
    w: Weights,
    *,
    coupled: bool = False,
    drop_h: Tensor | None = None,
    drop_g: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of an LSTM, `(h, c)` -> `(h', c')`, of gates in torch's order i, f, g, o (coupled: i, g, o).

    i = σ(a_i + p_i⊙c)    f = σ(a_f + p_f⊙c), coupled: 1 − i    g = tanh(a_g)    with a = `gate_sums(x, h⊙drop_h)`
    c' = f⊙c + i⊙g⊙drop_g    o = σ(a_o + p_o⊙c')    h' = W_hr (o⊙tanh(LN(c')))
    """
    h, c = state
    a = gate_sums(x, h if drop_h is None else h * drop_h, w)
    a_i, a_f, a_g, a_o = _split(a, coupled)
    i = _peep(a_i, w.weight_ci, c).sigmoid()
    f = 1 - i if a_f is None else _peep(a_f, w.weight_cf, c).sigmoid()
    g = a_g.tanh()
    c = f * c + i * (g if drop_g is None else g * drop_g)
    o = _peep(a_o, w.weight_co, c).sigmoid()
    h = o * (c if w.gain_cell is None else normalize(c, w.gain_cell, w.bias_cell)).tanh()
    return (h if w.weight_hr is None else F.linear(h, w.weight_hr)), c


def _split(a: Tensor, coupled: bool) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    if coupled:
        a_i, a_g, a_o = a.chunk(3, -1)
        return a_i, None, a_g, a_o
    a_i, a_f, a_g, a_o = a.chunk(4, -1)
    return a_i, a_f, a_g, a_o


def _peep(a: Tensor, weight: Tensor | None, c: Tensor) -> Tensor:
    return a if weight is None else a + weight * c


def set_forget_bias(bias_ih: Tensor, bias_hh: Tensor, value: float) -> None:
    """Let the two biases of the forget gate sum to `value`, in place: `bias_ih` carries it, `bias_hh` is zero."""
    H = bias_ih.shape[0] // 4
    with torch.no_grad():
        bias_ih[H : 2 * H] = value
        bias_hh[H : 2 * H] = 0.0


class LSTMCell(Cell):
    r"""Long short-term memory (Hochreiter & Schmidhuber 1997) with a forget gate (Gers, Schmidhuber & Cummins 2000).

        i_t = σ(W_ii x_t + b_ii + W_hi h_{t−1} + b_hi)        f_t, o_t the same with rows f, o
        g_t = tanh(W_ig x_t + b_ig + W_hg h_{t−1} + b_hg)
        c_t = f_t⊙c_{t−1} + i_t⊙g_t
        h_t = o_t⊙tanh(c_t)                                   y_t = h_t

    State: the tuple (h, c), each `(B, H)`. Parameters and next state are those of torch.nn.LSTMCell: `weight_ih`
    `(4H, I)`, `weight_hh` `(4H, H)`, `bias_ih`, `bias_hh` `(4H)`, rows i, f, g, o. `forget_bias`: what the two biases
    of the forget gate sum to at the start (1 after Jozefowicz, Zaremba & Sutskever 2015); None: drawn as in torch.

    Raises ValueError for a `forget_bias` where there is no bias.
    """

    state_names = ("h", "c")
    gates = 4

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        forget_bias: float | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device=device, dtype=dtype)
        if forget_bias is not None and not bias:
            raise ValueError(f"forget_bias={forget_bias} needs bias=True")
        self.forget_bias = forget_bias
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew, then set the forget gate's bias where one was asked for."""
        super().reset_parameters()
        if self.forget_bias is not None and self.bias_ih is not None and self.bias_hh is not None:
            set_forget_bias(self.bias_ih, self.bias_hh, self.forget_bias)

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One step; x `(B, I)`, state (h, c) -> (h_t, (h_t, c_t))."""
        h, c = lstm_step(x, self._start(x, state), read_weights(self))
        return h, (h, c)
