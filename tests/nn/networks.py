"""Networks to test with: the cells that they are made of, one of them a user's own, and rows of many lengths."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

import elman.nn as en

DOUBLE = torch.float64
V, I, H, K = 11, 5, 4, 3


class OwnCell(nn.Module):
    """A cell that is nowhere in the library: two states, and an output of another width than they have."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.output_size = hidden_size + 1
        self.mix = nn.Linear(input_size + hidden_size, 2 * hidden_size)
        self.out = nn.Linear(hidden_size, hidden_size + 1)

    def initial_state(self, batch: int, device: Any = None, dtype: Any = None) -> tuple[Tensor, Tensor]:
        zeros = torch.zeros(batch, self.hidden_size, device=device, dtype=dtype)
        return zeros, zeros + 0.5

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        fast, slow = state
        gate, new = self.mix(torch.cat((x, fast), -1)).chunk(2, -1)
        slow = 0.9 * slow + 0.1 * torch.sigmoid(gate) * torch.tanh(new)
        fast = torch.tanh(new + slow)
        return self.out(fast), (fast, slow)


CELLS: dict[str, Any] = {**{word: word for word in en.CELLS}, "own": OwnCell}


def stack(cell: str, input_size: int = I, hidden: int = H, layers: int = 1, **options: Any) -> Any:
    return en.recurrent_stack(CELLS[cell], input_size, hidden, layers, options=options)


def spread(model: nn.Module) -> Any:
    """In float64, with parameters that are large enough for every part to matter."""
    model.to(DOUBLE)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return model


def tokens(lengths: Sequence[int], T: int, wrong: int = -7) -> Tensor:
    """`(T, B)`, with a number in the padding that no table has."""
    x = torch.randint(V, (T, len(lengths)))
    for b, n in enumerate(lengths):
        x[n:, b] = wrong
    return x


def features(lengths: Sequence[int], T: int, size: int = I) -> Tensor:
    """`(T, B, size)`, NaN in the padding."""
    x = torch.randn(T, len(lengths), size, dtype=DOUBLE)
    for b, n in enumerate(lengths):
        x[n:, b] = torch.nan
    return x
