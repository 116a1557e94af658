"""Places within a row, on the core: the largest, an order, what is picked and placed by indices; equal elements as
torch takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from elman.engine import Scan
from elman.engine.call.loop import plain_loop

pytest.importorskip("elman._core")
N = 6
Body = Callable[[Any, Tensor, Tensor], Tensor]


class Cell(nn.Module):
    """h' = tanh(f(x, U h))."""

    pick: Tensor

    def __init__(self, body: Body, drawn: bool = False) -> None:
        super().__init__()
        self.body, self.u = body, nn.Linear(N, N)
        self.table = nn.Embedding(N, N)
        self.heads = nn.MultiheadAttention(4, 2, batch_first=True)
        self.wide = nn.MultiheadAttention(4, 2)
        self.register_buffer("pick", torch.tensor([3, 1, 0, -1, 3, 2]))

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.body(self, x, self.u(h)))
        return h, h


def one_hot(cell: Any, x: Tensor, u: Tensor) -> Tensor:
    return x + F.one_hot(u.argmax(1), N).to(u.dtype) * u


def straight_through(cell: Any, x: Tensor, u: Tensor) -> Tensor:
    soft = u.softmax(1)
    hard = torch.zeros_like(soft).scatter_(1, soft.max(1, keepdim=True)[1], 1.0)
    return x + (hard - soft.detach() + soft) @ cell.u.weight


def best_of(cell: Any, x: Tensor, u: Tensor) -> Tensor:
    values, places = (u + x).topk(2, 1)
    return torch.zeros_like(u).scatter(1, places, values.softmax(1))


def slots(t: Tensor) -> Tensor:
    return t.repeat(1, 2).view(-1, 3, 4)


def between_slots(cell: Any, x: Tensor, u: Tensor) -> Tensor:
    s = slots(u + x)
    return F.scaled_dot_product_attention(s, s, s).flatten(1)[:, :N]


def heads(cell: Any, x: Tensor, u: Tensor) -> Tensor:
    out, weights = cell.heads(slots(u), slots(x), slots(x))
    return out.flatten(1)[:, :N] + weights.sum(2).repeat(1, 2)


def masked_heads(cell: Any, x: Tensor, u: Tensor) -> Tensor:
    far = torch.ones(3, 3, dtype=torch.bool).triu(1)
    s = slots(u + x)
    return cell.heads(s, s, s, attn_mask=far, need_weights=False)[0].flatten(1)[:, :N]


def steps_first(cell: Any, x: Tensor, u: Tensor) -> Tensor:
    s, blind = slots(u + x).transpose(0, 1), slots(x)[:, :, 0] > 1.5
    return cell.wide(s, s, s, key_padding_mask=blind)[0].transpose(0, 1).flatten(1)[:, :N]


BODIES: dict[str, Body] = {
    "argmax": lambda c, x, u: x + c.table(u.argmax(1)),
    "argmin, kept": lambda c, x, u: x + c.table(u.argmin(1, keepdim=True)).squeeze(1),
    "max with its place": lambda c, x, u: x + u.max(1, keepdim=True)[0] * c.table(u.max(1)[1]),
    "min": lambda c, x, u: x * u.min(1, keepdim=True).values,
    "one hot": one_hot,
    "straight through": straight_through,
    "gather": lambda c, x, u: x + u.gather(1, u.argsort(stable=True, dim=1)),
    "gather of fewer": lambda c, x, u: x + u.gather(1, x.argmax(1, keepdim=True)),
    "gather along the middle": lambda c, x, u: (
        x + u.view(-1, 3, 2).gather(1, x.view(-1, 3, 2).argsort(stable=True, dim=1)).flatten(1)
    ),
    "rows picked": lambda c, x, u: (
        x + u.view(-1, 2, 3).gather(1, x[:, :2].argmax(1).view(-1, 1, 1).expand(-1, 1, 3)).flatten(1).repeat(1, 2)
    ),
    "sort": lambda c, x, u: u.sort(stable=True).values * torch.sort(x, stable=True, dim=1, descending=True).values,
    "sorted along the middle": lambda c, x, u: x + torch.sort(u.view(-1, 3, 2), stable=True, dim=1).values.flatten(1),
    "topk": best_of,
    "smallest": lambda c, x, u: x + u.topk(3, 1, largest=False, sorted=False).values.sum(1, keepdim=True),
    "places of the module": lambda c, x, u: x + u[:, c.pick],
    "index_select": lambda c, x, u: (
        x + u.view(-1, 2, 3).index_select(2, c.pick[3:].remainder(3)).flatten(1)
    ),
    "scatter_add": lambda c, x, u: x + torch.zeros_like(u).scatter_add(1, x.topk(4).indices, u[:, :4]),
    "scatter of a number": lambda c, x, u: (x + u).scatter(1, x.argmax(1, keepdim=True), 0.5),
    "logaddexp": lambda c, x, u: torch.logaddexp(x, u),
    "logsumexp": lambda c, x, u: x + torch.logsumexp(u, 1, keepdim=True),
    "attention between slots": between_slots,
    "nn.MultiheadAttention": heads,
    "nn.MultiheadAttention with a mask": masked_heads,
    "nn.MultiheadAttention, steps first": steps_first,
    "mixture of experts": lambda c, x, u: (
        torch.einsum("bi,bij->bj", u, c.table.weight.view(2, 3, N)[x[:, :2].argmax(1)].repeat(1, 2, 1)) + x
    ),
}  # fmt: skip


