"""Rule 8, only valid rows: what lies in the padding reaches no value and no gradient, whatever the step makes of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from battery.cells_simple import H, I
from battery.probes import Net, Probe, Probes, assert_probe
from battery.running import Run
from elman.engine import Scan

probe = Probes()
RAGGED = (
    (5, 4, ("lengths",)),
    (5, 4, ("lengths", "reverse")),
    (6, 5, ("short", "reset")),
    (6, 5, ("short", "reverse", "reset", "initial")),
    (4, 3, ()),
)


def _positive(B: int) -> Tensor:
    return torch.rand(B, H) + 0.5


@probe(state=_positive, calls=RAGGED)
def root_of_the_state_in_the_output(self: Net, x: Tensor, h: Tensor) -> Any:
    """The derivative of a root at a held zero would be infinite."""
    h = torch.sigmoid(self.w(x) + self.u(h))
    return torch.sqrt(h), h


@probe(state=_positive, calls=RAGGED)
def norm_of_the_state(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.sigmoid(self.w(x) + self.u(h / h.norm(dim=-1, keepdim=True)))
    return h.norm(dim=-1), h


@probe(state=_positive, calls=RAGGED)
def logarithm_and_quotient(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.sigmoid(self.w(x) + torch.log(h))
    return h / h.sum(-1, keepdim=True), h


@probe(calls=RAGGED)
def root_of_the_input(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(torch.sqrt(x.abs())) + self.u(h))
    return h, h


@probe(calls=RAGGED)
def softmax_of_the_input(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(F.softmax(x, -1)) + self.u(h))
    return F.log_softmax(h, -1), h


@probe(x=lambda T, B: torch.randint(0, H, (T, B)), calls=RAGGED)
def index_from_the_input(self: Net, x: Tensor, h: Tensor) -> Any:
    """Padding of -10**9 is no index of any table."""
    h = torch.tanh(F.embedding(x, self.u.weight) + self.u(h))
    return h.gather(1, x.unsqueeze(1)), h


@probe(calls=RAGGED, context=lambda B: torch.randn(B, H))
def context_of_rows_without_steps(self: Net, x: Tensor, h: Tensor, context: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h) * torch.sqrt(context.abs()))
    return h, h


@probe.all
def test_probe(probe: Probe) -> None:
    assert_probe(probe)


@pytest.mark.slow
@probe.all
def test_probe_on_the_reference(probe: Probe) -> None:
    assert_probe(probe, "reference")


@pytest.mark.parametrize("backend", [None, "reference"])
def test_poisoned_context_of_a_row_of_length_zero(backend: str | None) -> None:
    """NaN in the context or the input of a row that takes no step stays there."""
    u = torch.nn.Linear(H, H)

    def step(x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(x + u(h) * c)
        return u(h), h

    x, c = torch.randn(4, 3, H), torch.randn(3, H)
    x[:, 1], c[1] = torch.nan, torch.nan
    x.requires_grad_(), c.requires_grad_()
    lengths = torch.tensor([4, 0, 2])
    with torch.no_grad():
        x[2:, 2] = torch.inf
    result = Run(Scan(step, backend=backend))(
        x, torch.ones(3, H), context=c, lengths=lengths, return_states=True
    )
    assert result.y.isfinite().all()
    assert torch.equal(result.state[1], torch.ones(H))
    for g in torch.autograd.grad(
        result.y.sum() + result.state.sum() + result.states.sum(), [x, c, *u.parameters()]
    ):
        assert g.isfinite().all()


@pytest.mark.parametrize("backend", [None, "reference"])
def test_gradient_into_padding_is_dropped(backend: str | None) -> None:
    """NaN that comes in as the gradient of a padded output goes nowhere."""
    u = torch.nn.Linear(H, H)

    def step(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(x + u(h))
        return u(h), h

    x = torch.randn(4, 3, H, requires_grad=True)
    lengths = torch.tensor([4, 0, 2])
    result = Run(Scan(step, backend=backend))(x, torch.ones(3, H), lengths=lengths)
    padded = torch.arange(4).unsqueeze(1) >= lengths
    incoming = torch.ones_like(result.y).masked_fill(padded.unsqueeze(-1), torch.nan)
    for g in torch.autograd.grad(result.y, [x, *u.parameters()], incoming):
        assert g.isfinite().all()


@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.int16, torch.uint8])
def test_lengths_of_any_integer_kind(kind: torch.dtype) -> None:
    """Lengths of every integer dtype mean the same."""

    def step(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(x + h)
        return h, h

    x, h = torch.randn(4, 3, I), torch.zeros(3, I)
    run = Run(Scan(step))
    expected = run(x, h, lengths=torch.tensor([4, 0, 2])).y
    assert torch.equal(run(x, h, lengths=torch.tensor([4, 0, 2], dtype=kind)).y, expected)
