"""Calls with lengths, a mask or resets beside plain ones: `python -m benchmarks.ragged [--threads N] [--cpu] [--write
NAME]`.

Forward and backward, float32, gradients of x and of all parameters. Sizes are (T, B, I, H). Lengths are drawn evenly
from 1 to T ("lengths"), or from 1 to T / 5, so that a tenth of x is no padding ("a tenth"): the time for each row that
is no padding, beside that of a plain call of the same batch size on as many rows. A mask with a tenth of the steps left
out here and there, and a reset at every 50th step: the time beside that of a plain call with the same x. Both sides
take turns in each round, in turned order; what counts is the ratio within a round, of which the median and the spread
(interquartile range / median) are given.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.pairing import Ratios, machine
from benchmarks.where import made

RESULTS = Path(__file__).parent / "results"
SIZES = [(100, 32, 128, 128), (100, 16, 64, 64), (50, 64, 256, 256)]
CELLS = ("LSTM", "GRU", "LayerNormLSTM")
BARS = {"lengths": 1.15, "a tenth": 1.15, "mask": 1.2, "resets": 1.2}
Clock = Callable[[], float]
Run = Callable[[], object]


@dataclass(frozen=True)
class Line:
    """Times in milliseconds a call, medians; ratio: time for each row beside the plain call's."""

    cell: str
    size: tuple[int, int, int, int]
    what: str
    rows: int
    ms: float
    plain_rows: int
    plain_ms: float
    ratio: float
    spread: float
    bar: float


def training(layer: torch.nn.Module, T: int, B: int, I: int, H: int, **options: Tensor) -> Run:
    """A call, forward and backward."""
    x, dy = torch.randn(T, B, I, requires_grad=True), torch.randn(T, B, H)
    wanted = [x, *layer.parameters()]
    return lambda: torch.autograd.grad(layer(x, **options)[0], wanted, dy)


def options_of(what: str, T: int, B: int) -> tuple[dict[str, Tensor], int]:
    """The options of a call, and how many rows are counted."""
    generator = torch.Generator().manual_seed(1)
    if what == "mask":
        return {"mask": torch.rand(T, B, generator=generator) >= 0.1}, T * B
    if what == "resets":
        return {"reset": (torch.arange(T) % 50 == 49).unsqueeze(1).expand(T, B).contiguous()}, T * B
    longest = T if what == "lengths" else T // 5
    lengths = torch.randint(1, longest + 1, (B,), generator=generator)
    return {"lengths": lengths}, int(lengths.sum())


def measured(
    cell: str, size: tuple[int, int, int, int], what: str, rounds: int, clock: Clock, seconds: float
) -> Line:
    """One line: both sides in turns."""
    T, B, I, H = size
    layer = made(cell, I, H)
    options, rows = options_of(what, T, B)
    steps = max(round(rows / B), 1)
    sides = training(layer, T, B, I, H, **options), training(layer, steps, B, I, H)
    calls = []
    for run in sides:
        run(), run()
        calls.append(max(int(seconds / timed(run, 3, clock)), 1))
    found: tuple[list[float], list[float]] = [], []
    for i in range(rounds):
        for k in (0, 1) if i % 2 else (1, 0):
            found[k].append(timed(sides[k], calls[k], clock))
    ratios = Ratios([t / (steps * B) for t in found[1]], [t / rows for t in found[0]])
    ms = [1e3 * sorted(some)[len(some) // 2] for some in found]
    return Line(cell, size, what, rows, ms[0], steps * B, ms[1], ratios.median, ratios.spread, BARS[what])


def timed(run: Run, calls: int, clock: Clock) -> float:
    """Seconds a call."""
    gc.disable()
    try:
        start = clock()
        for _ in range(calls):
            run()
        return (clock() - start) / calls
    finally:
        gc.enable()


def table(lines: Sequence[Line]) -> str:
    """As Markdown."""
    head = "| cell | (T, B, I, H) | with | rows | ms | plain rows | ms | ratio | spread | bar |"
    rows = [head, "|---|---|---|--:|--:|--:|--:|--:|--:|--:|"]
    for n in lines:
        bar = f"{n.bar:g}" if n.ratio <= n.bar else f"**{n.bar:g} missed**"
        rows.append(
            f"| {n.cell} | {n.size} | {n.what} | {n.rows} | {n.ms:.3g} | {n.plain_rows} | {n.plain_ms:.3g} | "
            f"{n.ratio:.2f} | {n.spread:.1%} | {bar} |"
        )
    return "\n".join(rows)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ragged", description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=CELLS)
    parser.add_argument("--size", type=int, nargs=4, action="append", metavar=("T", "B", "I", "H"))
    parser.add_argument("--with", dest="what", nargs="+", default=list(BARS), choices=list(BARS))
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=0.1, help="of one side in one round, about")
    parser.add_argument(
        "--cpu", action="store_true",
        help="count the processor time of the process: for one thread, on a machine that others use too",
    )  # fmt: skip
    parser.add_argument("--write", help="a name: results/NAME.json and .md")
    given = parser.parse_args()
    if given.cpu and given.threads != 1:
        parser.error("--cpu is for --threads 1: of more threads it would be the sum")
    torch.set_num_threads(given.threads)
    clock = time.process_time if given.cpu else time.perf_counter
    where, lines = machine(), []
    for size in [tuple(s) for s in given.size or SIZES]:
        for cell in given.cells:
            for what in given.what:
                lines.append(measured(cell, size, what, given.rounds, clock, given.seconds))
                print(table(lines[-1:]).splitlines()[-1], flush=True)
    if given.write:
        command = f"python -m benchmarks.ragged --threads {given.threads}{' --cpu' if given.cpu else ''}"
        said = f"`{command}`\n\n{', '.join(f'{k}: {v}' for k, v in where.items())}\n\n{table(lines)}\n"
        (RESULTS / f"{given.write}.md").write_text(said, encoding="utf-8")
        kept = {"command": command, "machine": where, "lines": [asdict(n) for n in lines]}
        (RESULTS / f"{given.write}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
