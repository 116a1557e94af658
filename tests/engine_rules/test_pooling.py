"""Pooling within a row: on the core, equal to the loop everywhere, ties too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from elman.engine import Scan
from elman.engine.call.loop import plain_loop
from elman.engine.tracing.decompose import POOLS, pool
from nn.by_hand import FAST


def sized(name: str, sizes: list[int]) -> Any:
    return sizes[0] if name.endswith("1d") else tuple(sizes)


@settings(max_examples=120, deadline=None)
@given(
    name=st.sampled_from(sorted(POOLS)),
    room=st.lists(st.integers(1, 7), min_size=2, max_size=2),
    sizes=st.lists(st.integers(1, 4), min_size=2, max_size=2),
    stride=st.sampled_from([None, "same", 1]),
    padding=st.sampled_from([0, 0, 1, 2]),
    ceil=st.sampled_from([False, False, False, True]),
    extra=st.sampled_from([None, None, 2]),
    seed=st.integers(0, 1000),
)
def test_as_torch_pools(
    name: str,
    room: list[int],
    sizes: list[int],
    stride: Any,
    padding: int,
    ceil: bool,
    extra: int | None,
    seed: int,
) -> None:
    """Values and gradients, where elements are equal too; all others are left to torch."""
    g = torch.Generator().manual_seed(seed)
    rank = POOLS[name][0]
    x = torch.randint(-1, 2, (2, 3, *room[:rank]), generator=g).double().requires_grad_()
    arguments: dict[str, Any] = {}
    if not name.startswith("adaptive"):
        arguments = {"stride": sized(name, sizes) if stride == "same" else stride, "padding": padding}
        arguments["ceil_mode"] = ceil
        if extra is not None:
            arguments |= {"dilation": extra} if "max" in name else {"count_include_pad": False}
    try:
        expected = getattr(F, name)(x, sized(name, sizes), **arguments)
    except RuntimeError:
        return
    got = pool(name, (x, sized(name, sizes)), arguments)
    if got is NotImplemented:
        assert ceil or name.startswith("adaptive")
        return
    weights = torch.arange(expected.numel()).view_as(expected) + 1.0
    grads = [torch.autograd.grad((y * weights).sum(), x)[0] for y in (got, expected)]
    torch.testing.assert_close([got, grads[0]], [expected, grads[1]])


class Pooled(nn.Module):
    """h' = tanh(x + U h, each element beside what its window has)."""

    def __init__(self, layer: nn.Module, room: tuple[int, ...]) -> None:
        super().__init__()
        self.layer, self.u, self.room = layer, nn.Linear(8, 8).double(), room

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        u = torch.relu(self.u(h) + x).view(-1, *self.room)
        h = torch.tanh(x + self.layer(u).flatten(1).repeat(1, 8)[:, :8])
        return h, h


@pytest.mark.parametrize(
    ("layer", "room", "path"),
    [
        (nn.MaxPool1d(2), (1, 8), FAST),
        (nn.MaxPool1d(3), (2, 4), FAST),
        (nn.AvgPool1d(2), (1, 8), FAST),
        (nn.MaxPool2d(2), (1, 4, 2), FAST),
        (nn.MaxPool2d((2, 1)), (2, 2, 2), FAST),
        (nn.AvgPool2d(2), (1, 2, 4), FAST),
        (nn.AdaptiveAvgPool1d(4), (1, 8), FAST),
        (nn.AdaptiveMaxPool1d(2), (1, 8), FAST),
        (nn.AdaptiveAvgPool2d((1, None)), (1, 2, 4), FAST),
        (nn.AvgPool1d(3, 1, 1), (1, 8), FAST),
        (nn.AvgPool1d(3, 2, 1, count_include_pad=False), (2, 4), FAST),
        (nn.MaxPool1d(3, 1, 1), (1, 8), FAST),
        (nn.MaxPool1d(2, 1, dilation=3), (1, 8), FAST),
        (nn.MaxPool2d(3, 1, 1), (1, 4, 2), FAST),
        (nn.AvgPool2d((1, 3), 1, (0, 1), count_include_pad=False), (1, 2, 4), FAST),
        (nn.AvgPool1d(3, 2, ceil_mode=True), (1, 8), "loop"),
        (nn.AdaptiveAvgPool1d(3), (1, 8), "loop"),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::elman.engine.EngineWarning")
def test_in_a_step(layer: nn.Module, room: tuple[int, ...], path: str) -> None:
    torch.manual_seed(0)
    cell = Pooled(layer, room)
    scan, x = Scan(cell), torch.randn(4, 3, 8, dtype=torch.float64, requires_grad=True)
    h, found = torch.zeros(3, 8, dtype=torch.float64), []
    for run in (scan, lambda *a: plain_loop(cell, *a)):
        y = run(x, h).y
        found.append([y, *torch.autograd.grad(y.sin().sum(), [x, *cell.parameters()])])
    torch.testing.assert_close(*found)
    assert scan.path == path


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("dim", [0, -2])
def test_rows_that_pick_of_a_weight(dtype: torch.dtype, dim: int) -> None:
    """`W.index_select(0, each row's number)`, and torch.index_select by its names."""

    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.W, self.b = nn.Parameter(torch.randn(3, 16)), nn.Parameter(torch.randn(3, 4))

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            which = x[:, :3].argmax(1).to(dtype)
            W = self.W.index_select(dim, which).view(-1, 4, 4)
            b = torch.index_select(input=self.b, dim=0, index=which)
            h = torch.tanh(torch.bmm(W, h.unsqueeze(2)).squeeze(2) + b + x)
            return h, h

    cell = Experts().double()
    scan, found = Scan(cell, fallback="error"), []
    x, h = (
        torch.randn(5, 4, 4, dtype=torch.float64),
        torch.randn(4, 4, dtype=torch.float64, requires_grad=True),
    )
    for run in (scan, lambda *a: plain_loop(cell, *a)):
        y = run(x, h).y
        found.append([y, *torch.autograd.grad(y.sin().sum(), [h, *cell.parameters()])])
    torch.testing.assert_close(*found)
    assert scan.path == FAST
