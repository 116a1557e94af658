"""Rule 4, verified at a key's first use: what no rule can see is caught by comparing rows and steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from battery.cells_gated import GatesLSTM, LayerNormLSTM
from battery.cells_simple import H, I
from battery.probes import Net, Probe, Probes, assert_probe
from battery.registry import BY_NAME
from battery.running import Run, assert_matches
from elman.engine import EngineError, EngineWarning, Scan

probe = Probes()


@torch.library.custom_op("elman_tests::centred", mutates_args=())
def centred(a: Tensor) -> Tensor:
    """An op that no table knows and that mixes rows."""
    return a - a.mean(0)


@centred.register_fake
def _(a: Tensor) -> Tensor:
    return torch.empty_like(a)


centred.register_autograd(lambda ctx, grad: grad - grad.mean(0))


@torch.library.custom_op("elman_tests::doubled", mutates_args=())
def doubled(a: Tensor) -> Tensor:
    """An op that no table knows, row by row."""
    return 2 * a


@doubled.register_fake
def _(a: Tensor) -> Tensor:
    return torch.empty_like(a)


doubled.register_autograd(lambda ctx, grad: 2 * grad)


@probe("loop", op="centred")
def unknown_op_that_mixes_rows(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(centred(self.w(x)) + self.u(h))  # <-
    return h, h


@probe("any", op="doubled")
def unknown_op_by_rows(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + doubled(self.u(h)))  # <-
    return h, h


@probe("loop", op="")
def rows_told_apart_by_memory(self: Net, x: Tensor, h: Tensor) -> Any:
    """What stands before a row in memory is another row: as_strided over the batch."""
    h = torch.tanh(self.w(x) + self.u(h))
    rows = h.size(0)
    shifted = torch.as_strided(h.contiguous().roll(1, 0), (rows, H), (H, 1))
    return shifted, h


@probe("any")
def only_wrong_far_out(self: Net, x: Tensor, h: Tensor) -> Any:
    """A step that is not smooth: rounding, a threshold, a remainder."""
    h = torch.tanh(torch.round(3 * self.w(x)) / 3 + self.u(h))
    return torch.remainder(h, 0.3) + (h > 0.1), h


@probe.all
def test_probe(probe: Probe) -> None:
    assert_probe(probe)


@pytest.fixture
def check() -> Any:
    from elman import engine

    return engine.check


@pytest.mark.parametrize("make", [GatesLSTM, LayerNormLSTM])
def test_check_passes_a_good_cell(check: Any, make: type[nn.Module]) -> None:
    """`elman.check(cell)` on example data: a report for a cell inside the rules, the module left alone."""
    cell = make()
    report = check(cell, torch.randn(5, 3, I), (torch.randn(3, H), torch.randn(3, H)))
    assert str(report)


def test_check_refuses_a_cell_that_mixes_rows(check: Any) -> None:
    """And an error that names the op where it is not."""

    def step(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(x + h)
        return h - h.mean(0), h

    with pytest.raises(EngineError, match="mean"):
        check(step, torch.randn(5, 3, H), torch.randn(3, H))


def test_verification_is_deaf_to_inputs() -> None:
    """Inputs of NaN or infinity at the first call neither break the verification nor make it pass a wrong path."""
    case = BY_NAME["lstm_gates"]
    for value in (torch.nan, torch.inf, 0.0, 1e30):
        cell, run = case.cell(), Run(Scan(case.cell()))
        inputs = case.inputs(4, 3)
        bad = torch.full_like(inputs.x, value)
        result = run(bad, inputs.state)
        assert run.scan.path != "loop"
        assert not run.warned
        assert result.y.shape == (4, 3, H)
        assert_matches(run, run.scan.step, cell, inputs)


def test_warning_is_given_once() -> None:
    """A cell on the plain loop warns at its first call, not at each, and not at each new shape or mode."""

    def step(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(x + h.mean(0))
        return h, h

    run = Run(Scan(step))
    for rows in (3, 5, 5):
        run(torch.randn(4, rows, H), torch.randn(rows, H))
    with torch.no_grad():
        run(torch.randn(4, 3, H), torch.randn(3, H))
    assert len(run.warned) == 1
    assert issubclass(EngineWarning, UserWarning)
