"""Rows by their numbers, running products, padding by what stands beside, angles: on the core, equal to the loop."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import elman.nn as en
from elman.engine import EngineError, Scan
from elman.engine.call.loop import plain_loop
from elman.engine.tracing.decompose import WHOLE
from engine_rules.test_avoidable_fallbacks import assert_native
from nn.by_hand import FAST, assert_same
from tolerances import assert_near

DOUBLE = torch.float64
Body = Callable[[Any, Tensor, Tensor], Tensor]


def numbers(x: Tensor, form: str) -> Tensor:
    """0, 1, 2, ... for the rows, as a column where that is asked for."""
    B = x.shape[0]
    return {
        "plain": lambda: torch.arange(B), "from": lambda: torch.arange(0, x.size(0), device=x.device),
        "keyword": lambda: torch.arange(start=0, end=B, dtype=torch.long),
        "column": lambda: torch.arange(B)[:, None], "unsqueeze": lambda: torch.arange(B).unsqueeze(1),
        "view": lambda: torch.arange(B).view(-1, 1), "wide": lambda: torch.arange(B).unsqueeze(1).expand(-1, 2),
    }[form]()  # fmt: skip


ONE, SEVERAL = ("plain", "from", "keyword"), ("column", "unsqueeze", "view", "wide")


def fit(found: Tensor) -> Tensor:
    """Six numbers a row."""
    return found.reshape(found.shape[0], -1).repeat(1, 6)[:, :6]


@settings(max_examples=16)
@given(
    form=st.sampled_from(ONE), place=st.sampled_from(["one", "two", "behind", "last", "negative"]),
    of=st.sampled_from("ux"), write=st.sampled_from([None, None, "number", "values", "added"]),
)  # fmt: skip
def test_one_place_of_each_row(form: str, place: str, of: str, write: str | None) -> None:
    def body(cell: Any, x: Tensor, u: Tensor) -> Tensor:
        m = (u if of == "u" else x + 0 * u).clone().view(-1, 2, 3)
        n, i, j = numbers(x, form), u[:, :2].argmax(1), x[:, :3].argmax(1)
        index: Any = {
            "one": (n, i), "two": (n, i, j), "behind": (n, slice(None), j), "last": (n, -1), "negative": (n, i - 2),
        }[place]  # fmt: skip
        if write == "number":
            m[index] = 0.25
        elif write is not None:
            there = m[index]
            values = x[:, : there.shape[1:].numel()].view_as(there)
            m[index] = values if write == "values" else there + values
        else:
            return x + fit(m[index])
        return x + m.flatten(1)

    assert_native(body)


@settings(max_examples=12)
@given(
    form=st.sampled_from(SEVERAL), of=st.sampled_from("ux"), what=st.sampled_from(["top", "list", "slots"]),
    write=st.booleans(),
)  # fmt: skip
def test_several_places_of_each_row(form: str, of: str, what: str, write: bool) -> None:
    def body(cell: Any, x: Tensor, u: Tensor) -> Tensor:
        m = (u if of == "u" else x + 0 * u).clone()
        n, top = numbers(x, form), u.topk(2).indices
        if what == "slots":
            m, top = m.view(-1, 3, 2), u[:, :3].topk(2).indices
        index: Any = (n, [4, 0] if what == "list" else top)
        if write:
            m[index] *= 2.0
            return x + m.flatten(1)
        return x + fit(m[index])

    assert_native(body)


@pytest.mark.parametrize(
    "body",
    [
        lambda cell, x, u: x + torch.arange(x.shape[0])[:, None] * u,
        lambda cell, x, u: x + u[torch.arange(x.shape[0])],
        lambda cell, x, u: x + u[torch.arange(x.shape[0]).flip(0), x.argmax(1)][:, None],
        lambda cell, x, u: x + u[x.argmax(1), torch.arange(x.shape[0])][:, None],
        lambda cell, x, u: x + u[torch.arange(x.shape[0]).view(1, -1), x.argmax(1)].sum() * u,
        lambda cell, x, u: x + u[torch.arange(x.shape[0] - 1), 0].sum() * u,
    ],
)
def test_numbers_that_say_more_are_refused(body: Body) -> None:
    """By name; the loop answers where it can."""
    cell = en.Recurrent(_Cell(body), fallback="error")
    with pytest.raises(EngineError, match="plain Python loop"):
        cell(torch.randn(3, 4, 6))


class _Cell(nn.Module):
    def __init__(self, body: Body) -> None:
        super().__init__()
        self.hidden_size, self.body, self.u = 6, body, nn.Linear(6, 6)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.body(self, x, self.u(h)))
        return h, h


@pytest.mark.parametrize("rows", [1, 2, 6, 31, 37])
def test_any_number_of_rows(rows: int) -> None:
    """Also as many as there are features, and as the tracer takes."""
    torch.manual_seed(1)
    layer = en.Recurrent(
        _Cell(lambda c, x, u: x + fit(u[torch.arange(len(x.shape) and x.shape[0]), x.argmax(1)]))
    )
    layer = layer.double()
    x = torch.randn(3, rows, 6, dtype=DOUBLE, requires_grad=True)
    inputs = {"x": x, **dict(layer.named_parameters())}
    found = layer(x)
    assert layer.path == FAST
    layer.backend = "loop"
    assert_same(found, layer(x), inputs)


# ---- products, padding, angles


@settings(max_examples=12)
@given(values=st.sampled_from(["drawn", "zeros", "mask"]), dim=st.sampled_from([1, -1, 2]))
def test_running_products(values: str, dim: int) -> None:
    """With zeros among them, which have a gradient too."""

    def body(cell: Any, x: Tensor, u: Tensor) -> Tensor:
        m = {"drawn": u, "zeros": torch.relu(u), "mask": u * (x > 0)}[values].view(-1, 2, 3)
        return x + torch.cumprod(m, dim).flatten(1) + (1 + 0.1 * u).cumprod(1)

    assert_native(body)


@settings(max_examples=6)
@given(
    name=st.sampled_from(["cummax", "cummin"]), values=st.sampled_from(["drawn", "equal", "steps"]),
    dim=st.sampled_from([1, -1, 2]), method=st.booleans(),
)  # fmt: skip
def test_extremes_so_far(name: str, values: str, dim: int, method: bool) -> None:
    """Among equal ones the last gets the gradient."""

    def body(cell: Any, x: Tensor, u: Tensor) -> Tensor:
        m = {"drawn": u, "equal": 0 * u + x[:, :1], "steps": u * (u > 0)}[values].view(-1, 2, 3)
        found = getattr(m, name)(dim) if method else getattr(torch, name)(m, dim=dim)
        return x + found.values.flatten(1)

    assert_native(body)


@pytest.mark.parametrize("name", ["cummax", "cummin"])
@settings(max_examples=30)
@given(data=st.data())
def test_extremes_are_torchs(name: str, data: st.DataObject) -> None:
    """Also of NaN, infinities and equal elements."""
    some = st.sampled_from([0.0, -0.0, 1.0, 1.0, -2.5, float("inf"), float("-inf"), float("nan")])
    n, dim = data.draw(st.integers(1, 9)), data.draw(st.integers(-2, 1))
    rows = data.draw(st.lists(st.lists(some, min_size=n, max_size=n), min_size=1, max_size=3))
    x = torch.tensor(rows, dtype=DOUBLE, requires_grad=True)
    found, expected = WHOLE[name](x, dim), getattr(torch, name)(x, dim)
    torch.testing.assert_close(found.values, expected.values, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(found.indices, expected.indices)
    weights = torch.randn_like(x)
    grads = [torch.autograd.grad((r.values.nan_to_num() * weights).sum(), x)[0] for r in (found, expected)]
    torch.testing.assert_close(*grads)


@settings(max_examples=12)
@given(
    mode=st.sampled_from(["reflect", "replicate", "circular"]),
    sides=st.lists(st.integers(0, 2), min_size=2, max_size=2), both=st.booleans(),
)  # fmt: skip
def test_padding_by_what_stands_beside(mode: str, sides: list[int], both: bool) -> None:
    def body(cell: Any, x: Tensor, u: Tensor) -> Tensor:
        if both:
            return x + fit(F.pad(u.view(-1, 1, 2, 3), (*sides, 1, 0), mode))
        return x + fit(F.pad(u.view(-1, 2, 3), sides, mode))

    assert_native(body)


def test_angles_are_native() -> None:
    def body(cell: Any, x: Tensor, u: Tensor) -> Tensor:
        inside = 0.9 * torch.tanh(u)
        found = torch.atan2(u, x) + u.atan() + inside.asin() + inside.acos() + inside.atanh() + u.tan()
        return x + 0.1 * (found + u.sinh() + u.cosh()) + torch.atan2(x, u.detach())

    assert_native(body)


FUNCTIONS = {"atan": None, "asin": None, "acos": None, "tan": None, "sinh": 85.0, "cosh": 85.0, "atanh": None}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_angles_at_zeros_and_the_ends_of_the_range(dtype: torch.dtype) -> None:
    """Signs of zeros too: what stands in the step is what runs."""

    class Angles(nn.Module):
        def forward(self, x: Any, h: Tensor) -> tuple[Any, Tensor]:
            y, at = x
            found = [torch.atan2(y, at)]
            for name, most in FUNCTIONS.items():
                found.append(getattr(torch, name)(y if most is None else y.clamp(-most, most)))
            return torch.stack(found, -1), h

    info = torch.finfo(dtype)
    ends = [0.0, 1.0, 0.5, 0.41421356, 2.5, 1e-3, info.tiny, info.tiny / 8, info.max, float("inf"), 21.0]
    parts = torch.tensor([*ends, *[-e for e in ends], float("nan")], dtype=dtype)
    y, x = (t.reshape(1, -1, 1) for t in torch.meshgrid(parts, parts, indexing="ij"))
    scan, h = Scan(Angles(), fallback="error"), torch.zeros(y.shape[1], 1, dtype=dtype)
    drawn = torch.rand_like(y)
    scan((drawn, drawn.flip(1)), h)  # ordinary numbers first: what is verified then is used for these
    found, expected = scan((y, x), h).y, plain_loop(Angles(), (y, x), h).y
    assert scan.path == FAST
    assert_near(found, expected)
    assert bool((found.signbit() == expected.signbit())[~expected.isnan()].all())
