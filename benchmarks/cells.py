"""Cells as a user writes them: one step in plain torch, nothing of the engine in sight.

What a cell draws at random it is given: masks come with the input of a step or as its context, so that two ways to
unfold the cell can be held to each other at the same draw.
"""

import torch
from torch import Tensor, nn

LSTMState = tuple[Tensor, Tensor]


class _UserCell(nn.Module):
    """The state that all of them start from: zeros, `state_sizes` wide."""

    def __init__(self, hidden_size: int, states: int = 1) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.state_sizes = (hidden_size,) * states

    def initial_state(
        self, batch: int, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> Tensor | tuple[Tensor, ...]:
        """Zeros `(batch, size)` for each state."""
        zeros = tuple(torch.zeros(batch, size, device=device, dtype=dtype) for size in self.state_sizes)
        return zeros if len(zeros) > 1 else zeros[0]


class LayerNormLSTMCell(_UserCell):
    """LSTM with layer norm on both products and on the cell state (Ba, Kiros, Hinton 2016, eq. 20-22).

    a = LN(W x + b) + LN(U h);  i, f, g, o = split(a)
    c' = sigmoid(f) * c + sigmoid(i) * tanh(g);  h' = sigmoid(o) * tanh(LN(c'))
    x: (B, I); h, c: (B, H).
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size, states=2)
        self.input = nn.Linear(input_size, 4 * hidden_size)
        self.recurrent = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        self.input_norm = nn.LayerNorm(4 * hidden_size)
        self.recurrent_norm = nn.LayerNorm(4 * hidden_size)
        self.cell_norm = nn.LayerNorm(hidden_size)
        # Gains of 1 make the fresh cell chaotic: rounding errors grow a thousandfold in 100 steps, in any arithmetic,
        # and no two computations could be held to each other. Cooijmans et al. 2017 start at 0.1 as well.
        nn.init.constant_(self.recurrent_norm.weight, 0.1)

    def forward(self, x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """One step: the output is the new h."""
        h, c = state
        a = self.input_norm(self.input(x)) + self.recurrent_norm(self.recurrent(h))
        i, f, g, o = a.chunk(4, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(self.cell_norm(c))
        return h, (h, c)


class _FusedLSTMCell(_UserCell):
    """An LSTM whose four gates come from one product of x and one of h."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size, states=2)
        self.input = nn.Linear(input_size, 4 * hidden_size)
        self.recurrent = nn.Linear(hidden_size, 4 * hidden_size)

    def next_state(self, x: Tensor, h: Tensor, c: Tensor) -> LSTMState:
        """c' = sigmoid(f) * c + sigmoid(i) * tanh(g);  h' = sigmoid(o) * tanh(c')."""
        i, f, g, o = (self.input(x) + self.recurrent(h)).chunk(4, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class RecurrentDropoutLSTMCell(_FusedLSTMCell):
    """LSTM with one dropout mask a sequence on the h that goes into the products (Gal & Ghahramani 2016).

    x: (B, I); h, c: (B, H); mask, the context: (B, H), 0 or 1 / (1 - rate).
    """

    def forward(self, x: Tensor, state: LSTMState, mask: Tensor) -> tuple[Tensor, LSTMState]:
        """One step: the output is the new h."""
        h, c = self.next_state(x, state[0] * mask, state[1])
        return h, (h, c)


class ZoneoutLSTMCell(_FusedLSTMCell):
    """LSTM whose units keep their value for a step where they are told to (Krueger et al. 2017).

    inputs: x (B, I) and, drawn anew for each step, keep_h and keep_c (B, H), 1 where a unit keeps its value, else 0.
    """

    def forward(self, inputs: tuple[Tensor, Tensor, Tensor], state: LSTMState) -> tuple[Tensor, LSTMState]:
        """One step: the output is the new h."""
        x, keep_h, keep_c = inputs
        h, c = state
        new_h, new_c = self.next_state(x, h, c)
        h = new_h + keep_h * (h - new_h)
        c = new_c + keep_c * (c - new_c)
        return h, (h, c)


class PeepholeLSTMCell(_FusedLSTMCell):
    """LSTM whose gates see the cell through diagonals (Gers, Schraudolph & Schmidhuber 2002).

    i = sigmoid(a_i + p_i * c), f the same;  c' = f * c + i * tanh(a_g)
    o = sigmoid(a_o + p_o * c');  h' = o * tanh(c')
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        bound = hidden_size**-0.5
        self.peep_i = nn.Parameter(torch.empty(hidden_size).uniform_(-bound, bound))
        self.peep_f = nn.Parameter(torch.empty(hidden_size).uniform_(-bound, bound))
        self.peep_o = nn.Parameter(torch.empty(hidden_size).uniform_(-bound, bound))

    def forward(self, x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """One step: the output is the new h."""
        h, c = state
        i, f, g, o = (self.input(x) + self.recurrent(h)).chunk(4, dim=-1)
        i = torch.sigmoid(i + self.peep_i * c)
        f = torch.sigmoid(f + self.peep_f * c)
        c = f * c + i * torch.tanh(g)
        h = torch.sigmoid(o + self.peep_o * c) * torch.tanh(c)
        return h, (h, c)


class SeparateGatesLSTMCell(_UserCell):
    """The LSTM as it stands in a textbook: two products for each gate. `gates` names them in torch's order."""

    gates = ("i", "f", "g", "o")

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size, states=2)
        self.xi, self.hi = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)
        self.xf, self.hf = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)
        self.xg, self.hg = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)
        self.xo, self.ho = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """One step: the output is the new h."""
        h, c = state
        i = torch.sigmoid(self.xi(x) + self.hi(h))
        f = torch.sigmoid(self.xf(x) + self.hf(h))
        g = torch.tanh(self.xg(x) + self.hg(h))
        o = torch.sigmoid(self.xo(x) + self.ho(h))
        c = f * c + i * g
        h = o * torch.tanh(c)
        return h, (h, c)


class LiGRUCell(_UserCell):
    """Light gated recurrent unit (Ravanelli, Brakel, Omologo & Bengio 2018), layer norm in the place of batch norm.

    z, a = split(LN(W x) + U h);  z = sigmoid(z);  h' = z * h + (1 - z) * relu(a)
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size)
        self.input = nn.Linear(input_size, 2 * hidden_size, bias=False)
        self.norm = nn.LayerNorm(2 * hidden_size)
        self.recurrent = nn.Linear(hidden_size, 2 * hidden_size, bias=False)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """One step: the output is the new h."""
        z, a = (self.norm(self.input(x)) + self.recurrent(h)).chunk(2, dim=-1)
        z = torch.sigmoid(z)
        h = z * h + (1 - z) * torch.relu(a)
        return h, h
