"""Convolutions within a row: ConvLSTM, ConvGRU and drawn cells like them equal their loop, values and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from elman.engine import Scan
from elman.engine.call.loop import plain_loop

CONVOLUTIONS: dict[tuple[int, bool], type[nn.Module]] = {
    (1, False): nn.Conv1d, (2, False): nn.Conv2d, (1, True): nn.ConvTranspose1d, (2, True): nn.ConvTranspose2d,
}  # fmt: skip


class ConvGated(nn.Module):
    """A drawn cell over images or signals: which parts meet in `cat`, in which order, by what kind of convolution."""

    def __init__(
        self, rank: int, transposed: bool, bias: bool, order: str, groups: int, channels: int
    ) -> None:
        super().__init__()
        make: Any = CONVOLUTIONS[rank, transposed]
        self.h, self.order = channels, order
        inputs = sum(2 if part == "x" else channels for part in order)
        groups = groups if inputs % groups == 0 and (2 * channels) % groups == 0 else 1
        self.conv = make(inputs, 2 * channels, 3, padding=1, bias=bias, groups=groups).double()
        self.other = make(2 + channels, channels, 3, padding=1, bias=bias).double()

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        parts = {"x": x, "h": h, "p": torch.tanh(h) * 0.5}
        r, z = torch.sigmoid(self.conv(torch.cat([parts[c] for c in self.order], 1))).chunk(2, 1)
        n = torch.tanh(self.other(torch.cat((x, r * h), 1)))
        h = (1 - z) * h + z * n
        return h, h


def both(cell: nn.Module, x: Tensor, state: Tensor, x_grad: bool, frozen: bool, **options: Any) -> None:
    """The scan and the loop on copies of the same inputs."""
    if frozen:
        cell.get_parameter("conv.weight").requires_grad_(False)
    results = []
    for run in (Scan(cell, fallback="error"), lambda *a, **k: plain_loop(cell, *a, **k)):
        a, s = x.clone().requires_grad_(x_grad), state.clone().requires_grad_()
        y, last, _ = run(a, s, **options)
        leaves = [t for t in (a, s, *cell.parameters()) if t.requires_grad]
        grads = torch.autograd.grad(y.sin().sum() + (2 * last).cos().sum(), leaves)
        results.append([y, last, *grads])
        if isinstance(run, Scan):
            assert run.path == "reference"
    torch.testing.assert_close(*results)


@settings(max_examples=8, deadline=None)
@given(
    rank=st.sampled_from([1, 2]),
    transposed=st.booleans(),
    bias=st.booleans(),
    order=st.sampled_from(["xh", "hx", "hxp", "xx", "hp", "xhx"]),
    groups=st.sampled_from([1, 1, 2]),
    channels=st.sampled_from([2, 4]),
    x_grad=st.booleans(),
    frozen=st.booleans(),
    lengths=st.booleans(),
    reverse=st.booleans(),
)
def test_drawn_cells(
    rank: int, transposed: bool, bias: bool, order: str, groups: int, channels: int, x_grad: bool, frozen: bool,
    lengths: bool, reverse: bool,
) -> None:  # fmt: skip
    cell = ConvGated(rank, transposed, bias, order, groups, channels)
    room = (5, 4)[:rank]
    x = torch.randn(4, 3, 2, *room, dtype=torch.float64)
    state = torch.randn(3, channels, *room, dtype=torch.float64)
    options = {"lengths": torch.tensor([4, 0, 2])} if lengths else {}
    both(cell, x, state, x_grad, frozen, reverse=reverse, **options)


@pytest.mark.parametrize("x_grad", [False, True])
def test_what_needs_no_state_leaves_the_loop(x_grad: bool) -> None:
    """One convolution a step over the state's channels; those of x, and all gradients of weights, once for all rows."""
    cell = ConvGated(2, False, True, "xh", 1, 2)
    scan = Scan(cell, fallback="error")
    x = torch.randn(4, 3, 2, 5, 4, dtype=torch.float64, requires_grad=x_grad)
    scan(x, torch.zeros(3, 2, 5, 4, dtype=torch.float64))
    sections: dict[str, str] = {}
    name = ""
    for line in scan.explain().program.split("\n"):
        if line[:1] not in ("", " ") and "->" in line:
            name = line.split()[0]
        sections[name] = sections.get(name, "") + line + "\n"
    assert sections["hoisted"].count("= convolution.default") == 2
    assert sections["loop"].count("= convolution.default") == 2
    assert sections["loop_back"].count("= convolution_backward.default") == 2
    assert sections["post"].count("= convolution_backward.default") == (4 if x_grad else 2)


@pytest.mark.parametrize(("share", "loop"), [(1.2, True), (0.95, True), (0.85, False)])
def test_where_both_are_about_as_fast_the_loop_is_taken(
    monkeypatch: pytest.MonkeyPatch, share: float, loop: bool
) -> None:
    """A few milliseconds may be measured wrong by a tenth. share: of the loop's time, that the reference takes."""
    calls = []

    def seconds(run: Any, wanted: Any) -> float:
        calls.append(run)
        return 1.0 if len(calls) % 2 == 0 else share

    monkeypatch.setattr("elman.engine.call.choice._seconds", seconds)
    scan = Scan(ConvGated(2, False, True, "xh", 1, 2))
    scan(torch.randn(5, 16, 2, 16, 16, dtype=torch.float64), torch.zeros(16, 2, 16, 16, dtype=torch.float64))
    assert scan.path == ("loop" if loop else "reference")


@pytest.mark.parametrize("loop", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_the_loop_where_it_is_faster(monkeypatch: pytest.MonkeyPatch, loop: bool, grad: bool) -> None:
    """A large call is measured once, both ways round; what is chosen answers, and `explain` gives the times. Parameters
    have no gradient of it, draws go on as if nothing had been, small calls and named backends are not measured."""
    calls = []

    def seconds(run: Any, wanted: Any) -> float:
        calls.append(wanted)
        run()
        return 1.0 if (len(calls) % 2 == 0) == loop else 2.0

    monkeypatch.setattr("elman.engine.call.choice._seconds", seconds)
    cell = ConvGated(2, False, True, "xh", 1, 2)
    state = torch.zeros(16, 2, 16, 16, dtype=torch.float64)
    x = torch.randn(5, 16, 2, 16, 16, dtype=torch.float64)
    small = Scan(cell)
    small(x[:, :2, :, :4, :4], state[:2, :, :4, :4])
    Scan(cell, backend="reference")(x, state)
    Scan(cell, fallback="error")(x, state)
    assert not calls and small.path == "reference"
    scan = Scan(cell)
    torch.manual_seed(3)
    with torch.set_grad_enabled(grad):
        y, last, _ = scan(x, state)
        drawn = torch.rand(())
        for _ in range(2):
            torch.testing.assert_close((y, last), plain_loop(cell, x, state)[:2])
            y, last, _ = scan(x, state)
    torch.manual_seed(3)
    assert drawn == torch.rand(())
    assert len(calls) == 10 and all(len(wanted) == (4 if grad else 0) for wanted in calls)
    assert scan.path == ("loop" if loop else "reference")
    told = str(scan.explain())
    assert "the loop is faster" in told if loop else "faster than the loop" in told
    assert "1000.0 ms" in told and "2000.0 ms" in told
    assert all(p.grad is None for p in cell.parameters())
