"""A cell without memory, h_t = relu(W x_t + b): with the mean over time behind it, a network that knows no order."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["FrameCell"]


class FrameCell(nn.Module):
    """Each frame by itself."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.dense = nn.Linear(input_size, hidden_size)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """The next state, which the last one has no part in."""
        h: Tensor = self.dense(x).relu()
        return h
