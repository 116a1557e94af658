"""Integers in a step: on the core where they are certain to be exact in its floats, elsewhere where they are right."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from battery.cells_simple import H
from battery.probes import Net, Probe, Probes, assert_probe
from battery.running import CORE, Run, assert_matches
from elman.engine import Scan

native = Probes()
reference = Probes()
LARGE = 2**40 + 1


def _state_and(*counts: Any) -> Any:
    return lambda B: (torch.randn(B, H), *(make(B) for make in counts))


def _clock(B: int) -> Tensor:
    return torch.randint(0, 5, (B,)) + LARGE


def _flags(B: int) -> Tensor:
    return torch.rand(B, H) < 0.5


@native()
def count_of_units(self: Net, x: Tensor, h: Tensor) -> Any:
    active = (h > 0).sum(1, keepdim=True)
    h = torch.tanh(self.w(x) + self.u(h) / (1 + active))
    return h, h


@native()
def arithmetic_of_counts(self: Net, x: Tensor, h: Tensor) -> Any:
    up, down = (h > 0.1).sum(1, keepdim=True), (h < -0.1).long().cumsum(1)
    n = torch.where(h > 0, 2 * up - down, (-down).abs() * 3)
    h = torch.tanh(self.w(x) + self.u(h) + 0.1 * torch.maximum(n, up).to(h.dtype))
    return (h, (n > up).to(h.dtype)), h


@native()
def small_in_eight_bits(self: Net, x: Tensor, h: Tensor) -> Any:
    n = (h > 0).to(torch.int8).sum(1, keepdim=True, dtype=torch.int8) * 18
    h = torch.tanh(self.w(x) + self.u(h) + n.to(h.dtype) * 0.01)
    return h, h


@reference()
def overflow_of_eight_bits(self: Net, x: Tensor, h: Tensor) -> Any:
    n = (h > -1).to(torch.int8).sum(1, keepdim=True, dtype=torch.int8) * 19
    h = torch.tanh(self.w(x) + self.u(h) + n.to(h.dtype) * 0.01)
    return h, h


@reference()
def larger_than_a_float_holds(self: Net, x: Tensor, h: Tensor) -> Any:
    n = (h > 0).sum(1, keepdim=True) + 2**53
    h = torch.tanh(self.w(x) + self.u(h) + (n - 2**53).to(h.dtype) * 0.1)
    return h, h


@reference()
def integers_of_the_input(self: Net, x: Tensor, h: Tensor) -> Any:
    n = (x[:, :1] * 1e9).long() * (h > 0)
    h = torch.tanh(self.w(x) + self.u(h) + (n % 7).to(h.dtype) * 0.1)
    return h, h


@native(state=_state_and(_clock))
def clock_beyond_single_precision(self: Net, x: Tensor, state: Any) -> Any:
    h, clock = state
    h = torch.where((clock % 3 == 0).unsqueeze(1), torch.tanh(self.w(x) + self.u(h)), h)
    return (h, clock), (h, clock + 1)


@native(state=_state_and(_flags))
def flags_that_stay(self: Net, x: Tensor, state: Any) -> Any:
    h, flags = state
    h = torch.tanh(self.w(x) + self.u(h)) * flags
    return h, (h, flags)


@native(state=_state_and(_flags, _clock))
def flags_of_a_context_and_the_input(self: Net, x: Tensor, state: Any) -> Any:
    h, flags, clock = state
    flags = flags ^ (x[:, :1] > 0)
    rate = self.p * (clock - LARGE + 1).unsqueeze(1)
    h = torch.where(flags, torch.tanh(self.w(x) + self.u(h)), h * torch.exp(-rate))
    return h, (h, flags, clock + flags.sum(1))


@reference(state=_state_and(_clock))
def count_of_what_a_float_state_does(self: Net, x: Tensor, state: Any) -> Any:
    h, count = state
    h = torch.tanh(self.w(x) + self.u(h) + 0.1 * (count % 2).unsqueeze(1).to(h.dtype))
    return h, (h, count + (h > 0).sum(1))


@native.all
def test_on_the_core(probe: Probe) -> None:
    """Right, by the core."""
    run = assert_probe(probe)
    assert run.scan.path == ("native" if CORE else "reference"), run.scan.explain()


@reference.all
def test_by_torch(probe: Probe) -> None:
    """Right, by the reference: the core could be wrong in silence."""
    assert assert_probe(probe).scan.path == "reference"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_limit_of_each_type(dtype: torch.dtype) -> None:
    """What double precision holds and single does not is on the core in double alone."""

    def body(self: Net, x: Tensor, h: Tensor) -> Any:
        n = (h > 0).sum(1, keepdim=True) + 2**24
        h = torch.tanh(self.w(x) + self.u(h) + (n - 2**24).to(h.dtype) * 0.1)
        return h, h

    draw = lambda T, B: torch.randn(T, B, 5)  # noqa: E731 - an argument
    probe = Probe("limit", body, "fast", "", None, draw, lambda B: torch.randn(B, H), None, ())
    cell = probe.case.cell(dtype)
    run = Run(Scan(cell))
    assert_matches(run, cell, probe.case.cell(dtype), probe.case.inputs(5, 3, dtype))
    assert run.scan.path == ("native" if CORE and dtype == torch.float64 else "reference")


def test_no_result_lies_in_the_memory_of_another() -> None:
    """A state that no step changes is handed out as a copy."""
    cell = Net(flags_that_stay, None)
    flags = _flags(3)
    state = Scan(cell)(torch.randn(4, 3, 5), (torch.zeros(3, H), flags)).state
    assert torch.equal(state[1], flags)
    assert state[1].data_ptr() != flags.data_ptr()
