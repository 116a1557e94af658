"""Layers beside torch.nn and beside a Python loop, in float32.

The times hold the whole layer: input projection, recurrence and, where it says training, the gradients of x and of
every parameter. Sizes are (T, B, I, H).
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

import elman.nn
from benchmarks.cells import LayerNormLSTMCell
from benchmarks.pairing import Answers, Case, Side

Forward = Callable[[Tensor], Tensor]

THREADS = 2
LSTM_SIZES = [
    (100, 1, 64, 64),
    (100, 16, 128, 128),
    (100, 32, 256, 256),
    (100, 64, 512, 512),
    (35, 20, 200, 200),
]
GRU_SIZE = (100, 1, 64, 64)
CELL_SIZE = (100, 16, 128, 128)


def cases() -> Iterator[Case]:
    """Every case, the ones with a promised speed first."""
    yield custom_cell(CELL_SIZE, bar=8)
    yield against_torch("GRU", GRU_SIZE, training=True, bar=8)
    for size in LSTM_SIZES:
        yield against_torch("LSTM", size, training=True, bar=0.9)
        yield against_torch("LSTM", size, training=False, bar=0.9)
    yield against_torch("GRU", GRU_SIZE, training=False)


def against_torch(
    layer: str, size: tuple[int, int, int, int], *, training: bool, bar: float | None = None
) -> Case:
    """`elman.nn.<layer>` beside `torch.nn.<layer>` with the same weights."""
    T, B, I, H = size
    torch.manual_seed(0)
    theirs = getattr(nn, layer)(I, H)
    ours = getattr(elman.nn, layer)(I, H)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(T, B, I)
    run = train if training else infer
    return Case(
        f"{layer} {size} {'training' if training else 'inference'}",
        Side(f"elman.nn.{layer}", run(ours, lambda x: _first(ours(x)), x)),
        Side(f"torch.nn.{layer}", run(theirs, lambda x: _first(theirs(x)), x)),
        bar,
    )


def custom_cell(size: tuple[int, int, int, int], *, bar: float | None = None) -> Case:
    """A user's layer-norm LSTM under `elman.nn.Recurrent` beside a Python loop over the same cell."""
    T, B, I, H = size
    torch.manual_seed(0)
    cell = LayerNormLSTMCell(I, H)
    layer = elman.nn.Recurrent(cell, fallback="error")
    x = torch.randn(T, B, I)
    return Case(
        f"layer-norm LSTM cell {size} training",
        Side("elman.nn.Recurrent", train(cell, lambda x: _first(layer(x)), x)),
        Side("Python loop", train(cell, lambda x: python_loop(cell, x), x)),
        bar,
    )


def python_loop(cell: LayerNormLSTMCell, x: Tensor) -> Tensor:
    """What one writes without the engine: `(T, B, I)` to `(T, B, H)`, one call of the cell a step."""
    state = cell.initial_state(x.shape[1], x.device, x.dtype)
    outputs = []
    for x_t in x:
        y_t, state = cell(x_t, state)
        outputs.append(y_t)
    return torch.stack(outputs)


def train(parameters_of: nn.Module, forward: Forward, x: Tensor) -> Callable[[], Answers]:
    """A call that does forward and backward and answers with y and the gradients of x and of all parameters."""
    named = dict(parameters_of.named_parameters())
    x = x.clone().requires_grad_()
    with torch.no_grad():
        # The same for both sides.
        grad_y = torch.randn(forward(x).shape, generator=torch.Generator().manual_seed(1))

    def run() -> Answers:
        y = forward(x)
        gradients = torch.autograd.grad(y, [x, *named.values()], grad_y)
        return {"y": y, **dict(zip(["grad x", *(f"grad {name}" for name in named)], gradients, strict=True))}

    return run


def infer(parameters_of: nn.Module, forward: Forward, x: Tensor) -> Callable[[], Answers]:
    """A call that does the forward alone, without a graph."""
    parameters_of.eval()

    def run() -> Answers:
        with torch.no_grad():
            return {"y": forward(x)}

    return run


def _first(result: tuple[Tensor, object]) -> Tensor:
    return result[0]
