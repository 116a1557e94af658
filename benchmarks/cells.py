"""Cells as a user writes them: one step in plain torch, nothing of the engine in sight."""

import torch
from torch import Tensor, nn


class LayerNormLSTMCell(nn.Module):
    """LSTM with layer norm on both products and on the cell state (Ba, Kiros, Hinton 2016, eq. 20-22).

    a = LN(W x + b) + LN(U h);  i, f, g, o = split(a)
    c' = sigmoid(f) * c + sigmoid(i) * tanh(g);  h' = sigmoid(o) * tanh(LN(c'))
    x: (B, I); h, c: (B, H).
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.input = nn.Linear(input_size, 4 * hidden_size)
        self.recurrent = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        self.input_norm = nn.LayerNorm(4 * hidden_size)
        self.recurrent_norm = nn.LayerNorm(4 * hidden_size)
        self.cell_norm = nn.LayerNorm(hidden_size)
        # Gains of 1 make the fresh cell chaotic: rounding errors grow a thousandfold in 100 steps, in any arithmetic,
        # and no two computations could be held to each other. Cooijmans et al. 2017 start at 0.1 as well.
        nn.init.constant_(self.recurrent_norm.weight, 0.1)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One step: the output is the new h."""
        h, c = state
        a = self.input_norm(self.input(x)) + self.recurrent_norm(self.recurrent(h))
        i, f, g, o = a.chunk(4, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(self.cell_norm(c))
        return h, (h, c)

    def initial_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Zeros for h and c."""
        zeros = torch.zeros(batch, self.hidden_size, device=device, dtype=dtype)
        return zeros, zeros.clone()
