"""What people write in a step and what needs no plain loop: right, with all gradients, and on the fast path."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import elman.nn as en
from elman.engine import EngineWarning
from nn.by_hand import FAST, assert_same

DOUBLE = torch.float64
T, B, H = 4, 3, 6
Body = Callable[[Any, Tensor, Tensor], Tensor]


class Cell(nn.Module):
    """h' = tanh(f(x, U h)), where f is what a test is about."""

    def __init__(self, body: Body, size: int = H) -> None:
        super().__init__()
        self.hidden_size, self.body, self.u = size, body, nn.Linear(size, size)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.body(self, x, self.u(h)))
        return h, h


def assert_native(body: Body, size: int = H) -> None:
    """The cell takes the fast path, and gives what the plain loop gives."""
    torch.manual_seed(2)
    layer = en.Recurrent(Cell(body, size), fallback="error").double()
    x = torch.randn(T, B, size, dtype=DOUBLE, requires_grad=True)
    inputs = {"x": x, **dict(layer.named_parameters())}
    found = layer(x)
    assert layer.path == FAST
    layer.backend = "loop"
    assert_same(found, layer(x), inputs)


# ---- random numbers


def stochastic(draw: Callable[[Any, Tensor], Tensor]) -> tuple[Tensor, Tensor, Any]:
    """Draws of a layer and of its plain loop, many of them."""
    layer = en.Recurrent(Cell(lambda cell, x, u: 0 * u + draw(cell, x)), fallback="error")
    x = torch.full((50, 40, H), 0.3)
    fast = torch.atanh(layer(x).y.detach().clamp(-0.9999, 0.9999))
    path = layer.path
    layer.backend = "loop"
    return fast, torch.atanh(layer(x).y.detach().clamp(-0.9999, 0.9999)), path


@pytest.mark.parametrize(
    "draw",
    [
        *[lambda cell, x, p=p: 0.5 * F.dropout(x, p, training=True) for p in (0.2, 0.5, 0.7)],
        lambda cell, x: torch.empty_like(x).bernoulli_(), lambda cell, x: torch.empty_like(x).bernoulli_(0.5),
        lambda cell, x: torch.bernoulli(x), lambda cell, x: torch.bernoulli(x.detach(), 0.25),
        lambda cell, x: F.dropout(torch.ones_like(x)) * 0.5, lambda cell, x: torch.empty_like(x).uniform_(),
        lambda cell, x: torch.empty_like(x).uniform_(-0.5, 0.25), lambda cell, x: 0.2 * torch.empty_like(x).normal_(),
        lambda cell, x: torch.empty_like(x).normal_(0.5, 0.1), lambda cell, x: 0.1 * torch.empty_like(x).exponential_(),
        lambda cell, x: torch.empty_like(x).exponential_(10.0), lambda cell, x: 0.3 * torch.rand_like(x),
        lambda cell, x: torch.normal(x.detach(), 0.1), lambda cell, x: torch.normal(0.2, x.detach().abs()),
        lambda cell, x: torch.normal(x.detach(), x.detach()[:, :1].abs()),
    ],
)  # fmt: skip
def test_draws_have_the_loops_distribution(draw: Any) -> None:
    fast, loop, path = stochastic(draw)
    assert path == FAST
    for moment in (1, 2):
        a, b = fast.pow(moment).mean(), loop.pow(moment).mean()
        assert abs(float(a - b)) < 0.02, (moment, a, b)
    assert float(fast.std(0).mean()) > 0.02  # each step draws anew


# ---- questions


@pytest.mark.parametrize("number", [True, False])
@pytest.mark.parametrize("name", ["__or__", "__and__", "__xor__", "__ror__"])
def test_booleans_beside_a_number(name: str, number: bool) -> None:
    assert_native(lambda cell, x, u: torch.where(getattr(x > 0, name)(number), x, u))
    assert_native(lambda cell, x, u: torch.where(getattr(u > 0, name)(number), x, u))


# ---- writing and picking

NUMBER = st.sampled_from([0.0, 1.0, -0.5, 2])
PLACES = st.lists(st.integers(-H, H - 1), min_size=1, max_size=5)


@st.composite
def cuts(draw: st.DrawFn) -> slice:
    start, stop = sorted(draw(st.lists(st.integers(0, H), min_size=2, max_size=2, unique=True)))
    return slice(start, stop, draw(st.integers(1, 3)))


