"""A slower path that is not the step's own doing is told, once; a named backend that cannot run a step is an error."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import elman
from elman.engine import EngineError, EngineWarning, Scan


def said(call: Callable[[], Any]) -> list[str]:
    """The engine's warnings of a call."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(w.message) for w in caught if issubclass(w.category, EngineWarning)]


def stacked(layer: nn.Module, models: int) -> dict[str, Tensor]:
    return {n: torch.randn(models, *p.shape) * 0.3 for n, p in layer.named_parameters()}


def over_models(layer: nn.Module, x: Tensor, weights: dict[str, Tensor]) -> Tensor:
    return torch.func.vmap(lambda w: torch.func.functional_call(layer, w, (x,))[0])(weights)


def test_stacked_weights() -> None:
    """vmap over weights: as each model alone, and one warning that names what is faster."""
    layer, x = elman.LSTM(3, 4), torch.randn(5, 2, 3)
    weights = stacked(layer, 3)
    found: list[Tensor] = []
    texts = said(lambda: found.append(over_models(layer, x, weights)))
    assert len(texts) == 1 and "vmap" in texts[0] and "one model" in texts[0], texts
    assert not said(lambda: over_models(layer, x, weights))
    assert "vmap" in str(layer.explain()) and "functional_call" in str(layer.explain())
    for i in range(3):
        one = {n: w[i] for n, w in weights.items()}
        torch.testing.assert_close(found[0][i], torch.func.functional_call(layer, one, (x,))[0])
    assert layer.path == "native"


def test_a_gradient_by_a_transform() -> None:
    """torch.func.grad: one warning that names torch.autograd.grad; none for jvp or where the loop is meant."""
    layer, x = elman.GRU(3, 4), torch.randn(5, 2, 3)
    for kind, hint in (("grad", "torch.autograd.grad"), ("jvp", "")):
        for backend in (None, "loop"):
            again = elman.GRU(3, 4, backend=backend)

            def call(again: Any = again, kind: str = kind) -> None:
                if kind == "grad":
                    torch.func.grad(lambda x: again(x)[0].sum())(x)
                else:
                    torch.func.jvp(lambda x: again(x)[0].sum(), (x,), (x,))

            texts = said(call)
            assert len(texts) == (backend is None and hint != ""), texts
            assert all(hint in text for text in texts)
    assert said(lambda: layer(x)) == []


@pytest.mark.parametrize(
    "arguments", [{"backend": "native"}, {"backend": "reference"}, {"fallback": "error"}]
)
def test_no_loop_under_a_transform_where_it_is_an_error(arguments: dict[str, str]) -> None:
    layer = elman.GRU(3, 4, **arguments)
    with pytest.raises(EngineError, match="vmap"):
        over_models(layer, torch.randn(5, 2, 3), stacked(layer, 3))


@pytest.mark.parametrize("how", ["bfloat16", "float16", "autocast"])
def test_half_precision(how: str) -> None:
    """Half precision on the CPU: one warning; none where the reference was named, an error where the core was."""
    dtype = torch.float32 if how == "autocast" else getattr(torch, how)
    x = torch.randn(5, 2, 3, dtype=dtype)

    def run(layer: nn.Module) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
            layer(x)

    layer = elman.GRU(3, 4, dtype=dtype)
    texts = said(lambda: run(layer))
    remedy = "enabled=False" if how == "autocast" else "float32"
    assert len(texts) == 1 and how in texts[0] and remedy in texts[0], texts
    assert layer.path == "reference"
    assert not said(lambda: run(layer))
    assert not said(lambda: run(elman.GRU(3, 4, dtype=dtype, backend="reference")))
    with pytest.raises(EngineError, match="native"):
        run(elman.GRU(3, 4, dtype=dtype, backend="native"))


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_a_named_backend_that_cannot(backend: str) -> None:
    class Branch(nn.Module):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = h + x if x.sum() > 0 else h
            return h, h

    with pytest.raises(EngineError, match=f"backend='{backend}' cannot run"):
        Scan(Branch(), backend=backend)(torch.randn(5, 2, 3), torch.zeros(2, 3))


# ---- structures of states


class Pair(NamedTuple):
    h: Any
    c: Any


KINDS: list[Callable[[Any, Any], Any]] = [lambda a, b: (a, b), lambda a, b: [a, b], Pair]


def kinds() -> Iterator[tuple[int, ...]]:
    """(outer, inner) of what is given, then of what the step returns."""
    return iter([(a, b, c, d) for a in range(3) for b in range(3) for c in range(3) for d in range(3)])


class Nested(nn.Module):
    """A state `kind(h, kind(c, n))`, handed on as other kinds; torch's way of returning it too."""

    def __init__(self, outer: int, inner: int, only_state: bool) -> None:
        super().__init__()
        self.outer, self.inner, self.only_state = KINDS[outer], KINDS[inner], only_state
        self.x, self.h = nn.Linear(3, 4).double(), nn.Linear(4, 4).double()

    def forward(self, x: Tensor, state: Any) -> Any:
        h, (c, n) = state
        c = 0.5 * c + torch.tanh(self.x(x) + self.h(h))
        after = self.outer(torch.sigmoid(c), self.inner(c, n + h))
        return after if self.only_state else (h + n, after)


@settings(max_examples=6, deadline=None)
@given(st.sampled_from(list(kinds())), st.booleans(), st.integers(1, 5), st.integers(1, 3))
def test_states_of_another_kind(which: tuple[int, ...], only_state: bool, T: int, B: int) -> None:
    """Tuples, lists and named tuples are taken for each other, as a loop by hand takes them: values and gradients."""
    cell = Nested(which[2], which[3], only_state)
    x = torch.randn(T, B, 3, dtype=torch.float64)
    start = torch.randn(3, B, 4, dtype=torch.float64, requires_grad=True)
    outer, inner = KINDS[which[0]], KINDS[which[1]]

    state: Any = (start[0], (start[1], start[2]))
    ys = []
    for t in range(T):
        out = cell(x[t], state)
        y, state = (out[0], out) if only_state else out
        ys.append(y)
    expected = [torch.stack(ys), state[0], *state[1]]
    for backend in (None, "loop"):
        given_state = outer(start[0], inner(start[1], start[2]))
        y, last, _ = Scan(cell, backend=backend, fallback="error")(x, given_state)
        assert type(last) is type(given_state) and type(last[1]) is type(given_state[1])
        found = [y, last[0], *last[1]]
        torch.testing.assert_close(found, expected)
        leaves = [start, *cell.parameters()]
        torch.testing.assert_close(
            torch.autograd.grad(sum(v.sin().sum() for v in found), leaves),
            torch.autograd.grad(sum(v.sin().sum() for v in expected), leaves, retain_graph=True),
        )


@pytest.mark.parametrize("validate", [None, False])
def test_a_distribution_in_the_step(validate: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.distributions looks at its arguments: the warning names validate_args=False, with which it is native."""

    # Some packages turn the checks off for the whole process.
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", True)

    class Sampled(nn.Module):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = torch.distributions.Normal(x + h, torch.sigmoid(x) + 0.1, validate_args=validate).rsample()
            return h, h

    scan = Scan(Sampled())
    texts = said(lambda: scan(torch.randn(5, 2, 3), torch.zeros(2, 3)))
    assert len(texts) == (validate is None) and all("validate_args=False" in text for text in texts), texts
    assert scan.path == ("loop" if validate is None else "native")
