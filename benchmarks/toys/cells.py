"""A cell of one's own: a recurrent network that pushes to and pops from a stack."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class StackState(NamedTuple):
    """h `(B, H)`: the hidden units. stack `(B, N, W)`: N vectors of W numbers, the top first."""

    h: Tensor
    stack: Tensor


class StackCell(nn.Module):
    r"""A recurrent network with a continuous stack (Joulin & Mikolov 2015, arXiv 1503.01007, eq. 3 to 7).

        h_t = tanh(U x_t + R h_{t−1} + P s_{t−1}[0] + b)
        a = softmax(A h_t + c)                                      push, pop, leave
        s_t[0] = a_push σ(D h_t + d) + a_pop s_{t−1}[1] + a_leave s_{t−1}[0]
        s_t[i] = a_push s_{t−1}[i − 1] + a_pop s_{t−1}[i + 1] + a_leave s_{t−1}[i]        y_t = [h_t, s_t[0]]

    Below the last of the N places lie zeros. The paper leaves out the third action in some of its models. recurrent:
    False leaves out R h_{t−1}, so that the stack is the only memory.
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, width: int = 4, depth: int = 56, recurrent: bool = True
    ) -> None:
        super().__init__()
        self.hidden_size, self.width, self.depth = hidden_size, width, depth
        self.output_size, self.recurrent = hidden_size + width, recurrent
        self.hidden = nn.Linear(input_size + hidden_size * recurrent + width, hidden_size)
        self.action = nn.Linear(hidden_size, 3)
        self.data = nn.Linear(hidden_size, width)

    def initial_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> StackState:
        """Zeros."""
        h = torch.zeros(batch, self.hidden_size, device=device, dtype=dtype)
        return StackState(h, h.new_zeros(batch, self.depth, self.width))

    def forward(self, x: Tensor, state: StackState) -> tuple[Tensor, StackState]:
        """One step; x `(B, I)` -> (y_t `(B, H + W)`, the state)."""
        h, stack = state
        read = (x, h, stack[:, 0]) if self.recurrent else (x, stack[:, 0])
        h = torch.tanh(self.hidden(torch.cat(read, -1)))
        push, pop, leave = self.action(h).softmax(-1).unsqueeze(-1).unsqueeze(-1).unbind(1)
        new = torch.sigmoid(self.data(h)).unsqueeze(1)
        pushed = torch.cat((new, stack[:, :-1]), 1)
        popped = torch.cat((stack[:, 1:], torch.zeros_like(new)), 1)
        stack = push * pushed + pop * popped + leave * stack
        return torch.cat((h, stack[:, 0]), -1), StackState(h, stack)
