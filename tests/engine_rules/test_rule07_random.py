"""Rule 7, random ops: a fresh draw at every step, never static, with the gradient of the mask that was drawn."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from battery.cells_simple import H, I
from battery.running import Run
from elman.engine import Scan

T, B = 40, 50
Draw = Callable[[Tensor], Tensor]

# Each gives a factor of shape (B, H) for a tensor of ones (B, H), with mean 1.
DRAWS: dict[str, Draw] = {
    "dropout": lambda ones: F.dropout(ones, 0.25),
    "module": nn.Dropout(0.25),
    "bernoulli": lambda ones: torch.bernoulli(ones * 0.75) / 0.75,
    "bernoulli_in_place": lambda ones: torch.empty_like(ones).bernoulli_(0.75) / 0.75,
    "rand_like": lambda ones: (torch.rand_like(ones) < 0.75).to(ones.dtype) / 0.75,
    "rand": lambda ones: (torch.rand(ones.shape) < 0.75).to(ones.dtype) / 0.75,
    "randn": lambda ones: 1 + torch.randn(ones.shape[0], ones.shape[1], dtype=ones.dtype),
    "randn_like": lambda ones: 1 + torch.randn_like(ones),
    "uniform_in_place": lambda ones: 2 * torch.empty_like(ones).uniform_(),
    "alpha_noise": lambda ones: 1 + 0.1 * torch.normal(torch.zeros_like(ones), torch.ones_like(ones)),
}


class Noisy(nn.Module):
    """y_t is the factor that was drawn; x and state are multiplied by it."""

    def __init__(self, draw: Draw) -> None:
        super().__init__()
        self.draw = draw
        self.p = nn.Parameter(torch.ones(H))

    def forward(self, x: Tensor, h: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        factor = self.draw(torch.ones_like(h))
        return (factor, x * factor * self.p), 0.5 * h + x * factor


@pytest.mark.parametrize("name", DRAWS)
def test_one_draw_a_step(name: str) -> None:
    """Factors differ between steps, rows and calls, have their mean, and the gradient is that of the very factor."""
    cell = Noisy(DRAWS[name])
    run = Run(Scan(cell))
    x = torch.randn(T, B, H, requires_grad=True)
    (factor, y), final, _ = run(x, torch.zeros(B, H))
    assert abs(float(factor.detach().mean()) - 1) < 0.05
    flat = factor.detach().reshape(T, B * H)
    assert all(not torch.equal(flat[0], flat[t]) for t in range(1, T)), "the same draw at two steps"
    assert all(not torch.equal(factor[:, 0], factor[:, b]) for b in range(1, B)), "the same draw in two rows"
    torch.testing.assert_close(y, x * factor)
    weights = 0.5 ** torch.arange(T - 1, -1, -1).view(T, 1, 1)
    torch.testing.assert_close(final, (weights * (x * factor)).sum(0), atol=1e-5, rtol=1e-4)
    gx, gp = torch.autograd.grad(y.sum() + final.sum(), [x, cell.p])
    torch.testing.assert_close(gx, factor + weights * factor, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(gp, (x * factor).sum((0, 1)), atol=1e-3, rtol=1e-4)
    assert not torch.equal(run(x, torch.zeros(B, H)).y[0], factor), "the same draw at two calls"


@pytest.mark.parametrize("name", ["dropout", "randn_like", "rand"])
def test_seed_decides(name: str) -> None:
    """The same seed gives the same draws, at the first call with its trace as well as later."""
    run = Run(Scan(Noisy(DRAWS[name])))
    x, h = torch.randn(6, 3, H), torch.zeros(3, H)
    results = []
    for _ in range(3):
        torch.manual_seed(7)
        results.append(run(x, h).y[0])
    assert torch.equal(results[1], results[2])
    assert torch.equal(results[0], results[1]), "the first call draws otherwise than the second"


def test_dropped_weights_at_each_step() -> None:
    """A mask over a weight inside the step (drop-connect by the step): random, so never static."""
    U = nn.Parameter(torch.ones(H, H))

    def step(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        W = F.dropout(U, 0.5)
        return W.expand(x.size(0), H, H), h + x @ W

    run = Run(Scan(step))
    y, final, _ = run(torch.ones(8, 3, H), torch.zeros(3, H))
    assert len({tuple(y[t, 0].flatten().tolist()) for t in range(8)}) == 8, "one draw for all steps"
    for b in range(1, 3):
        assert torch.equal(y[:, 0], y[:, b]), "one weight, but another mask in another row"
    torch.testing.assert_close(final[0], y[:, 0].sum((0, 1)))
    (g,) = torch.autograd.grad(final.sum(), U)
    torch.testing.assert_close(g, 3 * y[:, 0].sum(0).detach())


def test_draw_without_a_batch() -> None:
    """One number a step for all rows: the same in each row, another at each step."""

    def step(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return x * torch.rand(()), h + x

    y = Run(Scan(step))(torch.ones(20, 3, H), torch.zeros(3, H)).y
    assert len(set(y[:, 0, 0].tolist())) == 20
    assert torch.equal(y, y[:, :1, :1].expand_as(y))


def test_draws_only_for_rows_that_go() -> None:
    """With lengths, a row that has ended gives zeros, and dropout is as in the loop."""
    run = Run(Scan(Noisy(DRAWS["dropout"])))
    lengths = torch.tensor([5, 0, 3])
    (factor, y), _, _ = run(torch.ones(6, 3, H), torch.zeros(3, H), lengths=lengths)
    for b, n in enumerate(lengths.tolist()):
        assert not factor[n:, b].any()
        assert not y[n:, b].any()
    assert 0.6 < float((factor[:5, 0] > 0).float().mean()) < 0.95


def test_dropout_in_eval_is_nothing() -> None:
    """In eval the same cell is exact and fast."""
    cell = Noisy(nn.Dropout(0.5))
    run = Run(Scan(cell.eval()))
    x = torch.randn(4, 3, H)
    assert torch.equal(run(x, torch.zeros(3, H)).y[1], x)
    assert run.scan.path != "loop"
    cell.train()
    assert not torch.equal(run(x, torch.zeros(3, H)).y[1], x)


def test_own_generator() -> None:
    """A generator of the user's own moves as in the loop, or at least is drawn from at every step."""
    generator = torch.Generator().manual_seed(3)

    def step(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        noise = torch.rand(H, generator=generator)
        return noise.expand(x.size(0), H), h + x

    y = Run(Scan(step))(torch.ones(10, 3, H), torch.zeros(3, H)).y
    assert len({tuple(row.tolist()) for row in y[:, 0]}) == 10


@pytest.mark.parametrize("source", [random.random, lambda: float(torch.rand(()))])
def test_python_chance(source: Callable[[], float]) -> None:
    """Numbers from Python's own generator are no constants of the trace."""

    def step(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return x * source(), h + x

    run = Run(Scan(step))
    y = run(torch.ones(10, 3, H), torch.zeros(3, H)).y
    assert len(set(y[:, 0, 0].tolist())) == 10
    assert run.scan.path == "loop"


def test_layer_with_inner_dropout_in_the_recurrence() -> None:
    """dropout(h) inside the recurrent product: another mask at every step, and a consistent gradient."""
    lin = nn.Linear(H, H)

    def step(x: Tensor, h: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        kept = F.dropout(h, 0.5)
        new = torch.tanh(x + lin(kept))
        return (kept, new), new

    run = Run(Scan(step))
    x = torch.randn(9, 4, H, dtype=torch.float32, requires_grad=True)
    h0 = torch.ones(4, H, requires_grad=True)
    (kept, new), final, _ = run(x, h0)
    before = torch.cat([h0.unsqueeze(0), new[:-1]])
    mask = (kept / before).detach()
    assert set(mask.round(decimals=3).flatten().tolist()) <= {0.0, 2.0}
    h, again = h0, []
    for t in range(9):
        h = torch.tanh(x[t] + lin(h * mask[t]))
        again.append(h)
    torch.testing.assert_close(new, torch.stack(again), atol=1e-5, rtol=1e-4)
    wrt = [x, h0, *lin.parameters()]
    loss, other = (new.cos().sum() + final.sum()), (torch.stack(again).cos().sum() + h.sum())
    for a, e in zip(torch.autograd.grad(loss, wrt), torch.autograd.grad(other, wrt), strict=True):
        torch.testing.assert_close(a, e, atol=1e-4, rtol=1e-3)


def test_input_width_is_used() -> None:
    """Dropout of the input part keeps the input's own width."""
    w = nn.Linear(I, H)

    def step(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        x = F.dropout(x, 0.5)
        h = torch.tanh(w(x) + h)
        return x, h

    y = Run(Scan(step))(torch.ones(30, 3, I), torch.zeros(3, H)).y
    assert y.shape == (30, 3, I)
    assert set(y.flatten().tolist()) == {0.0, 2.0}


def test_seed_inside_the_step() -> None:
    """A step that seeds torch itself means the same numbers at every step."""

    def step(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        with torch.random.fork_rng():
            torch.manual_seed(3)
            noise = torch.rand(x.size(0), H)
        return noise, h + x

    y = Run(Scan(step))(torch.ones(5, 3, H), torch.zeros(3, H)).y
    for t in range(1, 5):
        assert torch.equal(y[t], y[0])
