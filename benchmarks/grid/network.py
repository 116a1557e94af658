"""What one cell of the grid is at one size: its inputs, the layer of Elman, and what its peers are made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.pairing import Answers

Forward = Callable[[Tensor], Tensor]
# One step: (rows of the input, state[, context]) -> (y_t, next state). A module, or a compiled one.
Step = Callable[..., Any]
Unfold = Callable[[Sequence[Step], Tensor], Tensor]
Mode = Literal["training", "forward"]
MODES: tuple[Mode, ...] = ("training", "forward")


class Size(NamedTuple):
    """T steps, B rows, I input features, H hidden features."""

    T: int
    B: int
    I: int
    H: int

    def __str__(self) -> str:
        return "x".join(map(str, self))


SIZES = tuple(
    Size(*size)
    for size in [
        (100, 1, 64, 64),
        (100, 1, 256, 256),
        (100, 1, 512, 512),
        (100, 8, 64, 64),
        (100, 16, 128, 128),
        (35, 20, 200, 200),
        (100, 32, 256, 256),
        (100, 64, 512, 512),
        (50, 32, 1024, 1024),
        (784, 32, 1, 128),
        (1000, 4, 64, 32),
    ]
)


class Layer(NamedTuple):
    """A whole layer in torch: `forward` takes x `(T, B, I)` to y; `read` turns its answers into those of the network.

    parameters: by the name under which their gradients are answers.
    """

    name: str
    forward: Forward
    parameters: Mapping[str, Tensor]
    read: Callable[[Answers], Answers] | None = None


class Stock(NamedTuple):
    """A layer that torch.nn has too, described for libraries that are not torch. `state` has torch's names."""

    kind: Literal["LSTM", "GRU", "RNN"]
    state: Mapping[str, Tensor]
    num_layers: int
    num_directions: int
    hidden_size: int
    lengths: Tensor | None

    def suffixes(self) -> list[list[str]]:
        """The ends of the parameters' names, layer by layer, each with its directions."""
        ends = ["", "_reverse"][: self.num_directions]
        return [[f"_l{layer}{end}" for end in ends] for layer in range(self.num_layers)]


class Written(NamedTuple):
    """A cell as a user wrote it, described for libraries that are not torch.

    extra: sequences `(T, B, ...)` that it takes beside x. context: what every step gets.
    """

    cell: nn.Module
    extra: tuple[Tensor, ...]
    context: tuple[Tensor, ...]

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """The widths of its states, which begin at zero."""
        sizes: tuple[int, ...] = self.cell.state_sizes  # type: ignore[assignment]
        return sizes


@dataclass(frozen=True)
class Network:
    """A cell at one size.

    ours: the layer of Elman. steps, unfold: `unfold(steps, x)` is the same as a Python loop, which reads the very
    parameters of `ours`; the steps may be replaced by compiled ones. rivals: other layers in torch, by the peer's
    name. stock: where libraries outside of torch have it too. written: where it can be written for them.
    """

    x: Tensor
    ours: Layer
    steps: tuple[nn.Module, ...]
    unfold: Unfold
    rivals: Mapping[str, Layer] = field(default_factory=dict)
    stock: Stock | None = None
    written: Written | None = None


def python_loop(
    step: Step, inputs: tuple[Tensor, ...], state: Any, context: tuple[Tensor, ...] = ()
) -> Tensor:
    """What one writes without the engine: one call of the step for each of the T rows of the inputs; y `(T, B, H)`."""
    outputs = []
    for rows in zip(*(x.unbind(0) for x in inputs), strict=True):
        y, state = step(rows if len(rows) > 1 else rows[0], state, *context)
        outputs.append(y)
    return torch.stack(outputs)


def seeded(seed: int) -> torch.Generator:
    """A source of random numbers of its own."""
    return torch.Generator().manual_seed(seed)
