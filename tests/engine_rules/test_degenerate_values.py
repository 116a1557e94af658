"""What a step's tensors happen to hold at the first call decides nothing: zeros, constants and equal columns are right
after an optimizer has moved them, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from battery.oracle import unfold
from battery.registry import Inputs
from battery.running import Run, assert_matches
from elman.engine import Scan

ROWS, INPUTS = 4, 3


class Sum(nn.Module):
    """h = tanh of a sum, bracketed as drawn, of parameters of any shape that fits (zero at first), x W and h U."""

    def __init__(self, width: int, shapes: list[str], brackets: list[int]) -> None:
        super().__init__()
        sizes = {"()": (), "1": (1,), "H": (width,), "11": (1, 1), "1H": (1, width)}
        self.w, self.u = nn.Linear(INPUTS, width), nn.Linear(width, width, bias=False)
        self.g = nn.Linear(INPUTS, 1)
        self.vectors = nn.ParameterList(nn.Parameter(torch.zeros(sizes[s])) for s in shapes)
        self.brackets = brackets

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        terms = [*self.vectors, self.w(x), self.u(h), self.g(x)]
        for k in self.brackets:
            if len(terms) > 1:
                i = k % (len(terms) - 1)
                terms[i : i + 2] = [terms[i] + terms[i + 1]]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        h = torch.tanh(total)
        return h, h


def assert_right_while_it_learns(cell: nn.Module, x: Tensor, state: Tensor, path: str) -> None:
    """The path, and every value and gradient, at the first call and after each of two moves of all parameters."""
    run = Run(Scan(cell))
    for _ in range(3):
        some = x.clone().requires_grad_() if x.is_floating_point() else x
        assert_matches(
            run, cell, cell, Inputs(some, state.clone().requires_grad_(), torch.zeros_like(state), None)
        )
        assert run.scan.path == path, run.warned
        with torch.no_grad():
            for p in cell.parameters():
                p += 0.3 * torch.randn(p.shape, dtype=p.dtype)


@given(
    width=st.sampled_from([1, 2, 5]), shapes=st.lists(st.sampled_from(["()", "1", "H", "11", "1H"]), max_size=4),
    brackets=st.lists(st.integers(0, 5), max_size=6),
)  # fmt: skip
def test_sums_of_any_shapes(width: int, shapes: list[str], brackets: list[int]) -> None:
    torch.manual_seed(1)
    cell = Sum(width, shapes, brackets).double()
    x, h = torch.randn(3, ROWS, INPUTS).double(), torch.zeros(ROWS, width).double()
    assert_right_while_it_learns(cell, x, h, "native")


class Written(nn.Module):
    """A copy of a matrix, written in part with zeros that learn."""

    def __init__(self, write: Callable[[Tensor, Tensor], Any], shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight, self.part = nn.Parameter(0.3 * torch.randn(5, 5)), nn.Parameter(torch.zeros(shape))
        self.write = write
        write(self.weight.data, self.part.data)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        weight = self.weight.clone()
        self.write(weight, self.part)
        h = torch.tanh(x + h @ weight)
        return h, h


WRITES: dict[str, tuple[Callable[[Tensor, Tensor], Any], tuple[int, ...]]] = {
    "diagonal": (lambda w, v: w.diagonal().copy_(v), (5,)),
    "upper diagonal": (lambda w, v: w.diagonal(1).copy_(v), (4,)),
    "part of a diagonal": (lambda w, v: w[1:4].diagonal().copy_(v), (3,)),
    "diagonal added to": (lambda w, v: w.diagonal().add_(v), (5,)),
    "row": (lambda w, v: w[2].copy_(v), (5,)),
    "column": (lambda w, v: w[:, 2].copy_(v), (5,)),
    "block": (lambda w, v: w[1:3, 2:4].copy_(v), (2, 2)),
    "every other row": (lambda w, v: w[::2].copy_(v), (3, 5)),
    "turned": (lambda w, v: w.t()[1].copy_(v), (5,)),
    "by index": (lambda w, v: w.index_copy_(0, torch.tensor([3, 0]), v), (2, 5)),
    "by places": (lambda w, v: w.index_put_((torch.tensor([3, 0]), torch.tensor([1, 1])), v), (2,)),
    "by scatter": (lambda w, v: w.scatter_(1, torch.arange(5).unsqueeze(1), v), (5, 1)),
    "strided": (lambda w, v: w.as_strided((5,), (6,)).copy_(v), (5,)),
    "filled": (lambda w, v: w.fill_diagonal_(0.5), (5,)),
}


@pytest.mark.parametrize("name", WRITES)
def test_writes_into_a_copy(name: str) -> None:
    """A write into a copy of a parameter is there, on whichever path."""
    cell = Written(*WRITES[name]).double()
    run = Run(Scan(cell))
    for _ in range(3):
        x, h = torch.randn(3, ROWS, 5).double(), torch.zeros(ROWS, 5).double()
        assert_matches(
            run, cell, cell, Inputs(x.requires_grad_(), h.requires_grad_(), torch.zeros_like(h), None)
        )
        with torch.no_grad():
            cell.part += 0.3 * torch.randn_like(cell.part)
    fast = ("diagonal", "diagonal added to", "row", "column", "block", "turned")
    assert run.scan.path == "native" or name not in fast, run.warned


class Matrices(nn.Module):
    """A matrix for each row, one diagonal written, another read."""

    def __init__(self) -> None:
        super().__init__()
        self.d = nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
        m = torch.tanh(0.5 * m + x.unsqueeze(1) * m.transpose(1, 2))
        m = torch.diagonal_scatter(m, self.d * x, 0, 1, 2)
        return m.sum(1) + m.diagonal(1, 2, 1)[:, :1], m


def test_a_diagonal_of_each_row() -> None:
    x, m = torch.randn(3, ROWS, 4).double(), torch.randn(ROWS, 4, 4).double()
    assert_right_while_it_learns(Matrices().double(), x, m, "native")


class ByFrequency(nn.Module):
    """An embedding whose gradient is divided by how often a token stands in the batch of a step."""

    def __init__(self, by_frequency: bool) -> None:
        super().__init__()
        self.e = nn.Embedding(9, 5, padding_idx=0, scale_grad_by_freq=by_frequency)
        self.u = nn.Linear(5, 5)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.e(x) + self.u(h))
        return h, h


@pytest.mark.parametrize("by_frequency", [True, False])
def test_embedding_by_frequency(by_frequency: bool) -> None:
    """No token stands twice in the first steps, so that no comparison of few rows could tell."""
    x = torch.randint(0, 9, (20, ROWS))
    x[:3] = torch.arange(12).reshape(3, ROWS) % 9
    path = "loop" if by_frequency else "native"
    assert_right_while_it_learns(ByFrequency(by_frequency).double(), x, torch.zeros(ROWS, 5).double(), path)


class Convolved(nn.Module):
    """A convolution of inputs that carry no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.u = nn.Conv1d(1, 5, INPUTS), nn.Linear(5, 5)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.c(x.detach().unsqueeze(1)).squeeze(2) + self.u(h))
        return h, h


