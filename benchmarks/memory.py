"""What a training call takes: `python -m benchmarks.memory [--cell NAME ...] [--size T B I H ...] [--million]`.

Each side of a case runs alone in a fresh process. A call of three steps comes first, so that code, the trace and
small buffers are there; x and dy are made and written to; then the peak of the process's resident memory is set back
(VmHWM in /proc/self/status, by /proc/self/clear_refs) and one forward and backward runs. Counted is the new peak less
the resident memory before the call: y, dx, the gradients of the parameters, all that lies between forward and backward,
and whatever an allocator keeps of what was freed. The core keeps freed arrays for the next call (ELMAN_CACHE_MB says
how much at most); that is counted too. ru_maxrss would not do: it cannot be set back, and importing torch has a higher
peak than a small call.

All sides have the same weights, x and dy; when the means of |y| and |dx| differ, nothing is reported.
"""

import argparse
import ctypes
import gc
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import elman.nn
from benchmarks.cells import LayerNormLSTMCell

RESULTS = Path(__file__).parent / "results"
STOCK = ("RNN", "LSTM", "GRU")
SIZES = [(2000, 1, 64, 64), (1000, 16, 128, 128), (500, 32, 256, 256), (200, 64, 512, 512)]
MILLION = (1_000_000, 1, 32, 32)
Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """One side of a comparison. `every` is elman's checkpoint_every, 0 for none."""

    cell: str
    side: str
    T: int
    B: int
    I: int
    H: int
    every: int = 0


@dataclass(frozen=True)
class Measured:
    """Bytes of one forward and backward, and the mean sizes of y and dx, by which the answers are held together."""

    peak: int
    y: float
    dx: float


# ---- the sides


def forward_of(case: Case) -> tuple[nn.Module, Forward]:
    """The module with the parameters, and y of x `(T, B, I)`; one seed, the same weights on all sides."""
    torch.manual_seed(0)
    if case.cell not in STOCK:
        cell = LayerNormLSTMCell(case.I, case.H)
        layer = elman.nn.Recurrent(cell, fallback="error", checkpoint_every=case.every or None)
        return (
            (cell, lambda x: _loop(cell, x, case.H)) if case.side == "loop" else (layer, lambda x: layer(x).y)
        )
    theirs = getattr(nn, case.cell)(case.I, case.H)
    if case.side == "torch":
        return theirs, lambda x: theirs(x)[0]
    if case.side == "loop":
        cell = getattr(nn, f"{case.cell}Cell")(case.I, case.H)
        cell.load_state_dict({name.removesuffix("_l0"): p for name, p in theirs.state_dict().items()})
        return cell, lambda x: _loop(cell, x, case.H)
    ours = getattr(elman.nn, case.cell)(case.I, case.H, fallback="error", checkpoint_every=case.every or None)
    ours.load_state_dict(theirs.state_dict())
    return ours, lambda x: ours(x).y


def _loop(cell: nn.Module, x: Tensor, H: int) -> Tensor:
    """What one writes without a layer: one call of the cell a step, for torch's cells and for those of `cells`."""
    pair = "LSTM" in type(cell).__name__
    zeros = x.new_zeros(x.shape[1], H)
    state: Any = (zeros, zeros) if pair else zeros
    outputs = []
    for x_t in x:
        out = cell(x_t, state)
        state = out[1] if pair and isinstance(out[1], tuple) else out
        outputs.append(out[0] if pair else out)
    return torch.stack(outputs)


# ---- one side, in a process of its own


def measure(case: Case) -> Measured:
    """One forward and backward in this process, which must be fresh."""
    torch.set_num_threads(1)
    module, forward = forward_of(case)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(case.T, case.B, case.I, generator=generator).requires_grad_()
    dy = torch.randn(case.T, case.B, case.H, generator=generator)
    small = x.detach()[:3].clone().requires_grad_()
    forward(small).backward(dy[:3])
    module.zero_grad(set_to_none=True)
    small.grad = None
    gc.collect()
    _give_back()
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    y = forward(x)
    y.backward(dy)
    peak = _status("VmHWM") - before
    assert x.grad is not None
    return Measured(peak, float(y.detach().abs().mean()), float(x.grad.abs().mean()))


def _give_back() -> None:
    """Free heap back to the system, or a call may take what no one sees: of glibc, where that is the library."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def _status(name: str) -> int:
    """Bytes that the system tells of this process."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(f"{name}:")))


