"""Rule 5, the module as it was: nothing fake stays behind, what the step changes is changed as the loop changes it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses import FakeTensor

from battery.cells_simple import H
from battery.probes import Net, Probe, Probes, assert_probe
from battery.registry import BY_NAME, Case
from battery.running import Run, actual_outcome, assert_matches, assert_outcomes_agree, expected_outcome
from battery.snapshot import assert_untouched, snapshot
from elman.engine import Scan

probe = Probes()


def _put(**values: Any) -> Any:
    def setup(net: Net) -> None:
        for name, value in values.items():
            setattr(net, name, value() if callable(value) else value)

    return setup


def _buffer(**values: Any) -> Any:
    def setup(net: Net) -> None:
        for name, value in values.items():
            net.register_buffer(name, value())

    return setup


def _tie(net: Net) -> None:
    net.v = net.u
    net.w.bias = net.u.bias
    net.same = nn.ParameterList([net.p, net.p])


@probe(setup=_tie)
def tied_modules(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h) * self.same[1])
    return self.v(h), h


@probe("loop", op="count", setup=_put(count=0))
def counter_attribute(self: Net, x: Tensor, h: Tensor) -> Any:
    self.count += 1
    h = torch.tanh(self.w(x) + self.u(h) / self.count)
    return h, h


@probe("loop", op="count", setup=_put(count=0))
def counter_that_is_only_counted(self: Net, x: Tensor, h: Tensor) -> Any:
    self.count += 1
    h = torch.tanh(self.w(x) + self.u(h))
    return h, h


@probe("loop", op="seen", setup=_put(seen=list))
def list_that_grows(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    self.seen.append(h.detach())
    return h, h


@probe("loop", op="notes", setup=_put(notes=dict))
def dict_that_is_written(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    self.notes["last"] = h.detach() * 2
    return h, h


@probe("loop", op="last", setup=_put(last=lambda: torch.zeros(())))
def state_kept_in_an_attribute(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h) + self.last)
    self.last = self.last + 0.1
    return h, h


@probe("loop", op="total", setup=_buffer(total=lambda: torch.zeros(H)))
def running_statistic_in_place(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    with torch.no_grad():
        self.total.mul_(0.9).add_(h.mean(0), alpha=0.1)
    return h - self.total.clone(), h


@probe("loop", op="total", setup=_buffer(total=lambda: torch.zeros(())))
def running_statistic_replaced(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    self.total = self.total + h.detach().abs().max()
    return h, h


@probe("loop", op="ticks", setup=_buffer(ticks=lambda: torch.zeros((), dtype=torch.long)))
def integer_buffer_that_counts(self: Net, x: Tensor, h: Tensor) -> Any:
    self.ticks += 1
    h = torch.tanh(self.w(x) + self.u(h) / self.ticks.clone())
    return h, h


@probe("any", op="mask", setup=_put(mask=None))
def mask_made_at_first_use(self: Net, x: Tensor, h: Tensor) -> Any:
    if self.mask is None:
        self.mask = torch.linspace(0, 1, H, dtype=x.dtype)
    h = torch.tanh(self.w(x) + self.u(h * self.mask))
    return h, h


@probe("any", op="mask", setup=_put(mask=None), calls=((4, 5, ()),))
def mask_made_for_the_batch(self: Net, x: Tensor, h: Tensor) -> Any:
    """The usual variational dropout by hand: a lazily made mask of (B, H), here without chance."""
    if self.mask is None:
        self.mask = torch.full_like(h, 0.5)
    h = torch.tanh(self.w(x) + self.u(h * self.mask))
    return h, h


@probe("any", op="table", setup=_put(table=dict))
def table_filled_at_first_use(self: Net, x: Tensor, h: Tensor) -> Any:
    key = (x.dtype, x.size(-1))
    if key not in self.table:
        self.table[key] = torch.arange(H, dtype=x.dtype) / H
    h = torch.tanh(self.w(x) + self.u(h) * self.table[key])
    return h, h


@probe(setup=_buffer(mask=lambda: (torch.rand(H, H) < 0.5).to(torch.get_default_dtype())))
def buffer_as_a_mask(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + F.linear(h, self.u.weight * self.mask))
    return h, h


@probe("any", op="weight|_u|u", setup=lambda net: nn.utils.parametrizations.spectral_norm(net.u) and None)
def spectral_norm_in_training(self: Net, x: Tensor, h: Tensor) -> Any:
    """The power iteration moves a buffer at each access of the weight."""
    h = torch.tanh(self.w(x) + self.u(h))
    return h, h


@probe.all
def test_probe(probe: Probe) -> None:
    run = assert_probe(probe)
    for module in run.scan.step.modules():
        for value in (*vars(module).values(), *module._buffers.values(), *module._parameters.values()):
            values = (
                value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
            )
            assert not any(isinstance(v, FakeTensor) for v in values)


@pytest.mark.parametrize("probe", [p for p in probe if p.path == "fast"], ids=lambda p: p.name)
def test_nothing_moves(probe: Probe) -> None:
    """A cell on the fast path is bit-identical after its first call and after a call in another mode."""
    cell = probe.case.cell()
    before = snapshot(cell)
    run = Run(Scan(cell))
    inputs = probe.case.inputs(3, 4)
    run(inputs.x, inputs.state)
    assert_untouched(cell, before)
    with torch.no_grad():
        run(inputs.x, inputs.state)
    assert_untouched(cell, before)


def test_grad_of_before_stays() -> None:
    """Gradients that are already there are neither dropped nor added to by the first call."""
    case = BY_NAME["lstm_gates"]
    cell = case.cell()
    for k, p in enumerate(cell.parameters()):
        p.grad = torch.full_like(p, float(k))
    grads = [p.grad for p in cell.parameters()]
    inputs = case.inputs(3, 4)
    Scan(cell)(inputs.x, inputs.state)
    for k, p in enumerate(cell.parameters()):
        assert p.grad is grads[k]
        assert bool((p.grad == k).all())


def test_plain_tensor_attribute_has_its_gradient() -> None:
    """A tensor in a plain attribute, and one in a list, are inputs of the graph and get their gradients."""

    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            g = torch.Generator().manual_seed(5)
            self.U = (torch.randn(H, H, generator=g, dtype=torch.float64) / 3).requires_grad_()
            self.many = [torch.rand(H, generator=g, dtype=torch.float64).requires_grad_() for _ in range(2)]
            self.table = {"b": torch.rand(H, generator=g, dtype=torch.float64).requires_grad_()}

        @property
        def tensors(self) -> dict[str, Tensor]:
            return {"U": self.U, "0": self.many[0], "1": self.many[1], "b": self.table["b"]}

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = torch.tanh(x * self.many[0] + h @ self.U + self.table["b"])
            return h * self.many[1], h

    case = Case("holder", Holder, lambda T, B: torch.randn(T, B, H), lambda B: torch.randn(B, H))
    cell, twin = Holder(), Holder()
    run = Run(Scan(cell))
    inputs = case.inputs(4, 3)
    assert_outcomes_agree(actual_outcome(run, cell, inputs, {}), expected_outcome(twin, inputs, {}))
    assert run.scan.path != "loop", run.warned
    assert_matches(run, cell, twin, case.inputs(2, 5), ("lengths",))
    with torch.no_grad():
        cell.U.mul_(0.5), twin.U.mul_(0.5)
    assert_matches(run, cell, twin, case.inputs(2, 5), ("lengths",))
    cell.many[1], twin.many[1] = (torch.ones(H, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert_matches(run, cell, twin, case.inputs(2, 5), ("lengths",))


def test_closed_over_tensors() -> None:
    """A function over tensors: a leaf, one computed from it, and a constant; gradients arrive at the leaf."""
    leaf = torch.randn(H, H, dtype=torch.float64).div(3).requires_grad_()
    bias = torch.randn(H, dtype=torch.float64).requires_grad_()

    def make() -> Any:
        derived = torch.tanh(leaf) + leaf.t()
        constant = torch.arange(H, dtype=torch.float64) / H

        def step(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = torch.tanh(x + h @ derived + constant)
            return h @ leaf + bias, h

        step.tensors = {"leaf": leaf, "bias": bias}  # type: ignore[attr-defined]
        return step

    case = Case("closure", make, lambda T, B: torch.randn(T, B, H), lambda B: torch.randn(B, H))
    for names in ((), ("lengths", "reset", "reverse")):
        step = make()
        run = Run(Scan(step))
        assert_matches(run, step, make(), case.inputs(4, 3), names)
        with torch.no_grad():
            bias.add_(1)


def test_closed_over_leaf_changes() -> None:
    """A leaf that a function closes over is read live: its value, and whether it wants a gradient."""
    bias = torch.randn(H, dtype=torch.float64).requires_grad_()

    def step(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(x + h * bias)
        return h, h

    step.tensors = {"bias": bias}  # type: ignore[attr-defined]
    case = Case("closure", lambda: step, lambda T, B: torch.randn(T, B, H), lambda B: torch.randn(B, H))
    run = Run(Scan(step))
    assert_matches(run, step, step, case.inputs(4, 3), ())
    bias.data.mul_(0.5)
    assert_matches(run, step, step, case.inputs(4, 3), ())
    bias.requires_grad_(False)
    assert_matches(run, step, step, case.inputs(4, 3), ())
    bias.requires_grad_()
    assert_matches(run, step, step, case.inputs(4, 3), ())
