"""The layers under torch.compile, per-sample gradients and second derivatives."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import elman.nn as en
from nn.by_hand import assert_same
from tolerances import assert_near

I, H, T, B = 3, 4, 5, 2
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "LSTM": lambda: en.LSTM(I, H, 2, bidirectional=True, layer_norm="separate", dtype=torch.float64),
    "GRU": lambda: en.GRU(I, H, batch_first=True, learn_initial_state=True, dtype=torch.float64),
    "Recurrent": lambda: en.Recurrent(en.MinimalGatedCell, I, H, 2, residual=True).double(),
}


def sequences() -> Tensor:
    return torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_compiled_cold_in_one_graph(name: str) -> None:
    torch._dynamo.reset()
    layer, x = LAYERS[name](), sequences()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    lengths = torch.tensor([T, 2] if name != "GRU" else [2, 1, 2, 0, 1])
    reset = torch.rand(T, B) < 0.4
    for arguments in ({}, {"lengths": lengths}, {"reset": reset, "return_states": True}):
        actual: Any = compiled(x, **arguments)
        assert_same(actual, layer(x, **arguments), {"x": x, **dict(layer.named_parameters())})


@pytest.mark.filterwarnings("ignore:.*torch.func transform")
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_each_sample(name: str) -> None:
    layer, x = LAYERS[name](), sequences().detach()
    parameters = {n: p.detach() for n, p in layer.named_parameters()}
    axis = 0 if name == "GRU" else 1

    def loss(parameters: dict[str, Tensor], row: Tensor) -> Tensor:
        return torch.func.functional_call(layer, parameters, (row,)).y.square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, axis))(parameters, x)
    for b in range(x.shape[axis]):
        layer.zero_grad()
        layer(x.select(axis, b)).y.square().sum().backward()
        for n, p in layer.named_parameters():
            assert p.grad is not None
            assert_near(each[n][b], p.grad, gradient=True, what=n)


@pytest.mark.parametrize("name", LAYERS)
def test_second_derivatives(name: str) -> None:
    layer = LAYERS[name]()
    direction = torch.randn(T, B, I, dtype=torch.float64)
    x = sequences()

    def slope(x: Tensor) -> Tensor:
        (grad,) = torch.autograd.grad(layer(x).y.square().sum(), x, create_graph=True)
        return grad

    (actual,) = torch.autograd.grad((slope(x) * direction).sum(), x)
    step = 1e-6
    expected = (slope(x + step * direction) - slope(x - step * direction)) / (2 * step)
    torch.testing.assert_close(actual, expected.detach(), rtol=1e-5, atol=1e-7)
