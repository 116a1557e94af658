"""What the engine's ways cost beside what they stand for: `python -m benchmarks.paths [PART ...] [--out]`.

sizes         an attention decoder (GRU, additive attention, T = 20, H = 64) over 60 source lengths and 10 batch sizes,
              training: after a first round over them, each call beside one of the same sizes that was just made.
loop          `backend="loop"` beside a loop written by hand (`for t in range(T)`, stacked), T = 100, of three cells.
convolutions  a ConvLSTM and a ConvGRU of three sizes as users write them, training, on the path that the engine takes
              by itself, beside the loop by hand.

One thread, both sides in one process, in turns; the order changes from round to round. Times are those of the
processor, so that other work on the machine counts little. Answers are compared first, values and gradients. Written
(`--out`) are a page and its numbers; parts that are not measured now stay as they are recorded.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.pairing import Case, Ratios, Side, assert_same_answers, machine
from elman.nn import AdditiveAttention, AttentionCell, GRUCell, Recurrent

RESULTS = Path(__file__).parent / "results"
LENGTHS, BATCHES = 60, 10
DEARER = 1.1  # times as dear as calls of equal sizes, at the most
AS_FAST = 1.0

Row = dict[str, Any]


def in_turns(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int, calls: int) -> Ratios:
    """Processor seconds of a call of each side, round by round."""
    found = Ratios()
    for number in range(rounds):
        turns = [(ours, found.ours), (theirs, found.theirs)]
        for run, times in reversed(turns) if number % 2 else turns:
            begun = time.process_time()
            for _ in range(calls):
                run()
            times.append((time.process_time() - begun) / calls)
    return found


# ---- sizes


def sizes(rounds: int) -> list[Row]:
    """Rounds over all source lengths, each with a batch size that is drawn."""
    T, H, draw = 20, 64, random.Random(0)
    torch.manual_seed(0)
    cell = AttentionCell(GRUCell, H, H, AdditiveAttention(H, 2 * H, H), 2 * H)
    varied, equal = Recurrent(cell), Recurrent(copy.deepcopy(cell))

    def seconds(layer: Any, S: int, B: int) -> float:
        x, read = torch.randn(T, B, H), torch.randn(B, S, 2 * H, requires_grad=True)
        begun = time.process_time()
        memory = layer.cell.attention.prepare(read, torch.ones(B, S, dtype=torch.bool))
        layer(x, (torch.zeros(B, H),), context=memory).y.square().mean().backward()
        return time.process_time() - begun

    lengths = draw.sample(range(5, 100), LENGTHS)
    batches = draw.sample(range(4, 65), BATCHES)
    found = []
    for number in range(rounds + 1):
        ours, theirs = 0.0, 0.0
        draw.shuffle(lengths)
        for place, S in enumerate(lengths):
            B = draw.choice(batches)
            seconds(equal, S, B)
            for first in (True, False) if place % 2 else (False, True):
                if first:
                    ours += seconds(varied, S, B)
                else:
                    theirs += seconds(equal, S, B)
        # the first round is the one in which the layer comes to know the lengths
        name = f"round {number}" if number else "first round"
        found.append(row(name, [ours], [theirs], bar=1 / DEARER if number else None))
    assert varied.path == "native", varied.explain()
    return found


# ---- the loop


class Simple(nn.Module):
    """h = tanh(W x + U h)."""

    def __init__(self, H: int) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(H, H), nn.Linear(H, H, bias=False)
        self.hidden_size = H

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """y and the next state are one."""
        h = torch.tanh(self.w(x) + self.u(h))
        return h, h


def by_hand(cell: Any, x: Tensor, state: Any) -> Tensor:
    """The loop."""
    found = []
    for t in range(x.shape[0]):
        y, state = cell(x[t], state)
        found.append(y)
    return torch.stack(found)


def by_layer(layer: Any, x: Tensor, state: Any) -> Tensor:
    """The layer."""
    y: Tensor = layer(x, state).y
    return y


class Pair(nn.Module):
    """A cell of torch.nn with its y in front of its state."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """y is h."""
        after = self.cell(x, state)
        return (after[0] if isinstance(after, tuple) else after), after


def loop(rounds: int) -> list[Row]:
    """Three cells, two sizes, training and not."""
    found = []
    for (B, H), training in ((s, t) for s in ((1, 16), (16, 64)) for t in (True, False)):
        torch.manual_seed(0)
        h = torch.zeros(B, H)
        cells = {
            "tanh": (Simple(H), h),
            "nn.GRUCell": (Pair(nn.GRUCell(H, H)), h),
            "nn.LSTMCell": (Pair(nn.LSTMCell(H, H)), (h, h)),
        }
        for name, (cell, state) in cells.items():
            x = torch.randn(100, B, H)
            layer = Recurrent(cell, backend="loop")
            ours, theirs = both(
                partial(by_layer, layer, x, state),
                partial(by_hand, cell, x, state),
                [*cell.parameters()],
                training,
            )
            assert_same_answers(Case(name, ours, theirs))
            ratios = in_turns(ours.run, theirs.run, rounds, 3)
            told = f"{name}, T = 100, B = {B}, H = {H}, {'training' if training else 'inference'}"
            found.append(row(told, ratios.ours, ratios.theirs, bar=AS_FAST))
    return found


def both(
    ours: Callable[[], Tensor], theirs: Callable[[], Tensor], wanted: list[Tensor], training: bool
) -> tuple[Side, Side]:
    """Two ways to compute y, with the gradient of its mean square in training."""

    def side(run: Callable[[], Tensor]) -> Callable[[], dict[str, Tensor]]:
        def whole() -> dict[str, Tensor]:
            with nullcontext() if training else torch.no_grad():
                y = run()
            if not training:
                return {"y": y}
            grads = torch.autograd.grad(y.square().mean(), wanted)
            return {"y": y.detach(), **{f"grad {i}": g for i, g in enumerate(grads)}}

        return whole

    return Side("elman", side(ours)), Side("by hand", side(theirs))


# ---- convolutions


class ConvLSTM(nn.Module):
    """Shi et al. (2015), eq. 3 without peepholes: one convolution of x and h side by side gives all gates."""

    def __init__(self, C: int, H: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(C + H, 4 * H, 3, padding=1)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """y is h."""
        h, c = state
        i, f, o, g = self.conv(torch.cat([x, h], 1)).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, (h, c)


class ConvGRU(nn.Module):
    """Ballas et al. (2016), eq. 7 to 10."""

    def __init__(self, C: int, H: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(C + H, 2 * H, 3, padding=1)
        self.candidate = nn.Conv2d(C + H, H, 3, padding=1)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """y and the next state are one."""
        z, r = torch.sigmoid(self.gates(torch.cat([x, h], 1))).chunk(2, 1)
        h = (1 - z) * h + z * torch.tanh(self.candidate(torch.cat([x, r * h], 1)))
        return h, h


def convolutions(rounds: int) -> list[Row]:
    """T = 10; (B, channels in, channels, height and width)."""
    found = []
    for B, C, H, side in ((2, 1, 8, 16), (4, 3, 16, 32), (2, 16, 32, 32)):
        torch.manual_seed(0)
        zeros = torch.zeros(B, H, side, side)
        cells: Iterator[tuple[nn.Module, Any]] = iter(
            [(ConvLSTM(C, H), (zeros, zeros)), (ConvGRU(C, H), zeros)]
        )
        for cell, state in cells:
            x = torch.randn(10, B, C, side, side)
            layer = Recurrent(cell)
            ours, theirs = both(
                partial(by_layer, layer, x, state),
                partial(by_hand, cell, x, state),
                [*cell.parameters()],
                training=True,
            )
            name = f"{type(cell).__name__}, B = {B}, {C} to {H} channels of {side}×{side}"
            assert_same_answers(Case(name, ours, theirs))
            ratios = in_turns(ours.run, theirs.run, rounds, 1)
            found.append(row(f"{name}: {layer.path}", ratios.ours, ratios.theirs, bar=AS_FAST))
    return found


# ---- the record


def row(name: str, ours: list[float], theirs: list[float], bar: float | None) -> Row:
    """One line of the record."""
    ratios = Ratios(ours, theirs)
    return {
        "case": name,
        "ours": statistics.median(ours),
        "theirs": statistics.median(theirs),
        "ratio": ratios.median,
        "spread": ratios.spread if len(ours) > 1 else None,
        "bar": bar,
    }


PARTS: dict[str, tuple[Callable[[int], list[Row]], int, str]] = {
    "sizes": (
        sizes,
        3,
        "Of 60 calls of other sizes each time, beside 60 calls of the sizes of the call before",
    ),
    "loop": (loop, 41, 'A call with backend="loop", beside the loop by hand'),
    "convolutions": (convolutions, 15, "A training call on the path that is taken, beside the loop by hand"),
}


def table(found: list[Row]) -> str:
    """The rows in Markdown."""
    lines = [
        "| case | ours, ms | theirs, ms | theirs / ours | spread | bar |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for r in found:
        spread = "" if r["spread"] is None else f"{r['spread']:.0%}"
        bar = "" if r["bar"] is None else f"{r['bar']:.2f}"
        lines.append(
            f"| {r['case']} | {1e3 * r['ours']:.3g} | {1e3 * r['theirs']:.3g} | {r['ratio']:.2f} | {spread} | {bar} |"
        )
    return "\n".join(lines)


def page(recorded: dict[str, Any]) -> str:
    """The record in Markdown."""
    lines = [
        "# paths",
        "",
        "Made by `python -m benchmarks.paths`; what is measured stands at the head of `benchmarks/paths.py`.",
    ]
    for name, part in recorded.items():
        told = ", ".join(f"{key} {value}" for key, value in part["machine"].items())
        lines += ["", f"## {name}", "", f"{part['date']}; {told}.", "", f"{PARTS[name][2]}:", ""]
        lines.append(table(part["found"]))
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write where asked. Exit code 1 where a bar is missed by more than a twentieth."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paths", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--rounds", type=int, help="turns of each side")
    parser.add_argument(
        "--out", type=Path, nargs="?", const=RESULTS, help="write the page and its numbers there"
    )
    options = parser.parse_args(arguments)
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"no part is called {unknown[0]}; they are {', '.join(PARTS)}")
    torch.set_num_threads(1)
    record = (options.out or RESULTS) / "paths.json"
    recorded = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    missed = False
    for name in options.parts or PARTS:
        measured, rounds, _ = PARTS[name]
        conditions = machine()
        found = measured(options.rounds or rounds)
        recorded[name] = {"date": datetime.now(UTC).date().isoformat(), "machine": conditions, "found": found}
        print(f"{name}\n{table(found)}", flush=True)
        missed = missed or any(r["bar"] is not None and r["ratio"] < 0.95 * r["bar"] for r in found)
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            ordered = {part: recorded[part] for part in PARTS if part in recorded}
            record.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
            record.with_suffix(".md").write_text(page(ordered), encoding="utf-8")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
