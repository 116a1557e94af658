"""The two sides of a case in torch: a layer that trains, or one that only computes y."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

import torch
from torch import Tensor

from benchmarks.grid.network import Layer, Mode, seeded
from benchmarks.pairing import Answers, Side


def side(layer: Layer, x: Tensor, mode: Mode) -> Side:
    """`training`: forward and backward with the gradients of x and of all parameters; `forward`: without a graph."""
    return Side(layer.name, (train if mode == "training" else infer)(layer, x), layer.read)


def train(layer: Layer, x: Tensor) -> Callable[[], Answers]:
    """A call that answers with y and the gradients of x and of the parameters."""
    x = x.clone().requires_grad_()
    names = ["grad x", *(f"grad {name}" for name in layer.parameters)]
    wanted = [x, *layer.parameters.values()]

    def run() -> Answers:
        y = layer.forward(x)
        gradients = torch.autograd.grad(y, wanted, y_gradient(y.shape))
        return {"y": y, **dict(zip(names, gradients, strict=True))}

    return run


def infer(layer: Layer, x: Tensor) -> Callable[[], Mapping[str, Tensor]]:
    """A call that answers with y."""

    def run() -> Answers:
        with torch.inference_mode():
            return {"y": layer.forward(x)}

    return run


@lru_cache(maxsize=1)
def y_gradient(shape: torch.Size) -> Tensor:
    """What the backward starts from: the same for every side."""
    return torch.randn(shape, generator=seeded(3))
