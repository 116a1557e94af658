"""Cells drawn at random: a list of instructions over a pool of rows of features, run as a module's forward.

An instruction is a tuple (operation, numbers); numbers are taken modulo what there is, so that every list is a cell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

from battery.cells_memory import Spike

Instruction = tuple[str, int, int, int]
Pool = list[Tensor]
WIDTHS = (1, 2, 3, 5, 7, 8)

POINTWISE: list[Callable[[Tensor], Tensor]] = [
    torch.tanh, torch.sigmoid, torch.relu, F.silu, F.softplus, torch.sin, F.elu, F.gelu, torch.abs, torch.neg,
    lambda a: torch.exp(-a * a), lambda a: a.clamp(-1, 0.5), lambda a: 1 - a, lambda a: a * 0.7 + 0.1,
    lambda a: torch.sqrt(a * a + 0.2), lambda a: 1 / (1 + a * a), lambda a: torch.where(a > 0, a, 0.3 * a),
    lambda a: a.masked_fill(a > 0.4, 0.4), lambda a: a.detach(), lambda a: (a > 0.1).to(a.dtype), Spike.apply,
    lambda a: (torch.round(a * 2) / 2 - a).detach() + a, lambda a: a.pow(3) * 0.1, lambda a: torch.log1p(a.abs()),
]  # fmt: skip
BINARY: list[Callable[[Tensor, Tensor], Tensor]] = [
    torch.add, torch.sub, torch.mul, torch.maximum, torch.minimum, lambda a, b: torch.sigmoid(a) * b,
    lambda a, b: a / (1 + b.abs()), lambda a, b: torch.where(a > b, a, 0.5 * b), lambda a, b: a + 0.3 * b,
    lambda a, b: torch.lerp(a, b, 0.3), lambda a, b: torch.addcmul(a, a, b, value=0.2),
]  # fmt: skip
ROWS: list[Callable[[Tensor], Tensor]] = [
    lambda a: F.softmax(a, -1), lambda a: a - a.mean(-1, keepdim=True), lambda a: a.sum(-1, keepdim=True),
    lambda a: a.amax(1, keepdim=True), lambda a: F.layer_norm(a, a.shape[1:]), lambda a: a.cumsum(1),
    lambda a: a / (1 + a.pow(2).sum(-1, keepdim=True)), lambda a: a.unsqueeze(1).expand(-1, 2, -1).flatten(1)[:, :8],
    lambda a: torch.bmm(a.unsqueeze(2), a.unsqueeze(1)).softmax(-1).sum(1), lambda a: a.mean(1).unsqueeze(-1),
    lambda a: torch.stack([a, -a], -1).flatten(1)[:, :8], lambda a: a.unsqueeze(1).transpose(1, 2).squeeze(-1),
]  # fmt: skip


class Drawn(nn.Module):
    """A cell from instructions; `widths` are those of its states."""

    def __init__(
        self, code: list[Instruction], x: int, widths: list[int], context: int, outs: list[int]
    ) -> None:
        super().__init__()
        self.code, self.widths, self.outs = code, widths, outs
        self.maps = nn.ModuleDict()
        self.vectors = nn.ParameterDict()
        self.register_buffer("constant", torch.linspace(-1, 1, 8))
        given = [torch.zeros(2, w) for w in (x, *widths, *([context] if context else []))]
        self._run(given, make=True)

    def _map(self, name: str, inside: int, outside: int, make: bool, tensor: Tensor) -> Tensor:
        if make and name not in self.maps:
            self.maps[name] = nn.Linear(inside, outside, bias=len(name) % 2 == 0)
        return self.maps[name](tensor)

    def _run(self, pool: Pool, *, make: bool = False) -> Pool:
        for k, (op, a, b, c) in enumerate(self.code):
            one, two = pool[a % len(pool)], pool[b % len(pool)]
            pool.append(self._do(op, one, two, c, f"{op}{k}", make))
        return pool

    def _do(self, op: str, one: Tensor, two: Tensor, c: int, name: str, make: bool) -> Tensor:
        width = WIDTHS[c % len(WIDTHS)]
        match op:
            case "linear":
                return self._map(name, one.shape[1], width, make, one)
            case "cat":
                return torch.cat([one, two], -1)[:, :11]
            case "catlinear":
                return self._map(name, one.shape[1] + two.shape[1], width, make, torch.cat([one, two], 1))
            case "slice":
                start = c % one.shape[1]
                return one[:, start : start + 1 + width]
            case "chunk":
                pieces = one.chunk(2, dim=1)
                return pieces[c % len(pieces)]
            case "pointwise":
                return POINTWISE[c % len(POINTWISE)](one)
            case "binary":
                if 1 in (one.shape[1], two.shape[1]):
                    return BINARY[c % len(BINARY)](*torch.broadcast_tensors(one, two))
                n = min(one.shape[1], two.shape[1])
                return BINARY[c % len(BINARY)](one[:, :n], two[:, -n:])
            case "rows":
                return ROWS[c % len(ROWS)](one)
            case "vector":
                if make and name not in self.vectors:
                    self.vectors[name] = nn.Parameter(torch.randn(one.shape[1]))
                return one * self.vectors[name] if c % 2 else one + self.vectors[name]
            case "constant":
                return one * self.constant[: one.shape[1]] if one.shape[1] <= 8 else one * 0.5
            case _:
                raise ValueError(op)

    def forward(self, x: Tensor, state: tuple[Tensor, ...], context: Tensor | None = None) -> Any:
        given = [x, *state, *([] if context is None else [context])]
        pool = self._run(list(given))
        new = tuple(_fit(pool[-1 - k % len(pool)], w) for k, w in enumerate(self.widths))
        return tuple(pool[k % len(pool)] for k in self.outs), new


def _fit(a: Tensor, width: int) -> Tensor:
    """Any row of features as a bounded state of a width."""
    while a.shape[1] < width:
        a = torch.cat([a, torch.cos(a)], 1)
    return torch.tanh(a[:, :width])


_numbers = st.integers(0, 40)
_operations = st.sampled_from(
    ["linear", "linear", "catlinear", "cat", "slice", "chunk", "pointwise", "pointwise", "binary", "binary", "rows",
     "vector", "constant"]
)  # fmt: skip
code = st.lists(st.tuples(_operations, _numbers, _numbers, _numbers), min_size=1, max_size=14)
widths = st.lists(st.sampled_from([1, 2, 5, 7]), min_size=1, max_size=3)
outs = st.lists(_numbers, min_size=1, max_size=3)
OPTIONS = ["lengths", "short", "reset", "reverse", "initial"]
options = st.lists(st.sampled_from(OPTIONS), unique=True).filter(lambda o: not {"lengths", "short"} <= set(o))
