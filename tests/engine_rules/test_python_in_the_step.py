"""Python in the step that depends on data: the plain loop, or an honest trace; never the branch of the first call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from battery.cells_simple import H
from battery.probes import Net, Probe, Probes, assert_probe
from battery.registry import Case
from battery.running import Run, assert_matches
from elman.engine import Scan

probe = Probes()


@probe("loop", op="bool|branch|item|data")
def branch_on_data(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    if h.sum() > 0:  # <-
        h = h * 0.5
    return h, h


@probe("loop", op="item|data|bool|float|number")
def item(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return h * h.max().item(), h  # <-


@probe("loop", op="item|data|float|number")
def float_of_a_tensor(self: Net, x: Tensor, h: Tensor) -> Any:
    scale = float(h.detach().abs().mean())  # <-
    h = torch.tanh(self.w(x) + self.u(h) * scale)
    return h, h


@probe("loop", op="tolist|item|data|number")
def to_a_list(self: Net, x: Tensor, h: Tensor) -> Any:
    first = h[:, 0].tolist()  # <-
    h = torch.tanh(self.w(x) + self.u(h) * torch.tensor(first, dtype=x.dtype).unsqueeze(1))
    return h, h


@probe("loop", op="numpy|data|storage|array")
def through_numpy(self: Net, x: Tensor, h: Tensor) -> Any:
    a = np.tanh(h.detach().numpy())  # <-
    h = torch.tanh(self.w(x) + self.u(h) + torch.from_numpy(a))
    return h, h


@probe("loop", op="nonzero|item|bool|data|shape|size")
def dynamic_shape(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    big = h[h > 0]  # <-
    return h / (1 + big.sum()), h


@probe("loop", op="unique|item|data|shape|size")
def unique_values(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    n = len(torch.unique(torch.round(h)))  # <-
    return h / n, h


@probe("loop", op="bool|item|data|allclose")
def loop_until_converged(self: Net, x: Tensor, h: Tensor) -> Any:
    a = self.w(x)
    for _ in range(50):
        new = torch.tanh(a + 0.3 * self.u(h))
        if torch.allclose(new, h, atol=1e-3):  # <-
            break
        h = new
    return h, h


@probe("loop", op="bool|item|data")
def halting(self: Net, x: Tensor, h: Tensor) -> Any:
    """Adaptive computation time: as many micro-steps as the slowest row needs."""
    total = torch.zeros(x.size(0), dtype=x.dtype)
    a = self.w(x)
    while bool((total < 0.9).any()):  # <-
        h = torch.tanh(a + self.u(h))
        total = total + 0.3 + 0.1 * torch.sigmoid(h[:, 0]).detach()
    return h, h


@probe("any", op="bool|item|data")
def checked_for_nan(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    assert not torch.isnan(h).any(), "diverged"  # <-
    return h, h


@probe("any", op="bool|item|data|isfinite")
def raised_when_not_finite(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    if not torch.isfinite(h).all():  # <-
        raise FloatingPointError("not finite")
    return h, h


@probe("any", op="")
def looked_at_layout(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h if h.is_contiguous() else h.contiguous()))
    return h.contiguous(), h


@probe("any", op="")
def asked_for_gradients(self: Net, x: Tensor, h: Tensor) -> Any:
    """A branch on requires_grad is a branch on the mode."""
    a = self.w(x) + self.u(h)
    h = torch.tanh(a) if a.requires_grad else torch.tanh(a * 1.0)
    return h, h


# What the first steps never show: one large number at a later step decides.


def _rare(T: int, B: int) -> Tensor:
    x = torch.randn(T, B, 5).clamp(-2.5, 2.5)
    x[-1, 0, 3] = 5.0
    return x


RARE = ((4, 5, ()), (3, H, ("reverse",)), (2, 1, ()))


@probe("loop", op="allclose|number|data", x=_rare, calls=RARE)
def compared_with_allclose(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    if torch.allclose(x, x.clamp(-3, 3)):  # <-
        return h, h
    return h * 2, h


@probe("loop", op="equal|number|data", x=_rare, calls=RARE)
def compared_with_equal(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return (h if torch.equal(x, x.clamp(-3, 3)) else h * 2), h  # <-


@probe("loop", op="nonzero|number|shape", x=_rare, calls=RARE)
def counted_by_nonzero(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return h * (1 + len(torch.nonzero(x > 3))), h  # <-


@probe("loop", op="index|mask|shape", x=_rare, calls=RARE)
def counted_by_a_mask(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return h * (1 + x[x > 3].numel()), h  # <-


@probe("loop", op="unique|number|shape", x=_rare, calls=RARE)
def counted_by_unique(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return h * len(torch.unique((x > 3).long())), h  # <-


@probe("loop", op="array|numpy|data", x=_rare, calls=RARE)
def seen_as_an_array(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return h * (1 + (np.asarray(x.detach()) > 3).sum()), h  # <-


@probe("loop", op="dlpack|data", x=_rare, calls=RARE)
def handed_over_by_dlpack(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return h * (1 + int((np.from_dlpack(x.detach()) > 3).sum())), h  # <-


@probe("loop", op="item|bool|number|data", x=_rare, calls=RARE)
def asked_with_in(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return (2 * h if 5.0 in x else h), h  # <-


@probe("any", op="", x=_rare, calls=RARE)
def asked_whether_leaf(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return (h * 1.0 if x.is_leaf else 2 * h), h


@probe("any", op="", x=_rare, calls=RARE)
def data_assigned(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    h.data = h.data * 2
    return h, h


@probe("any", op="", x=_rare, calls=RARE)
def data_changed_in_place(self: Net, x: Tensor, h: Tensor) -> Any:
    h = self.w(x) + self.u(h)
    h.data.mul_(0.5)
    return h, torch.tanh(h)


@probe.all
def test_probe(probe: Probe) -> None:
    assert_probe(probe)


@pytest.mark.parametrize("kind", ["list", "iterator"])
def test_counter_outside_the_module(kind: str) -> None:
    """A counter in a closure: every step of the first call sees its own number, in order."""
    clock: list[int] = []
    numbers = iter(range(1, 10**6))

    def step(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        if kind == "list":
            clock.append(0)
        n = len(clock) if kind == "list" else next(numbers)
        return x * n, h

    y = Run(Scan(step))(torch.ones(5, 2, H), torch.zeros(2, H)).y[:, 0, 0]
    differences = (y[1:] - y[:-1]).tolist()
    assert differences == [1.0] * 4, f"numbers of the steps: {y.tolist()}"


def test_printing_works(capsys: pytest.CaptureFixture[str]) -> None:
    """A step that prints: the values are right; nothing breaks."""

    def body(self: Net, x: Tensor, h: Tensor) -> Any:
        h = torch.tanh(self.w(x) + self.u(h))
        print("step", tuple(h.shape))
        return F.relu(h), h

    case = Case(
        "prints", lambda: Net(body, None), lambda T, B: torch.randn(T, B, 5), lambda B: torch.randn(B, H)
    )
    cell, twin = case.cell(), case.cell()
    assert_matches(Run(Scan(cell)), cell, twin, case.inputs(3, 4))
    assert "step" in capsys.readouterr().out
