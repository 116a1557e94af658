"""The loops of an LSTM on the native core alone: `python -m benchmarks.core_lstm [--threads N] [--isa NAME]`.

No input projection and no gradient of a weight is inside the time: T steps of the recurrent product and what is
elementwise, forward and backward, float32, counted as 8 T B H^2 operations each. Beside it, in turns in one process,
torch.mm of one (B, H) x (H, 4H) product T times with the weight packed by whatever torch does: the same count. Before
anything is timed the forward loop must agree with torch.nn.LSTM.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.pairing import Effort, Ratios, Side, machine, measure
from tests.core import lstm
from tests.core.assembly import Memory, arguments

SIZES = [(100, 1, 64), (100, 16, 128), (100, 32, 256), (100, 64, 512)]


class Loops(NamedTuple):
    """The two calls of the core, and what the forward one writes."""

    forward: Callable[[], None]
    backward: Callable[[], None]
    memory: Memory


def loops(T: int, B: int, layer: torch.nn.LSTM, *, isa: str, threads: int) -> Loops:
    """Both loops over random inputs, the weight that of the layer."""
    H = layer.hidden_size
    U = layer.state_dict()["weight_hh_l0"].numpy()
    x = np.random.default_rng(0).standard_normal((T * B, 4 * H)).astype(np.float32)
    zeros = [np.zeros((B, H), np.float32) for _ in range(4)]
    outs = [np.zeros((T * B, n), np.float32) for n in (H, 4 * H, H, H)]
    memory = Memory(T, B, [x], outs=outs, carries=zeros[:2], weights=[U.T])
    da = np.zeros((T * B, 4 * H), np.float32)
    back = Memory(T, B, [outs[0], *outs[1:]], outs=[da], carries=zeros[2:], weights=[U])
    forward, backward = lstm.forward(H).kernel(isa=isa), lstm.backward(H).kernel(isa=isa)

    def run_forward() -> None:
        forward.run(*arguments(memory, reverse=False, threads=threads))

    def run_backward() -> None:
        backward.run(*arguments(back, reverse=True, threads=threads))

    return Loops(run_forward, run_backward, memory)


def assert_is_lstm(T: int, B: int, layer: torch.nn.LSTM, ours: Loops) -> None:
    """The forward loop gives what torch.nn.LSTM gives for the same projected input."""
    H = layer.hidden_size
    ours.forward()
    probe = torch.nn.LSTM(4 * H, H)
    start = {name: torch.zeros_like(value) for name, value in probe.state_dict().items()}
    weights = {"weight_ih_l0": torch.eye(4 * H), "weight_hh_l0": layer.state_dict()["weight_hh_l0"]}
    probe.load_state_dict(start | weights)
    with torch.no_grad():
        want, _ = probe(torch.from_numpy(ours.memory.ins[0]).view(T, B, 4 * H))
    got = torch.from_numpy(ours.memory.outs[0]).view(T, B, H)
    torch.testing.assert_close(got, want, rtol=0, atol=2e-5)


def side(name: str, run: Callable[[], object]) -> Side:
    """A side of which only the time counts."""

    def call() -> dict[str, torch.Tensor]:
        run()
        return {}

    return Side(name, call)


def row(size: tuple[int, int, int], name: str, times: Ratios) -> str:
    """GFLOP/s of both sides and the microseconds of a step of ours."""
    T, B, H = size
    operations = 8 * T * B * H * H
    ours, theirs = statistics.median(times.ours), statistics.median(times.theirs)
    rates = f"{operations / ours / 1e9:7.1f} | {ours / T * 1e6:8.2f} | {operations / theirs / 1e9:7.1f}"
    return f"| {size} | {name} | {rates} | {times.spread:.0%} |"


def main() -> int:
    """Print one row for each size and direction."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--isa", default="")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    print(
        "| (T, B, H) | loop | core GFLOP/s | us a step | torch.mm GFLOP/s | spread |\n|---|---|--:|--:|--:|--:|"
    )
    for size in SIZES:
        T, B, H = size
        layer = torch.nn.LSTM(1, H)
        ours = loops(T, B, layer, isa=options.isa, threads=options.threads)
        assert_is_lstm(T, B, layer, ours)
        ours.forward()
        weight = layer.state_dict()["weight_hh_l0"].t().contiguous()
        h, out = torch.zeros(B, H), torch.zeros(B, 4 * H)
        products = side("torch.mm", lambda: [torch.mm(h, weight, out=out) for _ in range(T)])  # noqa: B023
        for name, run in (("forward", ours.forward), ("backward", ours.backward)):
            times = measure(side(name, run), products, Effort(seconds=0.05, rounds=7, most_rounds=15))
            print(row(size, name, times), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
