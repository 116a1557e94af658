"""A frozen layer beside onnxruntime's own node: `python -m benchmarks.freeze [--cells NAME ...] [--write NAME]`.

Forward, batch 1, float32, one thread, as many inputs as units. Each side is called from Python with a whole short
sequence and a state, and gives all outputs and the last state: `layer.freeze()` on tensors, a session of one LSTM or
GRU node on arrays of numpy. The answers are compared first. Both sides take turns in each round, in turned order; the
ratio is time of onnxruntime / time of ours, its median over the rounds, and its spread (interquartile range / median).
The bars are those of the mean over all sizes of a cell, and the least that any size may have.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

import elman.nn
from benchmarks.pairing import Ratios, Side, _time, machine
from benchmarks.streaming import onnx_step
from tests.tolerances import assert_near

RESULTS = Path(__file__).parent / "results"
SIZES, STEPS = (32, 64, 128, 256, 512), (1, 5, 20, 50)
MEANS, LEAST = {"LSTM": 1.3, "GRU": 1.8}, 0.97
Run = Callable[[], object]


@dataclass(frozen=True)
class Line:
    """Times in microseconds a call, medians."""

    cell: str
    H: int
    T: int
    ours: float
    theirs: float
    ratio: float
    spread: float


def sides(cell: str, H: int, T: int) -> tuple[Run, Run]:
    """A call of ours, and one of onnxruntime's. AssertionError where they differ."""
    import onnxruntime

    torch.manual_seed(0)
    theirs = getattr(nn, cell)(H, H).eval()
    ours = getattr(elman.nn, cell)(H, H).eval()
    ours.load_state_dict(theirs.state_dict())
    frozen = ours.freeze()
    x, states = torch.randn(T, 1, H), [torch.randn(1, 1, H) for _ in ours.state_names]
    state = tuple(states) if len(states) > 1 else states[0]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = onnx_step(theirs, T).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
    named = zip(ours.state_names, states, strict=True)
    feed = {"x": x.numpy()} | {name: s.numpy() for name, s in named}
    y, *_ = session.run(None, feed)
    assert_near(
        frozen(x, state).y, torch.from_numpy(np.ascontiguousarray(y[:, 0])), what=f"{cell}-{H}, {T} steps"
    )
    return lambda: frozen(x, state), lambda: session.run(None, feed)


def measured(cell: str, H: int, T: int, rounds: int, seconds: float) -> Line:
    """One line: both sides in turns."""
    pair = [Side(name, run) for name, run in zip(("ours", "theirs"), sides(cell, H, T), strict=True)]
    calls = []
    for side in pair:
        side.run()
        calls.append(max(math.ceil(seconds / _time(side, 3)), 1))
    found: tuple[list[float], list[float]] = [], []
    for i in range(rounds):
        for k in (0, 1) if i % 2 else (1, 0):
            found[k].append(_time(pair[k], calls[k]))
    ratios = Ratios(*found)
    ours, theirs = (1e6 * statistics.median(some) for some in found)
    return Line(cell, H, T, ours, theirs, ratios.median, ratios.spread)


def table(lines: Sequence[Line]) -> str:
    """As Markdown, a line for each size, then the means."""
    rows = ["| cell | H | T | ours, µs | onnxruntime, µs | ratio | spread |", "|---|--:|--:|--:|--:|--:|--:|"]
    for n in lines:
        missed = "" if n.ratio >= LEAST else f" (**{LEAST:g} missed**)"
        rows.append(
            f"| {n.cell} | {n.H} | {n.T} | {n.ours:.3g} | {n.theirs:.3g} | {n.ratio:.2f}{missed} | {n.spread:.1%} |"
        )
    means = []
    for cell, bar in MEANS.items():
        ratios = [n.ratio for n in lines if n.cell == cell]
        if ratios:
            mean = statistics.mean(ratios)
            said = f"meant {bar:g}" if mean >= bar else f"**{bar:g} missed**"
            means.append(f"{cell}: {mean:.2f} in the mean ({said}), {min(ratios):.2f} to {max(ratios):.2f}.")
    return "\n".join([*rows, "", *means])


def main() -> int:
    """The command. Exit code 1 where a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.freeze", description=__doc__)
    parser.add_argument("--cells", nargs="+", default=list(MEANS), choices=list(MEANS))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--steps", nargs="+", type=int, default=list(STEPS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.04, help="of one side in one round, about")
    parser.add_argument("--write", help="a name: results/NAME.json and .md")
    given = parser.parse_args()
    torch.set_num_threads(1)
    where, began, lines = machine(), time.time(), []
    for cell in given.cells:
        for H in given.sizes:
            for T in given.steps:
                lines.append(measured(cell, H, T, given.rounds, given.seconds))
                print(table(lines[-1:]).splitlines()[2], flush=True)
    text = table(lines)
    print(text)
    if given.write:
        date = time.strftime("%Y-%m-%d", time.gmtime(began))
        conditions = ", ".join(f"{k}: {v}" for k, v in where.items())
        said = f"`python -m benchmarks.freeze`, {date}\n\n{conditions}\n\n{text}\n"
        (RESULTS / f"{given.write}.md").write_text(said, encoding="utf-8")
        kept = {"date": date, "machine": where, "lines": [asdict(n) for n in lines]}
        (RESULTS / f"{given.write}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return 1 if "missed" in text else 0


if __name__ == "__main__":
    sys.exit(main())
