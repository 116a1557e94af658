"""How far a file is from a float64 plain loop, beside how far our own float32 layer is: `python -m tests.onnx.measure`
measures every cell of docs/generality.md from one file each, prints the count, and writes the table of docs/onnx.md."""

from __future__ import annotations

import argparse
import copy
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "onnx.md"
if str(ROOT / "tests") not in sys.path:
    sys.path.insert(0, str(ROOT / "tests"))

from battery.registry import CASES, Case  # noqa: E402
from elman.engine import EngineError, Scan  # noqa: E402
from elman.engine.call.loop import plain_loop  # noqa: E402
from elman.onnx import export_step  # noqa: E402
from elman.onnx.files import session  # noqa: E402
from tests.published.cells import PUBLISHED  # noqa: E402

SIZES = ((1, 3), (20, 5), (200, 2))  # T and B, all from one file
FACTOR, FLOOR = 4.0, 1e-6
WANTED = 120  # of the 128 cells


class Measured(NamedTuple):
    """A cell's largest error of a file and of our own layer at the T where the file is worst against the bar."""

    name: str
    theirs: float
    ours: float
    T: int
    refused: str = ""

    @property
    def agrees(self) -> bool:
        return not self.refused and self.theirs <= FACTOR * self.ours + FLOOR


def cells() -> list[Case]:
    """All cells of docs/generality.md; without the package torchrecurrent where it is not installed."""
    found = [*CASES, *(case for _, case in PUBLISHED)]
    try:
        from tests.published.package import PACKAGED
    except ModuleNotFoundError:
        return found
    return [*found, *(packaged.case() for packaged in PACKAGED)]


def double(tree: Any) -> Any:
    """The same numbers in double precision."""
    return pytree.tree_map(
        lambda t: t.double() if isinstance(t, Tensor) and t.is_floating_point() else t, tree
    )


def exact(cell: Any, x: Any, state: Any, context: Any) -> list[Tensor]:
    """y and the final state of the plain loop in float64, of the float32 cell's own weights."""
    cell = copy.deepcopy(cell)
    if isinstance(cell, nn.Module):
        cell.double()
        for module in cell.modules():  # tensors that are plain attributes
            for name, value in list(vars(module).items()):
                if isinstance(value, Tensor) and value.is_floating_point():
                    setattr(module, name, value.double())
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            result = plain_loop(
                cell, double(x), double(state), context=None if context is None else double(context)
            )
    finally:
        torch.set_default_dtype(before)
    return pytree.tree_leaves((result.y, result.state))


def error(found: Any, expected: Any) -> float:
    """The largest difference; infinite where it is no number."""
    if not expected.size:
        return 0.0
    largest = float(np.max(np.abs(found.astype(np.float64) - expected.astype(np.float64))))
    return largest if np.isfinite(largest) else float("inf")


def measure(case: Case, folder: Path) -> Measured:
    """A cell from one file at all of SIZES."""
    cell, example = case.cell(torch.float32), case.inputs(4, 3, torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            path = export_step(cell, folder / f"{case.name}.onnx", example.x, example.state, example.context)
        except EngineError as refusal:
            return Measured(case.name, 0.0, 0.0, 0, str(refusal))
        names, run = session(path)
        worst = Measured(case.name, -1.0, 0.0, 0)
        for T, B in SIZES:
            for found in errors(case, cell, run, names, T, B):
                if found.theirs / (FACTOR * found.ours + FLOOR) > worst.theirs / (
                    FACTOR * worst.ours + FLOOR
                ):
                    worst = found
    return worst


def errors(case: Case, cell: Any, run: Any, names: list[str], T: int, B: int) -> Iterator[Measured]:
    """For each output the errors of the file and of our layer."""
    x, state, _, context = case.inputs(T, B, torch.float32, seed=T)
    given = pytree.tree_leaves((x, state, () if context is None else context))
    found = run({name: t.detach().numpy() for name, t in zip(names, given, strict=True)})
    with torch.no_grad():
        own = Scan(cell)(x, state, context=context)
    ours = pytree.tree_leaves((own.y, own.state))
    for theirs, mine, right in zip(found, ours, exact(cell, x, state, context), strict=True):
        assert theirs.shape == tuple(right.shape), (theirs.shape, right.shape)
        yield Measured(case.name, error(theirs, right.numpy()), error(mine.numpy(), right.numpy()), T)


def table(rows: list[Measured]) -> str:
    """The part of docs/onnx.md between its marks."""
    lines = [f"{sum(r.agrees for r in rows)} of {len(rows)} cells.\n"]
    lines += ["| cell | the file's error | our layer's error | at T |", "|---|---|---|---|"]
    for r in rows:
        if r.refused:
            lines.append(f"| {r.name} | refused: {r.refused} | | |")
        else:
            bold = "" if r.agrees else "**"
            lines.append(f"| {r.name} | {bold}{r.theirs:.1e}{bold} | {r.ours:.1e} | {r.T} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure all, write the table, print the count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", help="these cells alone; nothing is written then")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(c, Path(folder)) for c in cells() if not chosen.only or c.name in chosen.only]
    print(table(rows))
    if not chosen.only:
        text = PAGE.read_text(encoding="utf-8")
        marked = re.compile(r"(<!-- measured -->\n).*(<!-- end -->)", re.DOTALL)
        PAGE.write_text(marked.sub(lambda m: f"{m[1]}\n{table(rows)}\n{m[2]}", text), encoding="utf-8")


if __name__ == "__main__":
    main()