def measured_alone(case: Case) -> Measured:
    """`measure` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.memory", "--child", json.dumps(asdict(case))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


# ---- comparisons


def sides(cell: str, size: tuple[int, int, int, int]) -> Iterator[Case]:
    """Elman, elman in chunks of about sqrt(T) steps, torch.nn where it has the layer, the Python loop.

    A million steps only with elman: torch.nn and the loop would need more memory than most machines have.
    """
    yield Case(cell, "elman", *size)
    yield Case(cell, "elman", *size, every=math.isqrt(size[0]))
    if size == MILLION:
        return
    if cell in STOCK:
        yield Case(cell, "torch", *size)
    yield Case(cell, "loop", *size)


def compare(cell: str, size: tuple[int, int, int, int]) -> list[tuple[Case, Measured]]:
    """All sides of one comparison; SystemExit where their answers differ."""
    found: list[tuple[Case, Measured]] = []
    for case in sides(cell, size):
        measured = measured_alone(case)
        first = (found[0] if found else (case, measured))[1]
        for a, b in ((measured.y, first.y), (measured.dx, first.dx)):
            if not math.isclose(a, b, rel_tol=1e-3):
                raise SystemExit(f"refused: {case} answers {a}, {found[0][0]} answers {b}")
        found.append((case, measured))
        print(_row(case, measured), flush=True)
    return found


HEAD = (
    "| cell | (T, B, I, H) | side | MB | bytes a step and row | of these beyond y and dx |\n"
    "|---|---|---|--:|--:|--:|"
)


def _row(case: Case, measured: Measured) -> str:
    """The table's row; bytes a step and row are the peak over T·B."""
    side = {"elman": "elman", "torch": "torch.nn", "loop": "Python loop"}[case.side]
    side += f", checkpoint_every={case.every}" if case.every else ""
    a_row = measured.peak / (case.T * case.B)
    beyond = a_row - 4 * (case.I + case.H)
    cells = (
        case.cell,
        (case.T, case.B, case.I, case.H),
        side,
        f"{measured.peak / 1e6:.1f}",
        f"{a_row:.0f}",
        f"{beyond:.0f}",
    )
    return f"| {' | '.join(map(str, cells))} |"


def write(folder: Path, found: list[tuple[Case, Measured]]) -> None:
    """`memory.json` and `memory.md`."""
    conditions = {
        "date": datetime.now(UTC).date().isoformat(), "torch": torch.__version__, "python": platform.python_version(),
        "threads": 1, "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "ELMAN_CACHE_MB": os.environ.get("ELMAN_CACHE_MB", "default"),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    results = [asdict(case) | asdict(measured) for case, measured in found]
    record = {"suite": "memory", "conditions": conditions, "results": results}
    (folder / "memory.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    stated = ", ".join(f"{name} {value}" for name, value in conditions.items())
    rows = "\n".join(_row(*pair) for pair in found)
    what = (__doc__ or "").partition("\n\n")[2].strip()
    title = "# Memory of a training call\n\n    python -m benchmarks.memory\n\n"
    page = f"{title}{what}\n\nfloat32; {stated}.\n\n{HEAD}\n{rows}\n"
    (folder / "memory.md").write_text(page, encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and write where nothing was left out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument(
        "--cell", action="append", choices=[*STOCK, "LayerNormLSTM"], help="default: all but RNN"
    )
    parser.add_argument("--size", action="append", type=int, nargs=4, metavar=("T", "B", "I", "H"))
    parser.add_argument("--million", action="store_true", help=f"only the longest case, GRU {MILLION}")
    parser.add_argument("--out", type=Path, help=f"where to write (default: {RESULTS.name}/ for the whole)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        print(json.dumps(asdict(measure(Case(**json.loads(options.child))))))
        return
    sizes = [tuple(size) for size in options.size or ([] if options.million else SIZES)]
    cells = options.cell or ["LSTM", "GRU", "LayerNormLSTM"]
    pairs = [(cell, size) for cell in cells for size in sizes]
    whole = not (options.cell or options.size or options.million)
    pairs += [("GRU", MILLION)] if whole or options.million else []
    print(HEAD)
    found = [row for cell, size in pairs for row in compare(cell, size)]
    if options.out or whole:
        write(options.out or RESULTS, found)


if __name__ == "__main__":
    main()
