"""Cells drawn around one operation of the op table, and their comparison with the plain loop while they learn.

`python -m draws.cells --draws 10000` (from `tests/`) draws many and prints the counts.
"""

from __future__ import annotations

import argparse
import random
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from battery.registry import Inputs
from battery.running import Run, actual_outcome, assert_outcomes_agree, expected_outcome, options_of
from draws.operations import GENERATORS, RANDOM
from elman.engine import Scan, scan
from elman.engine.trust.verify import FixedDraws

WIDTHS, INPUTS = (1, 1, 2, 3, 5), (1, 3)
VALUES = ("zeros", "zeros", "ones", "constant", "equal", "drawn", "drawn", "some zeros")
OPTIONS: tuple[tuple[str, ...], ...] = (
    (),
    ("lengths",),
    ("reset",),
    ("reverse",),
    ("initial",),
    ("lengths", "reset"),
)
PARTS = ("input", "loop", "output", "parameter", "memory")
LONGEST, PLACES = 16, range(6, 14)  # of a memory, whose size is another one at each call
EXPRESSIONS = 6  # in a cell, each with a state and an output of its own


class _Draw:
    """The choices of one step, the same at each call: numbers from the cell's code, in order."""

    def __init__(self, cell: DrawnCell, x: Tensor) -> None:
        self.cell, self.x, self.h = cell, x, x
        self.numbers: Iterator[tuple[int, int]] = enumerate(cell.code)
        self.bare = False  # nothing with rows is to be given
        self.places = 0  # of the memory, while it is worked on

    def pick(self, *options: Any) -> Any:
        return options[next(self.numbers)[1] % len(options)]

    def number(self) -> float:
        return float(self.pick(0.0, 1.0, -1.0, 0.5, 2.0))

    def vector(self, *shape: int) -> Tensor:
        k, number = next(self.numbers)
        if self.places not in shape:
            return self.cell.tensor(f"v{k}", shape, number)
        t = self.cell.tensor(f"v{k}", tuple(LONGEST if n == self.places else n for n in shape), number)
        return t[tuple(slice(n) for n in shape)]

    def other(self, a: Tensor) -> Tensor:
        n = a.shape[-1]
        kind = self.pick(
            "vector", "vector", "vector", "x", "h", "column of x", "column of h", "itself", "no gradient"
        )
        if self.bare or kind == "vector":
            shapes = [(), (1,), (n,), (1,) * a.dim(), (*(1,) * (a.dim() - 1), n)]
            return self.vector(*self.pick(*shapes))
        if kind in ("itself", "no gradient"):
            return a if kind == "itself" else a.detach()
        rows = fit(self.x if "x" in kind else self.h, 1 if "column" in kind else n)
        return rows if a.dim() == 2 else rows.view(rows.shape[0], *(1,) * (a.dim() - 2), rows.shape[1])


