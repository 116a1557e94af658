"""What a step does to parameters alone is done once a call, and so is its gradient, on the sums over all steps: where
that is linear, though not each operation in it is; else the step runs on the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman.engine import EngineWarning, Scan
from elman.engine.call.loop import plain_loop

N = 5
Map = Callable[[Tensor], Tensor]
EYE = torch.eye(N, dtype=torch.float64)

LINEAR: dict[str, Map] = {
    "matrix_exp": lambda A: torch.matrix_exp(A - A.T),
    "householder_product": lambda A: torch.linalg.householder_product(A, A[0]),
    "qr": lambda A: torch.linalg.qr(A + 2 * EYE).Q,
    "eigh": lambda A: torch.linalg.eigh(A + A.T).eigenvectors.abs(),
    "svd": lambda A: torch.linalg.svdvals(A) * A,
    "embedding": lambda A: F.embedding(torch.arange(N).flip(0), A),
    "rows by a tensor": lambda A: A[torch.tensor([4, -1, 0, 1, 1])],
    "scatter": lambda A: A.scatter(0, torch.zeros(1, N, dtype=torch.long), A[:1] * 2),
    "Cayley": lambda A: torch.linalg.solve(EYE + A, EYE - A),
    "inverse": lambda A: torch.linalg.inv(A + 3 * EYE),
    "cholesky": lambda A: torch.linalg.cholesky(A @ A.T + EYE),
    "determinant": lambda A: A * torch.linalg.slogdet(A + 3 * EYE).logabsdet,
    "sorted": lambda A: A.sort(1).values,
    "cumulative product": lambda A: A.cumprod(1),
    "matrix power": lambda A: torch.linalg.matrix_power(A, 3),
}


class Cell(nn.Module):
    def __init__(self, of: Map) -> None:
        super().__init__()
        self.of, self.A = of, nn.Parameter(0.3 * torch.randn(N, N, dtype=torch.float64))

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(x + h @ self.of(self.A))
        return h, h


def outcome(run: Callable[..., Any], cell: Cell, T: int, B: int, seed: int) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    x, h = (torch.randn(*s, N, generator=g, dtype=torch.float64).requires_grad_() for s in ((T, B), (B,)))
    result = run(x, h)
    loss = (result.y * torch.cos(torch.arange(result.y.numel())).view(result.y.shape)).sum()
    return [result.y, *torch.autograd.grad(loss, (x, h, cell.A))]


@pytest.mark.parametrize("name", LINEAR)
def test_it_is_done_once(name: str) -> None:
    torch.manual_seed(0)
    cell = Cell(LINEAR[name])
    scan = Scan(cell, fallback="error")
    for seed, (T, B) in enumerate([(4, 3), (7, 1), (4, 3)]):
        got, expected = (
            outcome(scan, cell, T, B, seed),
            outcome(lambda x, h: plain_loop(cell, x, h), cell, T, B, seed),
        )
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)
        with torch.no_grad():
            cell.A += 0.1 * torch.randn_like(cell.A)
    assert scan.path == "native"


class Own(torch.autograd.Function):
    """The identity, with a gradient of its own."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, gradient: Map) -> Tensor:
        ctx.gradient = gradient
        return w * 1.0

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return ctx.gradient(g), None


NOT_LINEAR: dict[str, Map] = {
    "clamp": lambda g: g.clamp(-1, 1),
    "far clamp": lambda g: g.clamp(-1e6, 1e6),
    "normed": lambda g: g / g.norm(),
    "sign": lambda g: g.sign(),
    "orthogonal": lambda g: torch.linalg.qr(g)[0],
    "exponential": lambda g: torch.matrix_exp(g),
    "by order": lambda g: g.sort(1).values,
    "affine": lambda g: torch.cat([g[:1], EYE[1:]]),
}


@pytest.mark.parametrize("name", NOT_LINEAR)
def test_what_is_not_linear_is_done_at_each_step(name: str) -> None:
    torch.manual_seed(0)
    cell = Cell(lambda A: Own.apply(A, NOT_LINEAR[name]))  # type: ignore[no-untyped-call]
    scan = Scan(cell)
    with pytest.warns(EngineWarning, match="not linear"):
        got = outcome(scan, cell, 4, 3, 0)
    assert scan.path == "loop"
    for a, b in zip(got, outcome(lambda x, h: plain_loop(cell, x, h), cell, 4, 3, 0), strict=True):
        torch.testing.assert_close(a, b)


def test_a_linear_gradient_of_ones_own() -> None:
    cell = Cell(lambda A: Own.apply(A, lambda g: torch.linalg.solve(A.detach() + 3 * EYE, g)))  # type: ignore[no-untyped-call]
    scan = Scan(cell, fallback="error")
    got, expected = outcome(scan, cell, 4, 3, 0), outcome(lambda x, h: plain_loop(cell, x, h), cell, 4, 3, 0)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)
    assert scan.path == "native"
