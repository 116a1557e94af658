"""Where the time of one training call goes: `python -m benchmarks.where [--cell NAME] [--size T B I H] [--threads N]`.

Medians over many calls, in milliseconds. First the call as it runs, in one go: forward and backward in the core, and
the rest (guards, autograd, Python). Then the same part by part: each section of the program and each loop, and what of
it is inside the core's own calls. The clocks themselves cost about a microsecond each.
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
from elman.engine.backends import kernel, native, recipe, sections
from elman.engine.call import quick
from elman.engine.call import run as engine_run
from elman.engine.program import execute

Clock = defaultdict[str, float]
Watcher = Callable[..., Callable[..., Any]]


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
    print(f"{options.cell} {tuple(options.size)}, {options.threads} threads")
    measure("in one go", run, recipes, options.calls)
    for module in (engine_run, quick):
        vars(module)["in_one_go"] = lambda *_: None
    for scan in layer.scans():  # type: ignore[operator]
        scan._forget()
    run()
    measure("part by part", run, instrument, options.calls)


def measure(title: str, run: Callable[[], Any], instrument: Callable[[Watcher], None], calls: int) -> None:
    """Print the medians of what the clocks saw."""
    rounds: list[Clock] = []

    def clock(name: str, f: Callable[..., Any], of: Callable[..., str] | None = None) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = f(*args, **kwargs)
            rounds[-1][name if of is None else of(*args)] += time.perf_counter() - start
            return result

        return timed

    instrument(clock)
    for _ in range(calls + 10):
        rounds.append(defaultdict(float))
        clock("whole", run)()
    rounds = rounds[10:]
    names = sorted({n for r in rounds for n in r}, key=lambda n: -statistics.median(r[n] for r in rounds))
    print(title)
    for name in names:
        print(f"{1e3 * statistics.median(r[name] for r in rounds):9.3f}  {name}")


def made(cell: str, I: int, H: int) -> torch.nn.Module:
    """The layer by its name."""
    torch.manual_seed(0)
    if cell == "LayerNormLSTM":
        return elman.nn.Recurrent(LayerNormLSTMCell(I, H), fallback="error")
    layer: torch.nn.Module = getattr(elman.nn, cell)(I, H)
    return layer


def recipes(clock: Watcher) -> None:
    """Clocks around calls in one go."""
    recipe.Recipe.forward = clock("forward", recipe.Recipe.forward)  # type: ignore[method-assign]
    recipe.Recipe.backward = clock("backward", recipe.Recipe.backward)  # type: ignore[method-assign]


def instrument(clock: Watcher) -> None:
    """Clocks around the engine's parts."""
    run_section = execute.run_section
    engine_run.run_section = clock("", run_section, lambda *a: f"section {a[1]}")  # type: ignore[attr-defined]
    engine_run.run_forward = clock("forward", engine_run.run_forward)
    engine_run.run_backward = clock("backward", engine_run.run_backward)
    native.NativeLoops.forward = clock("loop forward", native.NativeLoops.forward)  # type: ignore[method-assign]
    native.NativeLoops.backward = clock("loop backward", native.NativeLoops.backward)  # type: ignore[method-assign]
    kernel.Kernel.call = clock("kernels", kernel.Kernel.call)  # type: ignore[method-assign]
    sections.sum_rows = clock("sums over rows", kernel.sum_rows)  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