def outcome(run: Callable[..., Any], cell: Cell, x: Tensor, h: Tensor, **options: Any) -> list[Tensor]:
    result = run(x, h, **options)
    loss = (result.y * torch.cos(torch.arange(result.y.numel())).view(result.y.shape)).sum()
    leaves = [x, h, *cell.parameters()]
    grads = torch.autograd.grad(loss, leaves, allow_unused=True)
    return [
        result.y,
        result.state,
        *(torch.zeros_like(t) if g is None else g for t, g in zip(leaves, grads, strict=True)),
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", BODIES)
def test_on_the_core_as_in_the_loop(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    cell = Cell(BODIES[name]).to(dtype)
    scan = Scan(cell, fallback="error")
    tight = {torch.float32: 2e-4, torch.float64: 1e-9}[dtype]
    for T, B in ((5, 3), (2, 1)):
        x, h = (torch.randn(*s, N, dtype=dtype).requires_grad_() for s in ((T, B), (B,)))
        got, expected = outcome(scan, cell, x, h), outcome(lambda *a: plain_loop(cell, *a), cell, x, h)
        assert scan.path == "native", scan.explain().reason
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=tight, atol=tight)


TIED: dict[str, Body] = {
    "argmax": lambda c, x, u: x * 0 + x.argmax(1, keepdim=True),
    "argmin": lambda c, x, u: x * 0 + x.argmin(1, keepdim=True),
    "max": lambda c, x, u: x * 0 + x.max(1, keepdim=True)[1],
    "sort": lambda c, x, u: x * 0 + x.sort(stable=True)[1],
    "sort down": lambda c, x, u: x * 0 + x.sort(descending=True, stable=True)[1],
    "topk": lambda c, x, u: x * 0 + x.topk(3, 1)[1].repeat(1, 50)[:, : x.shape[1]],
    "topk, one": lambda c, x, u: x * 0 + x.topk(1, 1)[1],
    "smallest": lambda c, x, u: x * 0 + x.topk(4, 1, largest=False)[1].repeat(1, 50)[:, : x.shape[1]],
    "unsorted": lambda c, x, u: x * 0 + x.topk(4, 1, sorted=False)[1].repeat(1, 50)[:, : x.shape[1]],
}


class Tied(nn.Module):
    def __init__(self, body: Body) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return self.body(self, x + h, h), h


@pytest.mark.parametrize("width", [4, 7, 40, 130])
@pytest.mark.parametrize("name", TIED)
def test_of_equal_elements_it_takes_those_that_torch_takes(name: str, width: int) -> None:
    torch.manual_seed(width)
    cell = Tied(TIED[name])
    scan = Scan(cell, fallback="error")
    for values in (2, 3, 20):
        x = torch.randint(0, values, (40, 3, width)).float()
        for place in (None, torch.nan, torch.inf, -torch.inf):
            if place is not None:
                x = torch.where(torch.rand(x.shape) < 0.1, place, x)
            h = torch.zeros(3, width)
            got, expected = scan(x, h), plain_loop(cell, x, h)
            assert scan.path == "native", scan.explain().reason
            torch.testing.assert_close(got.y.nan_to_num(-7), expected.y.nan_to_num(-7), rtol=0, atol=0)


def test_a_hard_choice_is_drawn() -> None:
    """F.gumbel_softmax(hard=True): one 1 in each row, at places that follow the chances."""

    class Chooses(nn.Module):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            y = F.gumbel_softmax(x, hard=True)
            return y, 0.5 * h + y

    scan = Scan(Chooses(), fallback="error")
    chances = torch.tensor([0.5, 0.3, 0.2])
    x = chances.log().expand(400, 5, 3).clone().requires_grad_()
    y = scan(x, torch.zeros(5, 3)).y
    assert scan.path == "native"
    assert torch.equal(y.detach().sum(2), torch.ones(400, 5)) and set(y.detach().unique().tolist()) == {
        0.0,
        1.0,
    }
    torch.testing.assert_close(y.detach().mean((0, 1)), chances, rtol=0, atol=0.05)
    (grad,) = torch.autograd.grad((y * torch.arange(3.0)).sum(), x)
    assert float(grad.abs().max()) > 0 and all(bool(t.isfinite().all()) for t in tree_leaves(grad))


def test_with_lengths_and_resets() -> None:
    torch.manual_seed(0)
    cell = Cell(BODIES["topk"]).double()
    scan = Scan(cell, fallback="error")
    x, h = (torch.randn(*s, N, dtype=torch.float64).requires_grad_() for s in ((6, 4), (4,)))
    for options in (
        {"lengths": torch.tensor([6, 0, 3, 1])},
        {"reset": torch.rand(6, 4) < 0.3},
        {"reverse": True},
    ):
        got = outcome(scan, cell, x, h, **options)
        expected = outcome(lambda *a, **k: plain_loop(cell, *a, **k), cell, x, h, **options)
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b)
    assert scan.path == "native"
