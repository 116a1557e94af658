"""One step of a frozen LSTM from C beside one whose sizes the compiler knows: `python -m benchmarks.frozen_step`.

B = 1, float32, one thread. The peer is written on Eigen with its sizes as template arguments, compiled by
-O3 -march=native -ffast-math; ours is read from a file, its sizes known at load. Both run in one process, in turns; the
answers must agree to 1e-4. Needs a C++ compiler, CMake and Eigen 3 (libeigen3-dev); the library elman_runtime is built
for it, or taken from --prefix.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import torch

import elman
from benchmarks.pairing import machine

ROOT = Path(__file__).parents[1]
RECORD = Path(__file__).parent / "results" / "frozen_step.json"
SIZES = (16, 64, 128)
BAR = {64: 1.2}  # at most so many times the peer's time


def main(arguments: list[str] | None = None) -> int:
    """Build, measure, print, record. Exit code 1: the answers differ, or a step takes longer than was promised."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frozen_step", description=__doc__)
    parser.add_argument("--prefix", type=Path, help="where elman_runtime is installed (default: it is built)")
    parser.add_argument(
        "--eigen", type=Path, default=Path("/usr/include/eigen3"), help="the headers of Eigen 3"
    )
    parser.add_argument("--rounds", type=int, default=60, help="of 2,000 steps of each side")
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.name}")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        prefix = options.prefix or _installed(Path(folder))
        found = [_measured(Path(folder), prefix, options.eigen, H, options.rounds) for H in SIZES]
    for one in found:
        print(
            f"LSTM-{one['H']}: {one['elman_us']:.2f} us a step, Eigen {one['eigen_us']:.2f} us, x{one['ratio']:.2f}"
        )
    if options.record:
        facts = {"date": datetime.now(UTC).date().isoformat(), "machine": machine(), "rounds": options.rounds}
        RECORD.write_text(json.dumps(facts | {"results": found}, indent=1) + "\n", encoding="utf-8")
    missed = [str(one["H"]) for one in found if one["ratio"] > BAR.get(int(one["H"]), float("inf"))]
    if missed:
        print(f"slower than promised at H = {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def _run(*command: object) -> str:
    return subprocess.run(
        [str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def _installed(folder: Path) -> Path:
    _run("cmake", "-S", ROOT, "-B", folder / "library", "-DELMAN_RUNTIME_ONLY=ON")
    _run("cmake", "--build", folder / "library", "-j2")
    _run("cmake", "--install", folder / "library", "--prefix", folder / "prefix")
    return folder / "prefix"


def _measured(folder: Path, prefix: Path, eigen: Path, H: int, rounds: int) -> dict[str, float]:
    torch.manual_seed(H)
    layer = elman.LSTM(H, H)
    model = elman.export(layer, folder / f"{H}.elman")
    own = layer.state_dict()
    parts = [own["weight_ih_l0"], own["weight_hh_l0"], own["bias_ih_l0"] + own["bias_hh_l0"]]
    weights = folder / f"{H}.weights"
    weights.write_bytes(b"".join(part.numpy().tobytes() for part in parts))
    program = folder / f"step{H}"
    flags = [
        "-std=c++17",
        "-O3",
        "-march=native",
        "-ffast-math",
        "-DNDEBUG",
        "-DEIGEN_STACK_ALLOCATION_LIMIT=0",
    ]
    paths = [f"-DH={H}", f"-I{eigen}", f"-I{prefix / 'include'}", Path(__file__).with_suffix(".cpp")]
    library = [prefix / "lib" / "libelman_runtime.a", "-lpthread", "-ldl"]
    _run("c++", *flags, *paths, *library, "-o", program)
    measured: dict[str, float] = json.loads(_run(program, model, weights, rounds))
    return measured


if __name__ == "__main__":
    sys.exit(main())
