"""Rule 11, calls in torch.compile: what makes them compile anew, and what the operator is told only when it runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from elman.engine import EngineError, Scan, ScanResult

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


class Leaky(nn.Module):
    """h' = (1 - a) h + a tanh(W [x, h]), y = 2 h', unfolded."""

    def __init__(self, center: bool = False) -> None:
        super().__init__()
        self.linear, self.alpha, self.center = nn.Linear(10, 6), 0.3, center
        self.scan = Scan(self.step, owner=self)

    def step(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = (1 - self.alpha) * h + self.alpha * torch.tanh(self.linear(torch.cat([x, h], -1)))
        return 2 * h, h - h.mean(0) if self.center else h

    def forward(self, x: Tensor, **arguments: Any) -> ScanResult:
        return self.scan(x, x.new_zeros(x.shape[1], 6), **arguments)


@pytest.fixture(autouse=True)
def _cold() -> Any:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def test_all_inputs_of_the_loop() -> None:
    """Lengths with a zero, resets, the other direction and the states of all steps, values and gradients."""
    layer, x = Leaky(), torch.randn(5, 3, 4, requires_grad=True)
    given = {"lengths": torch.tensor([5, 0, 2]), "reset": torch.rand(5, 3) < 0.4, "reverse": True}
    given["return_states"] = True
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    results = [compiled(x, **given), layer(x, **given)]
    inputs = [x, *layer.parameters()]
    grads = [torch.autograd.grad(sum(t.cos().sum() for t in r), inputs) for r in results]
    torch.testing.assert_close((*results[0], *grads[0]), (*results[1], *grads[1]))


def test_a_changed_attribute_compiles_anew() -> None:
    layer, x = Leaky(), torch.randn(5, 3, 4)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    for alpha in (0.3, 0.9):
        layer.alpha = alpha
        torch.testing.assert_close(compiled(x).y, layer(x).y)


def test_lengths_are_looked_at_when_it_runs() -> None:
    layer, x = Leaky(), torch.randn(5, 3, 4)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    for lengths in ([5, 1, 2], [0, 0, 0]):
        given = torch.tensor(lengths)
        torch.testing.assert_close(compiled(x, lengths=given)[:2], layer(x, lengths=given)[:2])
    with pytest.raises(EngineError, match="lengths lie between 1 and 6; expected 0 to 5"):
        compiled(x, lengths=torch.tensor([6, 1, 1]))


def test_steps_and_rows_may_be_dynamic() -> None:
    """One graph for all lengths and batch sizes from 2 on."""
    layer, x = Leaky(), torch.randn(5, 3, 4)
    torch._dynamo.mark_dynamic(x, 0)
    torch._dynamo.mark_dynamic(x, 1)
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(layer, fullgraph=True, backend=counter)
    for some in (x, torch.randn(9, 7, 4)):
        torch.testing.assert_close(compiled(some).y, layer(some).y)
    assert counter.frame_count == 1


def test_a_step_outside_the_rules_says_why() -> None:
    """fullgraph=True raises with the reason; without it the call runs outside of the graph."""
    layer, x = Leaky(center=True), torch.randn(5, 3, 4)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="batch size enters a computation"):
        torch.compile(layer, fullgraph=True, backend="eager")(x)
    torch._dynamo.reset()
    with pytest.warns(match="plain Python loop"):
        y = torch.compile(layer, backend="eager")(x).y
    torch.testing.assert_close(y, layer(x).y)
