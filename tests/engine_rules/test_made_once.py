"""Parametrized tensors under `parametrize.cached()`, and those of a stock layer: made once a call, and native."""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

import elman.nn as en
from elman.engine import EngineWarning
from nn.by_hand import FAST, assert_same
from tolerances import assert_near

DOUBLE = torch.float64
T, B, I, H = 5, 4, 3, 6


class Twice(nn.Module):
    """A parametrized matrix that is read at two places, another one that is not read, and a complex state."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden_size = H
        self.x, self.h, self.idle = nn.Linear(I, H), nn.Linear(H, H), nn.Linear(H, H)
        parametrizations.spectral_norm(self.idle)

    def forward(self, x: Tensor, h: Tensor) -> Any:
        h = torch.tanh(self.x(x) + self.h(h) + 0.3 * h @ self.h.weight)
        return h, h


class Recording(Twice):
    """It keeps what it has seen."""

    def forward(self, x: Tensor, h: Tensor) -> Any:
        self.seen = h.detach()
        return super().forward(x, h)


class Turning(nn.Module):
    """A state of complex numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(I, H), nn.Linear(H, H, bias=False)

    def initial_state(self, batch: int, device: Any, dtype: Any) -> Tensor:
        return torch.zeros(batch, H, dtype=torch.complex128)

    def forward(self, x: Tensor, h: Tensor) -> Any:
        h = h * torch.polar(torch.full_like(h.real, 0.9), self.h(h.imag)) + self.x(x)
        return h.real, h


MAKERS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "torch's cell": (lambda: nn.GRUCell(I, H), "weight_hh"), "read twice": (Twice, "h.weight"),
    "records": (Recording, "h.weight"), "complex": (Turning, "h.weight"),
}  # fmt: skip
PARAMETRIZED: dict[str, Callable[[nn.Module, str], Any]] = {
    "spectral": parametrizations.spectral_norm, "orthogonal": parametrizations.orthogonal,
    "weight norm": parametrizations.weight_norm,
    "dropped": lambda m, name: parametrize.register_parametrization(m, name, nn.Dropout(0.3)),
}  # fmt: skip


def made(kind: str, how: str) -> nn.Module:
    torch.manual_seed(5)
    make, name = MAKERS[kind]
    cell = make().double()
    part, _, attribute = name.rpartition(".")
    PARAMETRIZED[how](cell.get_submodule(part), attribute)
    return cell


@contextmanager
def cached(seed: int) -> Iterator[None]:
    torch.manual_seed(seed)
    with parametrize.cached():
        yield


def assert_agree(ours: Any, theirs: Any, x: Tensor, seed: int = 0, **call: Any) -> Any:
    """Values, gradients, and what either has left in its buffers."""
    with cached(seed):
        a = ours(x, **call)
    with cached(seed):
        b = theirs(x, **call)
    assert_same(a, b, {"x": x, **dict(ours.named_parameters())}, {"x": x, **dict(theirs.named_parameters())})
    for (name, u), (_, v) in zip(ours.named_buffers(), theirs.named_buffers(), strict=True):
        assert_near(u, v, what=name)
    return a


@settings(max_examples=10)
@given(
    kind=st.sampled_from(sorted(MAKERS)), how=st.sampled_from(sorted(PARAMETRIZED)), reverse=st.booleans(),
    extras=st.sets(st.sampled_from(("lengths", "reset", "return_states"))),
    checkpoint_every=st.sampled_from((None, None, 2)),
)  # fmt: skip
def test_as_in_a_loop(
    kind: str, how: str, reverse: bool, extras: set[str], checkpoint_every: int | None
) -> None:
    cell = made(kind, how)
    ours = en.Recurrent(cell, reverse=reverse, checkpoint_every=checkpoint_every)
    theirs = en.Recurrent(
        copy.deepcopy(cell), reverse=reverse, checkpoint_every=checkpoint_every, backend="loop"
    )
    x = torch.randn(T, B, I, dtype=DOUBLE, requires_grad=True)
    call: dict[str, Any] = {"return_states": "return_states" in extras}
    if "lengths" in extras:
        call["lengths"] = torch.tensor([T, 0, 2, 3])
    if "reset" in extras:
        call["reset"] = torch.rand(T, B) < 0.3
    for seed in range(3):
        assert_agree(ours, theirs, x, seed, **call)
        assert ours.path == FAST
        with torch.no_grad():
            for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
                a.mul_(0.9)
                b.copy_(a)


def test_nothing_is_traced_again() -> None:
    ours = en.Recurrent(made("read twice", "spectral"), fallback="error")
    for _ in range(4):
        with cached(0):
            ours(torch.randn(T, B, I, dtype=DOUBLE))
    (scan,) = ours.scans()
    assert len(scan._cached.inner._entries) == 1


