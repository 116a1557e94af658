"""Which path each published cell takes, and why not a faster one: `python -m tests.published.table` writes
docs/generality.md."""

from __future__ import annotations

import re
import sys
import warnings
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn.utils import parametrize

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "generality.md"
if str(ROOT / "tests") not in sys.path:
    sys.path.insert(0, str(ROOT / "tests"))  # where the battery is imported from

if TYPE_CHECKING:
    from battery.registry import Case
    from published.kinds import Kind

INTRODUCTION = """\
# Which cells take which path

Each cell is a step that somebody wrote as an ordinary module; the engine knows none of them by name. The tests hold
each to its own Python loop, values and gradients. Path is what `explain()` says after a training call in float32:
`native` is the compiled core, `reference` the same program with a torch call for each operation, `loop` the plain
Python loop.

This page is written by `python -m tests.published.table`.
"""


class Row(NamedTuple):
    """A line of the table."""

    name: str
    about: str
    path: str
    reason: str


def path_and_reason(case: Case) -> tuple[str, str]:
    """What a training call of this cell says of itself."""
    from elman.engine import Scan

    inputs = case.inputs(4, 3, torch.float32)
    scan = Scan(case.cell(torch.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scan(inputs.x, inputs.state, context=inputs.context)
    told = scan.explain()
    return told.path or "", told.reason


def row(case: Case, about: str) -> Row:
    """The line of one cell."""
    return Row(case.name, about, *path_and_reason(case))


def first_sentence(case: Case) -> str:
    """What its own docstring says; nothing for a cell of torch.nn."""
    kind = type(case.cell())
    if kind.__module__.startswith("torch."):
        return f"torch.nn.{kind.__name__}"
    return (kind.__doc__ or "").strip().splitlines()[0].split(": ")[0].rstrip(".:")


def tables() -> dict[str, list[Row]]:
    """Title of each part and its lines."""
    from battery.registry import CASES
    from tests.published.cells import PUBLISHED
    from tests.published.package import PACKAGED

    return {
        "The package torchrecurrent": [row(p.case(), p.paper) for p in PACKAGED],
        "As users write them from the papers": [row(case, paper) for paper, case in PUBLISHED],
        "The registry of the tests": [row(case, first_sentence(case)) for case in CASES],
    }


def kinds() -> str:
    """The table by what a step has in it."""
    from published.kinds import KINDS

    lines = [
        "## By what a step has in it\n",
        "What is not native runs right all the same, on the path that is named.\n",
        "| in the step | path | why not native |",
        "|---|---|---|",
    ]
    return "\n".join([*lines, *map(row_of, KINDS)]) + "\n"


def row_of(kind: Kind) -> str:
    """Its line of that table."""
    path, reason = path_of(kind)
    return f"| {kind.name} | {path} | {reason} |"


def path_of(kind: Kind) -> tuple[str, str]:
    """What a training call of a cell of this kind says of itself; without the place in the file."""
    from elman.engine import Scan
    from published.kinds import KindCell

    torch.manual_seed(0)
    scan = Scan(KindCell(kind.body))
    with warnings.catch_warnings(), parametrize.cached() if kind.cached else nullcontext():
        warnings.simplefilter("ignore")
        scan(torch.randn(4, 3, 8), torch.randn(3, 8))
    told = scan.explain()
    reason = re.sub(r" at \S+:\d+", "", told.reason).removeprefix("not native: ")
    return told.path or "", reason.replace("|", "\\|")


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION, kinds()]
    for title, rows in tables().items():
        count = Counter(r.path for r in rows)
        said = ", ".join(f"{count[path]} {path}" for path in ("native", "reference", "loop") if count[path])
        lines = [
            f"## {title}\n",
            f"{len(rows)} cells: {said}.\n",
            "| cell | paper, or what it is | path | why not native |",
        ]
        lines.append("|---|---|---|---|")
        lines += [
            f"| {r.name} | {r.about} | {r.path} | {r.reason.removeprefix('not native: ')} |" for r in rows
        ]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
