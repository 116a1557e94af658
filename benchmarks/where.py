"""Where the time of one training call goes: `python -m benchmarks.where [--cell NAME] [--size T B I H] [--threads N]`.

Medians over many calls, in milliseconds: each section of the program and each loop, what of it is inside the core's
own calls, and the rest of the call (guards, autograd, Python). The clocks themselves cost about a microsecond each.
"""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch

import elman.nn
from benchmarks import layers
from benchmarks.cells import LayerNormLSTMCell
from elman.engine import execute
from elman.engine import run as engine_run
from elman.engine.backends import kernel, native, sections

Clock = defaultdict[str, float]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cell", default="LSTM", help="RNN, LSTM, GRU or LayerNormLSTM")
    parser.add_argument(
        "--size", type=int, nargs=4, default=(100, 16, 128, 128), metavar=("T", "B", "I", "H")
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--inference", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    T, B, I, H = options.size
    layer = made(options.cell, I, H)
    run = (layers.infer if options.inference else layers.train)(
        layer, lambda x: layer(x)[0], torch.randn(T, B, I)
    )
    run()
    rounds: list[Clock] = []
    clock = instrument(rounds)
    for _ in range(options.calls + 10):
        rounds.append(defaultdict(float))
        clock("whole", run)()
    rounds = rounds[10:]
    names = sorted({n for r in rounds for n in r}, key=lambda n: -statistics.median(r[n] for r in rounds))
    print(f"{options.cell} {tuple(options.size)}, {options.threads} threads")
    for name in names:
        print(f"{1e3 * statistics.median(r[name] for r in rounds):9.3f}  {name}")


def made(cell: str, I: int, H: int) -> torch.nn.Module:
    """The layer by its name."""
    torch.manual_seed(0)
    if cell == "LayerNormLSTM":
        return elman.nn.Recurrent(LayerNormLSTMCell(I, H), fallback="error")
    layer: torch.nn.Module = getattr(elman.nn, cell)(I, H)
    return layer


def instrument(rounds: list[Clock]) -> Callable[[str, Callable[..., Any]], Callable[..., Any]]:
    """Put clocks around the engine's parts; they add to the last of `rounds`."""

    def clock(name: str, f: Callable[..., Any], of: Callable[..., str] | None = None) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = f(*args, **kwargs)
            rounds[-1][name if of is None else of(*args)] += time.perf_counter() - start
            return result

        return timed

    run_section = execute.run_section
    engine_run.run_section = clock("", run_section, lambda *a: f"section {a[1]}")  # type: ignore[attr-defined]
    engine_run.run_forward = clock("forward", engine_run.run_forward)
    engine_run.run_backward = clock("backward", engine_run.run_backward)
    native.NativeLoops.forward = clock("loop forward", native.NativeLoops.forward)  # type: ignore[method-assign]
    native.NativeLoops.backward = clock("loop backward", native.NativeLoops.backward)  # type: ignore[method-assign]
    kernel.Kernel.call = clock("kernels", kernel.Kernel.call)  # type: ignore[method-assign]
    sections.sum_rows = clock("sums over rows", kernel.sum_rows)  # type: ignore[attr-defined]
    return clock


if __name__ == "__main__":
    main()
