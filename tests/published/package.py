"""The cells of the package `torchrecurrent`, which nobody here wrote, as cases of the battery."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torchrecurrent
from torch import Tensor, nn

from battery.cells_simple import H, I
from battery.registry import Case

# With the package's own step of 1 these two expand, and differences grow without bound over fifty steps.
SMALL_STEP = {"epsilon": 0.1, "gamma": 0.1}
OPTIONS: dict[str, dict[str, Any]] = {
    "AntisymmetricRNNCell": SMALL_STEP,
    "GatedAntisymmetricRNNCell": SMALL_STEP,
}
# T-GRU and T-LSTM keep the input of the step before; the width of the others' states is the cell's.
REMEMBERS_THE_INPUT = {"TGRUCell", "TLSTMCell"}
AS_WIDE_AS_THE_INPUT = {"IntersectionRNNCell"}
DELAY = 3


class Delayed(nn.Module):
    """tau-GRU as its paper has it: the state of some steps ago is read too, so the state holds a queue of states."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h, queue = state
        new = self.cell(x, h, queue[:, 0])
        return new, (new, torch.cat((queue[:, 1:], h.unsqueeze(1)), dim=1))


class Packaged(NamedTuple):
    """A cell of the package: its name, its class, the widths of its input and of each tensor of its state."""

    name: str
    cls: type[nn.Module]
    input_size: int
    state_sizes: tuple[int, ...]

    @property
    def paper(self) -> str:
        """Where its docstring says that it was published."""
        found = re.search(r"<(http\S+)>`_\]", self.cls.__doc__ or "")
        return found.group(1) if found else ""

    def layer(self, num_layers: int = 1, **options: Any) -> nn.Module:
        """The package's own layer of this cell, a Python loop; no vector of it is zero or one."""
        cls = getattr(torchrecurrent, self.name.removesuffix("Cell"))
        layer: nn.Module = cls(self.input_size, H, num_layers, **OPTIONS.get(self.name, {}) | options)
        return uneven(layer)

    def cell(self, **options: Any) -> nn.Module:
        """One cell, alike."""
        return uneven(self.cls(self.input_size, H, **OPTIONS.get(self.name, {}) | options))

    def x(self, T: int, B: int) -> Tensor:
        return torch.randn(T, B, self.input_size)

    def state(self, B: int) -> Any:
        """A tensor, or a tuple of them."""
        leaves = tuple(torch.randn(B, n) for n in self.state_sizes)
        return leaves if len(leaves) > 1 else leaves[0]

    def case(self, make: Callable[[], nn.Module] | None = None) -> Case:
        """As an entry of the registry."""
        return Case(self.name, make or self.cell, self.x, self.state)


def uneven(module: nn.Module) -> nn.Module:
    """The package starts biases at 0 and gains at 1, where a bias that is left out would not be seen."""
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.empty_like(p).uniform_(-0.2, 0.2))
    return module


def _packaged(name: str) -> Packaged:
    cls = getattr(torchrecurrent, name)
    input_size = H if name in AS_WIDE_AS_THE_INPUT else I
    double = cls(H, H).uses_double_state()
    other = (input_size if name in REMEMBERS_THE_INPUT else H,) if double else ()
    return Packaged(name, cls, input_size, (H, *other))


PACKAGED = [
    _packaged(name) for name in sorted(torchrecurrent.__all__, key=str.lower) if name.endswith("Cell")
]
