"""How large the integers of a section can become: the core has only floats, which hold small integers exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

from elman.engine.backends.views import row_shape
from elman.engine.ops import is_integer
from elman.engine.program import Node, Value, refs

__all__ = ["bounded_integers"]

Range = tuple[int, int]
EXACT = {
    torch.float32: 2**24,
    torch.float64: 2**53,
}  # the integers below, and all sums of them below, are exact
_SAME = {"elman.view", "permute.default", "expand.default", "slice.Tensor", "select.int", "flip.default",
         "amax.default", "amin.default"}  # fmt: skip
_HULL = {"cat.default", "where.self", "masked_fill.Scalar", "maximum.default", "minimum.default"}


def bounded_integers(nodes: Iterable[Node], dtype: torch.dtype) -> set[Value]:
    """The integer values among those that the nodes make which are certain to be exact in `dtype`: counts of booleans,
    constants, and what few operations make of these. A value from outside can be any integer."""
    ranges: dict[Value, Range] = {}
    for node in nodes:
        out = node.outs[0]
        if len(node.outs) > 1 or not is_integer(out.dtype) or out.summed:
            continue
        found = _range_of(node, ranges)
        if found is not None and _fits(found, out.dtype, dtype):
            ranges[out] = found
    return set(ranges)


def _fits(found: Range, integer: torch.dtype, dtype: torch.dtype) -> bool:
    limits = torch.iinfo(integer)
    return max(map(abs, found)) < EXACT[dtype] and limits.min <= found[0] and found[1] <= limits.max


def _range_of(node: Node, ranges: dict[Value, Range]) -> Range | None:
    """Least and largest value of what a node makes; None where that is not known."""
    if node.op == "full.default":
        return _known(node.args[1], ranges)
    if node.op == "elman.constant":
        numbers = [_known(a, ranges) for a in node.args[0]]
        return _hull(numbers)
    if any(_known(v, ranges) is None for v in refs(node)):
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


def _known(arg: Any, ranges: dict[Value, Range]) -> Range | None:
    if isinstance(arg, Value):
        return (0, 1) if arg.dtype == torch.bool else ranges.get(arg)
    return (int(arg), int(arg)) if isinstance(arg, int) else None


def _hull(parts: list[Range | None]) -> Range | None:
    known = [p for p in parts if p is not None]
    if len(known) < len(parts) or not known:
        return None
    return min(low for low, _ in known), max(high for _, high in known)


def _sum(node: Node, ranges: dict[Value, Range]) -> Range | None:
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
