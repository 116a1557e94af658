"""Rule 10, derivative modes: second order, forward mode and per-sample gradients are right or refused by name."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from battery.cells_gated import GatesLSTM, LayerNormLSTM
from battery.cells_simple import Elman, ElmanOutput, H, I
from battery.checks import assert_forward_mode, assert_second_derivative
from battery.oracle import unfold
from battery.registry import BY_NAME
from battery.running import Run, named_leaves
from elman.engine import EngineError, Scan

NAMES = ["elman_cat", "lstm_gates", "gru_original", "attention_additive", "torch_gru_cell", "fast_weights"]


@pytest.mark.parametrize("name", NAMES)
def test_second_derivative(name: str) -> None:
    assert_second_derivative(BY_NAME[name], None)


@pytest.mark.parametrize("name", NAMES)
def test_forward_mode(name: str) -> None:
    assert_forward_mode(BY_NAME[name], None)


def _per_sample(cell: nn.Module, unfolding: Any, x: Tensor, state: Any) -> dict[str, Tensor]:
    params = {k: p.detach() for k, p in cell.named_parameters()}

    def loss(p: dict[str, Tensor], x_row: Tensor, *rows: Tensor) -> Tensor:
        def call() -> Tensor:
            given = tuple(r.unsqueeze(0) for r in rows)
            result = unfolding(x_row.unsqueeze(1), given if len(given) > 1 else given[0])
            return _sum_of_sines(result)

        return _with_parameters(cell, p, call)

    leaves = state if isinstance(state, tuple) else (state,)
    return torch.func.vmap(torch.func.grad(loss), in_dims=(None, 1, *[0] * len(leaves)))(params, x, *leaves)


def _sum_of_sines(result: Any) -> Tensor:
    values = named_leaves(result, ("y", "state")).values()
    return torch.stack([torch.sin(v * (k + 1)).sum() for k, v in enumerate(values)]).sum()


def _with_parameters(cell: nn.Module, params: dict[str, Tensor], call: Any) -> Tensor:
    with torch.nn.utils.stateless._reparametrize_module(cell, params):
        return call()


@pytest.mark.filterwarnings("ignore:.*torch.func transform")
@pytest.mark.parametrize("make", [Elman, ElmanOutput, GatesLSTM, LayerNormLSTM])
def test_per_sample_gradients(make: type[nn.Module]) -> None:
    """torch.func.vmap(grad) over rows: one gradient of every parameter for each sample."""
    cell = make().double()
    scan = Scan(cell)
    x = torch.randn(5, 3, I, dtype=torch.float64)
    h = torch.randn(3, H, dtype=torch.float64)
    state = (h, h * 0.5) if "LSTM" in make.__name__ else h
    try:
        found = _per_sample(cell, scan, x, state)
    except (EngineError, NotImplementedError) as error:
        assert re.search("vmap|functorch|torch.func", str(error)), error
        pytest.fail(f"refused: {error}")
    expected = _per_sample(cell, lambda a, s: unfold(cell, a, s), x, state)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, msg=lambda text, name=name: f"{name}: {text}")


def test_functional_call() -> None:
    """torch.func.functional_call with other parameters: they are read, and have the gradients."""

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = GatesLSTM().double()
            self.scan = Scan(self.cell)

        def forward(self, x: Tensor, state: Any) -> Tensor:
            return self.scan(x, state).y

    layer = Layer()
    x = torch.randn(4, 3, I, dtype=torch.float64)
    state = (torch.zeros(3, H, dtype=torch.float64),) * 2
    layer(x, state)
    others = {k: (p.detach() * 0.5).requires_grad_() for k, p in layer.named_parameters()}
    y = torch.func.functional_call(layer, others, (x, state))
    twin = GatesLSTM().double()
    twin.load_state_dict({k.removeprefix("cell."): p.detach() for k, p in others.items()})
    expected = unfold(twin, x, state).y
    torch.testing.assert_close(y, expected)
    found = torch.autograd.grad(y.cos().sum(), list(others.values()))
    for g, e in zip(found, torch.autograd.grad(expected.cos().sum(), list(twin.parameters())), strict=True):
        torch.testing.assert_close(g, e)


def test_functional_gradient() -> None:
    """torch.func.grad over the state."""
    case = BY_NAME["gru"]
    cell, inputs = case.cell(), case.inputs(4, 3)
    x, h = inputs.x.detach(), inputs.state.detach()
    run = Run(Scan(cell))
    found = torch.func.grad(lambda s: run(x, s).y.cos().sum())(h)
    expected = torch.func.grad(lambda s: unfold(cell, x, s).y.cos().sum())(h)
    torch.testing.assert_close(found, expected)


def test_gradient_penalty() -> None:
    """A penalty on the gradient in x, as a critic of a WGAN has: right, or refused by name."""
    case = BY_NAME["gru_original"]
    cell, twin = case.cell(), case.cell()
    grads = []
    for unfolding, module in ((Run(Scan(cell)), cell), (lambda x, h: unfold(twin, x, h), twin)):
        inputs = case.inputs(4, 3)
        try:
            (gx,) = torch.autograd.grad(
                unfolding(inputs.x, inputs.state).y.sum(), inputs.x, create_graph=True
            )
            ((gx.norm(dim=-1) - 1) ** 2).mean().backward()
        except (EngineError, NotImplementedError, RuntimeError) as error:
            assert re.search("double|second|twice|create_graph", str(error), re.IGNORECASE), error
            return
        grads.append([p.grad for p in module.parameters()])
    for g, e in zip(*grads, strict=True):
        torch.testing.assert_close(g, e)


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_anomaly_mode() -> None:
    """Anomaly detection runs, and finds a NaN that a step's backward makes."""
    case = BY_NAME["gru"]
    inputs = case.inputs(4, 3)
    with torch.autograd.detect_anomaly(check_nan=True):
        Scan(case.cell())(inputs.x, inputs.state).y.sum().backward()
    assert inputs.x.grad is not None
