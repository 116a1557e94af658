"""torch.func.vmap over a layer: over stacked weights, over rows, over both, with gradients and random numbers; what
each model and row gives alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, stack_module_state, vmap
from torch.utils._pytree import tree_map

import elman
from tolerances import assert_near

T, B, I, H, M = 4, 3, 3, 4, 3
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.func transform:elman.engine.EngineWarning")
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "LSTM": lambda: elman.LSTM(I, H, 2, bidirectional=True, dtype=torch.float64),
    "GRU": lambda: elman.GRU(I, H, layer_norm="separate", learn_initial_state=True, dtype=torch.float64),
    "Recurrent": lambda: elman.Recurrent(elman.nn.MinimalGatedCell, I, H, 2, residual=True).double(),
}
Weights = dict[str, Tensor]


@pytest.fixture(params=LAYERS)
def models(request: pytest.FixtureRequest) -> list[nn.Module]:
    return [LAYERS[request.param]() for _ in range(M)]


def stacked(models: list[nn.Module]) -> tuple[nn.Module, Weights, Weights]:
    """As the tutorial on ensembles has it: a skeleton without values, parameters and buffers of all models."""
    parameters, buffers = stack_module_state(models)  # type: ignore[arg-type]
    return copy.deepcopy(models[0]).to("meta"), parameters, buffers


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def loss_of(net: nn.Module, weights: Any, x: Tensor) -> Tensor:
    y, state, *_ = functional_call(net, weights, (x,))
    return y.square().sum() + sum(s.cos().sum() for s in (state if isinstance(state, tuple) else (state,)))


def alone(model: nn.Module, x: Tensor) -> tuple[Tensor, Weights]:
    """Loss and gradients of one model."""
    model.zero_grad()
    loss = loss_of(model, dict(model.named_parameters()), x)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("own_x", [False, True])
def test_an_ensemble(models: list[nn.Module], own_x: bool) -> None:
    """Values, states and the gradients of the stacked weights; x of all, or one for each model."""
    base, parameters, buffers = stacked(models)
    x = draw(M, T, B, I) if own_x else draw(T, B, I)
    y, state = vmap(lambda p, b, x: functional_call(base, (p, b), (x,))[:2], (0, 0, 0 if own_x else None))(
        parameters, buffers, x
    )
    y.square().sum().backward()
    for i, model in enumerate(models):
        expected = model(x[i] if own_x else x)
        assert_near(y[i], expected[0])
        tree_map(lambda a, b, i=i: assert_near(a[i], b), state, expected[1])
        model.zero_grad()
        expected[0].square().sum().backward()
        for name, p in model.named_parameters():
            assert_near(parameters[name].grad[i], p.grad, gradient=True, what=name)


def test_gradients_of_an_ensemble(models: list[nn.Module]) -> None:
    """vmap over grad, the models with an x each."""
    base, parameters, buffers = stacked(models)
    x = draw(M, T, B, I)
    found = vmap(grad(lambda p, b, x: loss_of(base, (p, b), x)))(parameters, buffers, x)
    for i, model in enumerate(models):
        _, expected = alone(model, x[i])
        for name, g in expected.items():
            assert_near(found[name][i], g, gradient=True, what=name)


def test_models_by_rows(models: list[nn.Module]) -> None:
    """Nested: over models, and over rows within, with the gradient of every row in every model; weights by None."""
    base, parameters, buffers = stacked(models)
    x = draw(T, B, I)
    one = grad(lambda p, b, row: loss_of(base, (p, b), row[:, None]))
    found = vmap(vmap(one, (None, None, 1)), (0, 0, None))(parameters, buffers, x)
    other_way = vmap(vmap(one, (0, 0, None)), (None, None, 1))(parameters, buffers, x)
    for i, model in enumerate(models):
        for b in range(B):
            _, expected = alone(model, x[:, b : b + 1])
            for name, g in expected.items():
                assert_near(found[name][i, b], g, gradient=True, what=name)
                assert_near(other_way[name][b, i], g, gradient=True, what=name)


def test_a_jacobian() -> None:
    """Of y in x: vmap over rows of the backward."""
    layer, x = LAYERS["GRU"](), draw(2, 1, I)
    found = jacrev(lambda x: layer(x)[0])(x)
    expected = torch.autograd.functional.jacobian(lambda x: layer(x)[0], x)
    assert_near(found, expected)


def test_some_weights_are_shared(models: list[nn.Module]) -> None:
    """in_dims None for all but one: an ensemble over one matrix."""
    base, parameters, buffers = stacked(models)
    x, (name, *_) = draw(T, B, I), list(parameters)
    first = {n: p[0].detach() for n, p in parameters.items()}
    in_dims = ({n: 0 if n == name else None for n in parameters}, None, None)
    given = first | {name: parameters[name]}
    y = vmap(lambda p, b, x: functional_call(base, (p, b), (x,))[0], in_dims)(
        given, {n: b[0] for n, b in buffers.items()}, x
    )
    for i in range(M):
        expected = functional_call(models[0], first | {name: parameters[name][i]}, (x,))[0]
        assert_near(y[i], expected)


@pytest.mark.parametrize("options", [{"zoneout": 0.5}, {"recurrent_dropout": 0.5}, {"weight_dropout": 0.5}])
def test_random_numbers(options: dict[str, float]) -> None:
    """As torch's own rule has it: an error unless it is said whether each model draws the same or its own."""
    layer = elman.GRU(I, H, **options, dtype=torch.float64)
    weights = {n: torch.stack([p.detach()] * M) for n, p in layer.named_parameters()}
    x = draw(T, B, I)

    def call(randomness: str) -> Tensor:
        over = vmap(lambda p: functional_call(layer, p, (x,))[0], randomness=randomness)
        y: Tensor = over(weights)
        return y

    with pytest.raises(RuntimeError, match="randomness"):
        call("error")
    same, different = call("same"), call("different")
    assert_near(same[0], same[1])
    assert not torch.equal(different[0], different[1])
    layer.eval()
    assert_near(call("error")[0], layer(x)[0])


@pytest.mark.filterwarnings("error::elman.engine.EngineWarning")
def test_what_a_transform_leaves_in_an_attribute() -> None:
    """A record of the last step under vmap is a tensor of that transform; calls after it take the fast path again."""

    class Keeping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.hidden_size = elman.nn.GRUCell(I, H), H

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.cell(x, h)[1]
            self.last = h.detach()
            return h, h

    layer = elman.Recurrent(Keeping()).double()
    twin, x = copy.deepcopy(layer), draw(T, B, I)
    with pytest.warns(elman.engine.EngineWarning, match="transform"):
        y = vmap(lambda x: layer(x)[0], 2, 2)(draw(T, B, 2, I))
    assert y.shape == (T, B, 2, H)
    assert_near(layer(x)[0], twin(x)[0])
    assert layer.path == twin.path != "loop"
    assert_near(layer.cells[0].last, twin.cells[0].last)