@settings(max_examples=12)
@given(cut=st.one_of(cuts(), st.integers(-H, H - 1), PLACES), number=NUMBER, of_state=st.booleans())
def test_numbers_are_written(cut: Any, number: float, of_state: bool) -> None:
    def body(cell: Any, x: Tensor, u: Tensor) -> Tensor:
        out = (u if of_state else x).clone()
        out[:, cut] = number
        return out + 0.3 * (x if of_state else u)

    assert_native(body)


@given(
    cut=st.one_of(cuts(), st.integers(-H, H - 1), st.lists(st.integers(-H, H - 1), min_size=1, max_size=5))
)
def test_values_are_written(cut: Any) -> None:
    def body(cell: Any, x: Tensor, u: Tensor) -> Tensor:
        out = u.clone()
        width = out[:, cut].shape[1:]
        out[:, cut] = x[:, : width[0]] if width else x[:, 0]
        return out

    assert_native(body)


@settings(max_examples=12)
@given(places=PLACES, form=st.sampled_from(["list", "tensor", "select", "mask"]))
def test_places_are_picked(places: list[int], form: str) -> None:
    """Some of them twice: their gradients add up."""

    def body(cell: Any, x: Tensor, u: Tensor) -> Tensor:
        if form == "list":
            found = u[:, places]
        elif form == "tensor":
            found = u[:, torch.tensor(places)]
        elif form == "select":
            found = u.index_select(1, torch.tensor([p % H for p in places]))
        else:
            found = u[:, [i in places or i == 0 for i in range(H)]]
        return x + F.pad(found, (0, H))[:, :H]

    assert_native(body)


@settings(max_examples=6)
@given(first=cuts(), second=cuts(), number=st.sampled_from([None, 0.5]))
def test_blocks_of_matrices_are_written(first: slice, second: slice, number: float | None) -> None:
    def of_weight(cell: Any, x: Tensor, u: Tensor) -> Tensor:
        W = cell.u.weight.clone()
        W[first, second] = 0.25 if number is None else number
        return x @ W.t() + u

    def of_rows(cell: Any, x: Tensor, u: Tensor) -> Tensor:
        M = u.unsqueeze(2) * x.unsqueeze(1)
        M[:, first, second] = 2 * M[:, first, second] if number is None else number
        return M.sum(1)

    assert_native(of_weight)
    assert_native(of_rows)


def masked_rows(cell: Any, x: Tensor, u: Tensor) -> Tensor:
    out = u.clone()
    out[x[:, 0] > 0] = 0.5
    return out


def masked_elements(cell: Any, x: Tensor, u: Tensor) -> Tensor:
    out = u.clone()
    out[u > x] = -0.5
    return out


def masked_columns(cell: Any, x: Tensor, u: Tensor) -> Tensor:
    out = u.clone()
    out[:, cell.u.bias > 0] = 0.25
    return out + x


@pytest.mark.parametrize("body", [masked_rows, masked_elements, masked_columns])
def test_numbers_are_written_where_a_mask_is_true(body: Body) -> None:
    assert_native(body)


def test_rows_that_are_written_by_number_are_no_rows_of_their_own() -> None:
    def body(cell: Any, x: Tensor, u: Tensor) -> Tensor:
        out = u.clone()
        out[0] = 1.0
        return out + x

    layer = en.Recurrent(Cell(body))
    with pytest.warns(EngineWarning, match="plain Python loop"):
        layer(torch.randn(T, B, H))


# ---- one number a row


@pytest.mark.parametrize(
    "body",
    [
        lambda cell, x, u: u + x[:, :1], lambda cell, x, u: u + u.sum(1, keepdim=True) + x,
        lambda cell, x, u: u * torch.sigmoid(u[:, 1:2]) + x,
        lambda cell, x, u: u + cell.u.bias[:1] + x[:, 2:3] * u[:, :1],
        lambda cell, x, u: torch.sigmoid(F.linear(u, cell.u.weight[:1])) * x + u,
    ],
)  # fmt: skip
def test_one_number_a_row_is_added_to_all_units(body: Body) -> None:
    assert_native(body)
    assert_native(body, size=3)


# ---- no gradient at all


@pytest.mark.parametrize("body", [lambda cell, x, u: u.detach() + x, lambda cell, x, u: (u + x).detach()])
def test_a_step_through_which_no_gradient_goes(body: Body) -> None:
    layer = en.Recurrent(Cell(body), fallback="error")
    x = torch.randn(T, B, H)
    y = layer(x).y
    assert layer.path == FAST
    layer.backend = "loop"
    torch.testing.assert_close(y, layer(x).y)