@pytest.mark.parametrize("how", sorted(PARAMETRIZED))
def test_two_calls_under_one_cache_have_the_same_weights(how: str) -> None:
    ours = en.Recurrent(made("torch's cell", how))
    theirs = en.Recurrent(copy.deepcopy(ours.cell), backend="loop")
    x = torch.randn(T, B, I, dtype=DOUBLE, requires_grad=True)
    found = []
    for layer in (ours, theirs):
        with cached(0):
            first = layer(x).y
            with torch.no_grad():
                for p in layer.parameters():
                    p.mul_(1.1)  # too late for what is cached
            found.append((first, layer(x).y))
    assert ours.path == FAST
    for a, b in zip(*found, strict=True):
        assert_near(a, b)


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("kind", ["torch's cell", "complex"])
def test_the_gradient_of_the_gradient(kind: str, later: bool) -> None:
    """Of the weights of that call, whatever has been called since."""
    cell = made(kind, "spectral")
    found = []
    for layer in (en.Recurrent(cell), en.Recurrent(copy.deepcopy(cell), backend="loop")):
        torch.manual_seed(1)
        x = torch.randn(T, B, I, dtype=DOUBLE, requires_grad=True)
        for _ in range(2):
            with cached(0):
                y = layer(x).y
        if later:
            with cached(0):
                layer(2 * x)
        (g,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        found.append([g, *torch.autograd.grad(g.square().sum(), list(layer.parameters()))])
    for a, b in zip(*found, strict=True):
        assert_near(a, b)


def test_a_parametrization_comes_and_goes() -> None:
    ours = en.Recurrent(made("read twice", "spectral"), fallback="error")
    theirs = en.Recurrent(made("read twice", "spectral"), backend="loop")  # a copy would share the class
    x = torch.randn(T, B, I, dtype=DOUBLE, requires_grad=True)
    assert_agree(ours, theirs, x)
    for layer in (ours, theirs):
        parametrize.remove_parametrizations(layer.cell.h, "weight")
    assert_agree(ours, theirs, x)
    for layer in (ours, theirs):
        torch.manual_seed(2)
        parametrizations.spectral_norm(layer.cell.x)
    assert_agree(ours, theirs, x)
    for layer in (ours, theirs):
        layer.eval()
    assert_agree(ours, theirs, x)
    assert ours.path == FAST


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("norm", [parametrizations.spectral_norm, nn.utils.spectral_norm])
def test_without_a_cache_spectral_norm_iterates_at_each_step(norm: Any) -> None:
    """As a loop over the cell does: nothing faster gives the same."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cell = norm(nn.GRUCell(I, H).double(), "weight_hh")
    ours, theirs = en.Recurrent(cell), copy.deepcopy(cell)
    x, h = torch.randn(T, B, I, dtype=DOUBLE), torch.zeros(B, H, dtype=DOUBLE)
    with pytest.warns(EngineWarning, match=r"parametrize\.cached\(\): one power iteration a call"):
        y = ours(x).y
    for t in range(T):
        h = theirs(x[t], h)
        assert_near(y[t], h)
    for u, v in zip(cell.buffers(), theirs.buffers(), strict=True):
        assert_near(u, v)
    assert ours.path == "loop"


@pytest.mark.parametrize(("kind", "how"), [("RNN", "spectral"), ("LSTM", "dropped"), ("GRU", "weight norm")])
def test_a_stock_layer_reads_its_weights_once_a_call(kind: str, how: str) -> None:
    """One power iteration for all directions and steps."""
    torch.manual_seed(0)
    layer = getattr(en, kind)(I, H, 2, bidirectional=True).double()
    names = [name for name, _ in layer.named_parameters() if name.startswith("weight_hh")]
    plain = copy.deepcopy(layer)
    for name in names:
        PARAMETRIZED[how](layer, name)
    x = torch.randn(T, B, I, dtype=DOUBLE, requires_grad=True)
    for seed in range(3):
        other = copy.deepcopy(layer)
        torch.manual_seed(seed)
        y = layer(x)[0]
        torch.manual_seed(seed)
        weights = {name: getattr(other, name) for name in names}  # one evaluation of each
        rest = {n: getattr(other, n) for n, _ in plain.named_parameters() if n not in names}
        z = torch.func.functional_call(plain, {**weights, **rest}, (x,))[0]
        assert_near(y, z)
        a, b = (
            torch.autograd.grad(v.square().sum(), [x, *m.parameters()]) for v, m in ((y, layer), (z, other))
        )
        for u, v in zip(a, b, strict=True):
            assert_near(u, v)
        for u, v in zip(layer.buffers(), other.buffers(), strict=True):
            assert_near(u, v)
        assert layer.path == FAST
