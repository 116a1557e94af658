"""What the tests of libraries share."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

__all__ = ["GATES", "HEAD", "KINDS", "B", "H", "I", "Net", "O", "T", "library"]

KINDS = ("RNN", "LSTM", "GRU")
GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
B, T, I, H, O = 3, 5, 4, 6, 2
HEAD = H * O


class Net(nn.Module):
    """A classifier of sequences (B, T, I) by the last step of a recurrent layer."""

    def __init__(self, kind: str, library: Any, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.recurrent = getattr(library, kind)(I, H, batch_first=True, **options)
        width = H * (2 if options.get("bidirectional") else 1)
        self.head = nn.Linear(width, O)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.recurrent(x)[0][:, -1])
        return y


def library(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name} is not installed; `make libraries` has it")