def fit(t: Tensor, n: int) -> Tensor:
    """Rows of any shape and kind as rows of n floats."""
    t = t.reshape(t.shape[0], -1)
    t = t if t.is_floating_point() else t.to(torch.get_default_dtype())
    return torch.cat([t] * -(-n // max(t.shape[1], 1)), 1)[:, :n]


class DrawnCell(nn.Module):
    """Expressions around one operation, each with a state of its own: h' = tanh of a drawn sum of x W, h U and vectors,
    with the operation in one of the parts of a step."""

    def __init__(
        self, op: str, code: tuple[int, ...], inputs: int, width: int, parts: tuple[str, ...]
    ) -> None:
        super().__init__()
        self.op, self.code, self.width, self.parts = op, code, width, parts
        self.vectors = nn.ParameterDict()
        self.w, self.u = nn.Linear(inputs, width), nn.Linear(width, width, bias=False)
        self.x_gate, self.h_gate = nn.Linear(inputs, 1), nn.Linear(width, 1, bias=False)
        self.making = True
        memory = torch.randn(2, PLACES[0], width) if "memory" in parts else None
        self(torch.randn(2, inputs), tuple(torch.randn(2, width) for _ in parts), memory)
        self.making = False

    def tensor(self, name: str, shape: tuple[int, ...], number: int) -> Tensor:
        """A parameter or a buffer of this name, made at the first call."""
        if self.making:
            values = _values(VALUES[number % len(VALUES)], shape, number)
            if number % 5:
                self.vectors[name] = nn.Parameter(values)
            else:
                self.register_buffer(name, values)
        found: Tensor = self.vectors[name] if number % 5 else self.get_buffer(name)
        return found

    def apply_op(self, d: _Draw, a: Tensor) -> Tensor:
        """The operation on rows, as rows of `width`."""
        return fit(GENERATORS[self.op](d, a), self.width)

    def look(self, d: _Draw, memory: Tensor, h: Tensor) -> Tensor:
        """The operation on a row's scores of the places of its memory, and what they read of it."""
        scores = (memory * h.unsqueeze(1)).sum(2)
        d.places = memory.shape[1]
        weights = GENERATORS[self.op](d, d.pick(scores, memory[:, :, 0]))
        d.places = 0
        weights = weights.reshape(weights.shape[0], -1).to(memory.dtype)
        if weights.shape[1] != memory.shape[1]:
            return weights.mean(1, keepdim=True) * h
        return (torch.tanh(weights).unsqueeze(2) * memory).sum(1)

    def total(self, d: _Draw, terms: list[Tensor]) -> Tensor:
        """The terms, and some more, added in a drawn order and with drawn brackets."""
        n, x, h = self.width, d.x, d.h
        for _ in range(d.pick(0, 1, 2, 3)):
            kind = d.pick("vector", "vector", "vector", "x gate", "h gate", "number")
            if kind == "vector":
                terms.append(d.vector(*d.pick((), (1,), (n,), (1, 1), (1, n))))
            elif kind == "number":
                terms[0] = terms[0] + d.number()
            else:
                terms.append(self.x_gate(x) if kind == "x gate" else self.h_gate(h))
        while len(terms) > 1:
            i = d.pick(*range(len(terms) - 1))
            left, right = terms[i : i + 2]
            terms[i : i + 2] = [d.pick(left + right, left + right, left - right, right + left)]
        return terms[0]

    def expression(self, d: _Draw, part: str, memory: Tensor | None) -> tuple[Tensor, Tensor]:
        """(y, next state) of one expression."""
        x, h = d.x, d.h
        drive, back = self.w(x), self.u(h)
        if part == "input":
            drive = drive + self.apply_op(d, d.pick(drive, fit(x, self.width)))
        if part == "loop":
            back = back + 0.5 * self.apply_op(d, d.pick(back, h, drive + back))
        if part == "memory" and memory is not None:
            back = back + 0.5 * self.look(d, memory, h)
        if part == "parameter":
            vector = d.vector(*d.pick((1, self.width), (self.width,))).view(1, -1)
            d.bare = True
            back = back * self.apply_op(d, vector)
            d.bare = False
        new = torch.tanh(self.total(d, [drive, back]))
        if d.pick(True, False):
            gate = torch.sigmoid(self.total(d, [self.h_gate(h), d.vector(*d.pick((1,), (self.width,), ()))]))
            new = gate * h + (1 - gate) * new
        y = self.apply_op(d, d.pick(new, h, new * drive)) if part == "output" else new * d.other(new)
        return y, new

    def forward(
        self, x: Tensor, state: tuple[Tensor, ...], memory: Tensor | None = None
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        d = _Draw(self, x)
        outs = []
        for part, h in zip(self.parts, state, strict=True):
            d.h = h
            outs.append(self.expression(d, part, memory))
        return tuple(y for y, _ in outs), tuple(new for _, new in outs)


def _values(kind: str, shape: tuple[int, ...], number: int) -> Tensor:
    if kind in ("zeros", "ones"):
        return torch.zeros(shape) if kind == "zeros" else torch.ones(shape)
    if kind == "constant":
        return torch.full(shape, (-0.5, 0.25, 2.0)[number % 3])
    if kind == "equal":
        return torch.randn(shape[-1:]).expand(shape).clone()
    drawn = torch.randn(shape)
    return drawn * (torch.rand(shape) < 0.5) if kind == "some zeros" else drawn


@dataclass(frozen=True)
class Drawn:
    """What a seed stands for."""

    op: str
    seed: int

    def cell(self) -> DrawnCell:
        """The cell, equal at every call."""
        chance = random.Random(f"{self.op} {self.seed}")
        torch.manual_seed(chance.randrange(2**31))
        code = tuple(chance.randrange(720720) for _ in range(100 * EXPRESSIONS))
        parts = tuple(chance.choice(PARTS) for _ in range(EXPRESSIONS))
        return DrawnCell(self.op, code, chance.choice(INPUTS), chance.choice(WIDTHS), parts)

    def calls(self) -> Iterator[tuple[int, int, int, str, tuple[str, ...]]]:
        """T, B, S, values of x and the state, options of three calls."""
        chance = random.Random(f"{self.seed} calls")
        for options in ((), (), chance.choice(OPTIONS)):
            T, B, kind = chance.choice((1, 2, 4)), chance.choice((1, 2, 3, 7)), chance.choice(VALUES)
            yield T, B, random.Random(f"{self.seed} {T} {B}").choice(PLACES), kind, options


def sample(cell: DrawnCell, T: int, B: int, S: int, kind: str) -> Inputs:
    """Inputs of a call."""
    x = _values(kind, (T, B, cell.w.in_features), 1).requires_grad_()
    state, initial = (
        tuple(_values(k, (B, cell.width), 1).requires_grad_() for _ in cell.parts) for k in (kind, "drawn")
    )
    memory = _values(kind, (B, S, cell.width), 1).requires_grad_() if "memory" in cell.parts else None
    return Inputs(x, state, initial, memory)


def move(cell: DrawnCell) -> None:
    """All parameters and buffers, as an optimizer would: those without a gradient too, as weight decay does."""
    with torch.no_grad():
        for t in (*cell.parameters(), *cell.buffers()):
            t += 0.2 * torch.randn_like(t)


class SilentlyWrong(AssertionError):
    """Another value on a fast path, and no word about it."""


def run_drawn(drawn: Drawn) -> Run:
    """Compare each call of a drawn cell with the oracle. SilentlyWrong where one differs."""
    cell = drawn.cell()
    run = Run(Scan(cell))
    chance = drawn.op in RANDOM
    for number, (T, B, S, kind, names) in enumerate(drawn.calls()):
        inputs, options = sample(cell, T, B, S, kind), options_of(names, sample(cell, T, B, S, kind), T, B)
        options["initial_state"] = inputs.initial if "initial" in names else None
        if chance:  # a trace sees no fixed draws
            run(inputs.x, inputs.state, context=inputs.context)
        through = ("y", "state") if number < 2 else ("y", "state", "states")
        with FixedDraws() if chance else nullcontext():
            expected = expected_outcome(cell, inputs, options, through)
            actual = actual_outcome(run, cell, inputs, options, through)
        try:
            assert_outcomes_agree(
                actual, expected, dtype=torch.float32 if drawn.op == "elman.convert" else None
            )
        except AssertionError as error:
            if run.scan.path != "loop" and not _is_a_leap(cell, inputs, options, through, expected):
                raise SilentlyWrong(
                    f"call {number} (T={T}, B={B}, S={S}, {kind}, {names}): {error}"
                ) from error
        move(cell)
    return run


def _is_a_leap(cell: DrawnCell, inputs: Inputs, options: Any, through: Any, expected: Any) -> bool:
    """Whether the oracle itself jumps under a change as small as rounding: a tie, a threshold, a pole."""
    with torch.no_grad():
        kept = [p.clone() for p in cell.parameters()]
        try:
            for sign in (1, -1, 1, -1):
                for p, k in zip(cell.parameters(), kept, strict=True):
                    p.copy_(k + sign * 1e-13 * torch.randn_like(k))
                with torch.enable_grad():
                    x = (inputs.x + sign * 1e-13 * torch.randn_like(inputs.x)).detach().requires_grad_()
                    again = expected_outcome(cell, inputs._replace(x=x), options, through)
                try:
                    assert_outcomes_agree(again, expected)
                except AssertionError:
                    return True
        finally:
            for p, k in zip(cell.parameters(), kept, strict=True):
                p.copy_(k)
    return False


def _unverified(*arguments: Any) -> None:
    """Whatever is wrong shall show."""


def outcome_of(drawn: Drawn) -> str:
    """The path that a drawn cell took, or what went wrong."""
    try:
        run = run_drawn(drawn)
    except SilentlyWrong as error:
        print(f"{drawn}: {str(error)[:300]}", flush=True)
        return "SILENTLY WRONG"
    except Exception:  # noqa: BLE001 - counted and shown
        print(f"{drawn}: {traceback.format_exc(limit=-4)[-900:]}", flush=True)
        return "raised"
    if run.warned:
        print(f"{drawn}: {run.warned[0][:200]}", flush=True)
    found = any("verification" in said for said in run.warned)
    return f"{run.scan.path}{', found by verification' if found else ''}"


def main() -> None:
    """Draw many, print counts and what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=1200, help="expressions, six in a cell")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--op", action="append", choices=list(GENERATORS), help="only these operations")
    parser.add_argument(
        "--verify", action="store_true", help="with the engine's own verification, which hides faults"
    )
    chosen = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    if not chosen.verify:
        scan.verify = scan.verify_size = scan.verify_case = _unverified  # type: ignore[assignment]
    ops, paths = chosen.op or list(GENERATORS), Counter[str]()
    cells = -(-chosen.draws // EXPRESSIONS)
    for k in range(cells):
        paths[outcome_of(Drawn(ops[k % len(ops)], chosen.first + k // len(ops)))] += EXPRESSIONS
        if k % 100 == 99 or k == cells - 1:
            counts = ", ".join(f"{n} {path}" for path, n in paths.most_common())
            print(f"{EXPRESSIONS * (k + 1)} expressions: {counts}", flush=True)


if __name__ == "__main__":
    main()
