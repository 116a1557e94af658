"""Rule 13, bit for bit where the core's own products run: in rows, chunks and threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from battery.cells_simple import H
from battery.running import CORE, Run
from elman.engine import Scan

pytestmark = pytest.mark.skipif(not CORE, reason="the core is not built")


class Recurrence(nn.Module):
    """Nothing but the recurrent part: the input comes in ready, the output is the state."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.U = nn.Parameter(torch.randn(width, width) / width**0.5)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(x + self.norm(h @ self.U) * torch.sigmoid(h))


def _setting(width: int, rows: int, dtype: torch.dtype) -> tuple[Run, Tensor, Tensor]:
    cell = Recurrence(width).to(dtype)
    return Run(Scan(cell)), torch.randn(9, rows, width, dtype=dtype), torch.randn(rows, width, dtype=dtype)


sizes = pytest.mark.parametrize(("width", "rows"), [(H, 5), (64, 16), (33, 67)])
kinds = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@sizes
@kinds
def test_independent_of_the_other_rows(width: int, rows: int, dtype: torch.dtype) -> None:
    """A row alone, in another order, or beside others: the same bits."""
    run, x, h = _setting(width, rows, dtype)
    y = run(x, h).y
    assert run.scan.path == "native"
    for some in ([0], [rows - 1], [2, 1], list(reversed(range(rows)))):
        assert torch.equal(run(x[:, some], h[some]).y, y[:, some])
    lengths = torch.randint(0, 10, (rows,))
    ragged = run(x, h, lengths=lengths).y
    for b, n in enumerate(lengths.tolist()):
        assert torch.equal(ragged[:n, b], y[:n, b])


@sizes
@kinds
def test_chunked_is_whole(width: int, rows: int, dtype: torch.dtype) -> None:
    """Streaming step by step gives the bits of one call."""
    run, x, h = _setting(width, rows, dtype)
    whole = run(x, h)
    pieces = []
    for size in (1, 3, 1, 4):
        start = sum(p.shape[0] for p in pieces)
        result = run(x[start : start + size], h)
        pieces.append(result.y)
        h = result.state
    assert torch.equal(torch.cat(pieces), whole.y)
    assert torch.equal(h, whole.state)


@sizes
@kinds
def test_independent_of_the_threads(width: int, rows: int, dtype: torch.dtype) -> None:
    """One thread and two: forward and the gradients that the loop makes, to the bit."""
    run, x, h = _setting(width, rows, dtype)
    x.requires_grad_(), h.requires_grad_()
    found: list[tuple[Any, ...]] = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        y = run(x, h).y
        found.append((y, *torch.autograd.grad(y.sin().sum(), [x, h])))
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


def test_twice_the_same() -> None:
    """Two calls, two backwards: the same bits, parameters' gradients too."""
    run, x, h = _setting(33, 17, torch.float32)
    results: list[tuple[Any, ...]] = []
    for _ in range(2):
        y = run(x, h).y
        results.append((y, *torch.autograd.grad(y.sin().sum(), list(run.scan.step.parameters()))))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_special_values() -> None:
    """Infinity, NaN and denormal numbers go through the core as through torch: none is flushed or swallowed."""
    cases: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "product_with_zero": lambda x, h: h * 0 + x,
        "exponential": lambda x, h: torch.exp(x) + h * 0,
        "tanh": lambda x, h: torch.tanh(x) + h.clamp(-1, 1),
        "sigmoid": lambda x, h: torch.sigmoid(x) * (1 + h * 0),
        "maximum": lambda x, h: torch.maximum(x, h),
        "where": lambda x, h: torch.where(x > h, x, h),
        "relu": lambda x, h: torch.relu(x) + h * 0,
        "divide": lambda x, h: x / (h * 0 + x),
        "log": lambda x, h: torch.log(x) + 0 * h,
        "sqrt": lambda x, h: torch.sqrt(x) - 0 * h,
        "power": lambda x, h: x**2 + 0 * h,
    }
    special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        torch.inf,
        -torch.inf,
        torch.nan,
        1e-40,
        -1e-40,
        88.8,
        -104.0,
        3e38,
        1e-38,
    ]
    x = torch.tensor(special).repeat(3, 2, 1)
    h = torch.ones(2, len(special))
    for name, f in cases.items():
        result = Run(Scan(lambda a, b, f=f: f(a, b)))(x, h)
        state, expected = h, []
        for t in range(3):
            state = f(x[t], state)
            expected.append(state)
        torch.testing.assert_close(
            result.y,
            torch.stack(expected),
            equal_nan=True,
            rtol=2e-6,
            atol=0,
            msg=lambda m, n=name: f"{n}: {m}",
        )
