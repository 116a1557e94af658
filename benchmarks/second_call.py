"""The second call of a layer of 8 units beside another checkout: `python -m benchmarks.second_call OTHER [--rounds 5]`.

OTHER is the root of a checkout with an environment of its own in .venv. Sizes are (T, B, I, H) = (1, 1, 8, 8), one
thread: at these the kernels are nothing, and what is timed is the way to them. Processes of the two sides take turns;
of each the least of `--calls` calls counts (forward and backward, and forward without gradients), and of these the
median over the rounds. Outside of the time are the first calls, which trace and verify.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
SCRIPT = """
import json, sys, time, torch
from elman import nn
torch.set_num_threads(1)
torch.manual_seed(0)
found = {}
for name in ("LSTM", "GRU", "RNN"):
    layer, x = getattr(nn, name)(8, 8), torch.randn(1, 1, 8)
    def training():
        layer(x)[0].sum().backward()
    def inference():
        with torch.no_grad():
            layer(x)
    for call in (training, inference):
        for _ in range(50):
            call()
        least = float("inf")
        for _ in range(int(sys.argv[1])):
            began = time.perf_counter()
            call()
            least = min(least, time.perf_counter() - began)
        found[f"{name}, {call.__name__}"] = least
print(json.dumps(found))
"""


def measured(tree: Path, calls: int) -> dict[str, float]:
    """Seconds of the fastest call of each kind, in a process of that checkout."""
    python = tree / ".venv" / "bin" / "python"
    done = subprocess.run(
        [str(python), "-c", SCRIPT, str(calls)], cwd=tree, check=True, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.second_call", description=__doc__)
    parser.add_argument("other", type=Path, help="root of the other checkout")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=2000)
    options = parser.parse_args()
    if not (options.other / ".venv" / "bin" / "python").exists():
        sys.exit(f"{options.other} has no environment: run `make setup` there first")
    sides: tuple[list[dict[str, float]], list[dict[str, float]]] = ([], [])
    for _ in range(options.rounds):
        for side, tree in zip(sides, (options.other, ROOT), strict=True):
            side.append(measured(tree, options.calls))
            time.sleep(0.2)
    print(f"microseconds, the other checkout | this one | this / other; {options.rounds} rounds")
    for name in sides[0][0]:
        before, after = (statistics.median(r[name] for r in side) * 1e6 for side in sides)
        print(f"{name:16} {before:7.1f} {after:7.1f} {after / before:6.2f}")


if __name__ == "__main__":
    main()