def test_gradients_of_a_convolution_without_that_of_its_input() -> None:
    x, h = torch.randn(4, ROWS, INPUTS).double(), torch.zeros(ROWS, 5).double()
    assert_right_while_it_learns(Convolved().double(), x, h, "native")


class _Pulled(torch.autograd.Function):
    """Hands a parameter on; its gradient gets what `pull` makes of it and of the parameter."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, pull: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(p)
        ctx.pull = pull
        return p.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return ctx.pull(grad, *ctx.saved_tensors), None


PULLS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "decay": lambda g, p: g + 0.1 * p,
    "decay alone": lambda g, p: 0.1 * p,
    "constant": lambda g, p: g.new_full(g.shape, 0.25),
    "padded": lambda g, p: F.pad(g[1:], (1, 0), value=0.5),
    "rounded": lambda g, p: g.to(torch.int32).to(g.dtype),
    "written": lambda g, p: torch.diagonal_scatter(g.expand(5, 5), p.expand(5), 1 - 1).sum(0),
    "scaled": lambda g, p: g * (1 + p),
}


class Pulled(nn.Module):
    """A parameter, zero at first, whose gradient is made by hand."""

    def __init__(self, pull: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.p, self.u, self.pull = nn.Parameter(torch.zeros(5)), nn.Linear(5, 5), pull

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(x + self.u(h) + _Pulled.apply(self.p, self.pull))
        return h, h


@pytest.mark.parametrize("name", PULLS)
def test_gradients_made_by_hand(name: str) -> None:
    """What is added at each step is added T times, whatever the parameter was at first."""
    cell = Pulled(PULLS[name]).double()
    x, h = torch.randn(4, ROWS, 5).double(), torch.zeros(ROWS, 5).double()
    assert_right_while_it_learns(cell, x, h, "native" if name == "scaled" else "loop")


def test_drawn_sums_can_fail() -> None:
    """The oracle above is another function: a sum without its bias is told apart."""
    cell = Sum(5, ["H"], []).double()
    x, h = torch.randn(3, ROWS, INPUTS).double(), torch.zeros(ROWS, 5).double()
    with torch.no_grad():
        cell.vectors[0] += 1
    assert not torch.allclose(unfold(cell, x, h).y, unfold(Sum(5, [], []).double(), x, h).y)
