"""How large the integers of a section can become: the core has only floats, which hold small integers exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

from elman.engine.backends.views import row_shape
from elman.engine.program.ops import is_integer
from elman.engine.program.program import Node, Program, Value, refs

__all__ = ["Ranges", "bounded_integers", "integers_of"]

Range = tuple[int, int]
Ranges = dict[Value, Range]
EXACT = {
    torch.float32: 2**24,
    torch.float64: 2**53,
}  # the integers below, and all sums of them below, are exact
_SAME = {"gather.default", "elman.view", "permute.default", "expand.default", "slice.Tensor", "select.int",
         "flip.default", "amax.default", "amin.default"}  # fmt: skip
_HULL = {"cat.default", "where.self", "masked_fill.Scalar", "maximum.default", "minimum.default"}


def integers_of(program: Program, dtype: torch.dtype) -> Ranges:
    """The integer values that a program makes which are certain to be exact in `dtype`, with their bounds: counts of
    booleans, places in a row, constants, and what few operations make of these."""
    ranges: Ranges = {}
    for section in program.sections.values():
        bounded_integers(section.nodes, dtype, ranges)
    return ranges


def bounded_integers(nodes: Iterable[Node], dtype: torch.dtype, known: Ranges | None = None) -> Ranges:
    """Those among what the nodes make, and those that are known. Any other value from outside can be any integer."""
    ranges = {} if known is None else known
    for node in nodes:
        out = node.outs[-1]  # the places, where there are values too
        if not is_integer(out.dtype) or out.summed:
            continue
        found = _range_of(node, ranges)
        if found is not None and _fits(found, out.dtype, dtype):
            ranges[out] = found
    return ranges


def _fits(found: Range, integer: torch.dtype, dtype: torch.dtype) -> bool:
    limits = torch.iinfo(integer)
    return max(map(abs, found)) < EXACT[dtype] and limits.min <= found[0] and found[1] <= limits.max


def _range_of(node: Node, ranges: Ranges) -> Range | None:
    """Least and largest value of what a node makes; None where that is not known."""
    if node.op in _MADE:
        return _MADE[node.op](node, ranges)
    needed = node.args[:1] if node.op == "gather.default" else node
    if any(_known(v, ranges) is None for v in refs(needed)):
        return None
    if node.op in _SAME or node.op == "elman.convert":
        return _known(node.args[0], ranges)
    if node.op in _HULL:
        terms = node.args[0] if node.op == "cat.default" else node.args
        return _hull([_known(a, ranges) for a in terms])
    if node.op in ("sum.dim_IntList", "cumsum.default"):
        return _sum(node, ranges)
    name = node.op.split(".")[0]
    if name in _ARITHMETIC and not node.kwargs:
        given = [_known(a, ranges) for a in node.args]
        return None if None in given else _ARITHMETIC[name](*given)
    return None


def _places(node: Node, ranges: Ranges) -> Range:
    """Of a line's elements."""
    return 0, max(row_shape(node.args[0]), default=1) - 1


def _known(arg: Any, ranges: Ranges) -> Range | None:
    if isinstance(arg, Value):
        return (0, 1) if arg.dtype == torch.bool else ranges.get(arg)
    return (int(arg), int(arg)) if isinstance(arg, int) else None


def _hull(parts: list[Range | None]) -> Range | None:
    known = [p for p in parts if p is not None]
    if len(known) < len(parts) or not known:
        return None
    return min(low for low, _ in known), max(high for _, high in known)


def _sum(node: Node, ranges: Ranges) -> Range | None:
    """As many terms as there are in a row at most, each partial sum among the bounds."""
    found = _known(node.args[0], ranges)
    if found is None:
        return None
    n = math.prod(row_shape(node.args[0]))
    return min(n * found[0], 0), max(n * found[1], 0)


def _add(a: Range, b: Range) -> Range:
    return a[0] + b[0], a[1] + b[1]


def _sub(a: Range, b: Range) -> Range:
    return a[0] - b[1], a[1] - b[0]


def _mul(a: Range, b: Range) -> Range:
    corners = [p * q for p in a for q in b]
    return min(corners), max(corners)


def _neg(a: Range) -> Range:
    return -a[1], -a[0]


def _abs(a: Range) -> Range:
    return 0, max(map(abs, a))


_ARITHMETIC: dict[str, Callable[..., Range]] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "neg": _neg,
    "abs": _abs,
}

_MADE: dict[str, Callable[[Node, Ranges], Range | None]] = {
    "full.default": lambda node, ranges: _known(node.args[1], ranges),
    "elman.constant": lambda node, ranges: _hull([_known(a, ranges) for a in node.args[0]]),
    **dict.fromkeys(
        ("argmax.default", "argmin.default", "sort.default", "sort.stable", "topk.default"), _places
    ),
}
