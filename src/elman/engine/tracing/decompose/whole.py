"""Functions that are taken apart where they are called, above autograd: their gradients follow from the parts'."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

__all__ = ["WHOLE"]

_MOST, _MOST_PADS = 4096, 64  # elements of an axis, and around it
_MOST_PAIRED = 64  # elements of an axis that are compared each with each


def _cumprod(input: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Any:
    """Products of 1, 2, 4, ... neighbours: log2(n) products of whole rows. A gradient beside zeros is that of the
    products, which torch has a branch for."""
    if not input.dtype.is_floating_point or not input.dim() or input.shape[dim] > _MOST:
        return NotImplemented
    t = input if dtype is None else input.to(dtype)
    n, reach = t.shape[dim], 1
    while reach < n:
        before = torch.cat([torch.ones_like(t.narrow(dim, 0, reach)), t.narrow(dim, 0, n - reach)], dim)
        t, reach = t * before, 2 * reach
    return t if reach > 1 else t.clone()


def _extremes(largest: bool, input: Tensor, dim: int) -> Any:
    """The largest or smallest so far, and its place, of several the last; from a NaN on NaN. All pairs of elements are
    compared, so that lines are short."""
    n = int(input.shape[dim]) if input.dim() else 0
    if not input.dtype.is_floating_point or not 0 < n <= _MOST_PAIRED:
        return NotImplemented
    turned = input.flip(dim)  # argmax gives the first of equal ones: here the last
    with torch.no_grad():
        line = turned.detach().movedim(dim, -1).unsqueeze(-2)
        before = torch.ones(n, n, dtype=torch.bool, device=input.device).tril().flip(1)
        pairs = line.masked_fill(~before, -math.inf if largest else math.inf)
        found = (pairs.amax(-1) if largest else pairs.amin(-1)).unsqueeze(-1)
        same = ((line == found) | ((line != line) & (found != found))) & before  # noqa: PLR0124 - NaN
        places = same.to(input.dtype).argmax(-1).movedim(-1, dim)
    kind = torch.return_types.cummax if largest else torch.return_types.cummin
    return kind((turned.gather(dim, places), n - 1 - places))


def _pad(input: Tensor, pad: Any, mode: str = "constant", value: float | None = None) -> Any:
    """Padding by reflection, or by what stands at the edge: places that are numbers."""
    pads = [int(p) for p in pad]
    rank = len(pads) // 2
    plain = mode in ("reflect", "replicate") and value in (None, 0) and len(pads) % 2 == 0
    if not plain or not 0 < rank < input.dim() or min(pads) < 0:
        return NotImplemented
    t = input
    for k in range(rank):
        axis, before, after = t.dim() - 1 - k, pads[2 * k], pads[2 * k + 1]
        n = int(t.shape[axis])
        if not n or (mode == "reflect" and max(before, after) >= n) or before + after > _MOST_PADS:
            return NotImplemented
        places = [*range(-before, 0), *range(n, n + after)]
        if mode == "reflect":
            places = [n - 1 - abs(n - 1 - abs(i)) for i in places]
        else:
            places = [0 if i < 0 else n - 1 for i in places]
        sides = [t.narrow(axis, i, 1) for i in places]
        t = torch.cat([*sides[:before], t, *sides[before:]], axis) if sides else t
    return t if t is not input else t.clone()


# By name, each with torch's own arguments; NotImplemented for what is left to torch.
WHOLE: dict[str, Callable[..., Any]] = {
    "cumprod": _cumprod, "pad": _pad, "cummax": partial(_extremes, True), "cummin": partial(_extremes, False),
}  # fmt: skip
