"""Pooling within a row: the elements of each window on an axis of their own, summed up or searched for the largest."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

__all__ = ["POOLS", "pool"]

# Axes that are pooled, whether the largest is taken (else the mean), whether the number of windows is given.
POOLS = {
    f"{given}{kind}_pool{rank}d": (rank, kind == "max", bool(given))
    for given in ("", "adaptive_")
    for kind in ("avg", "max")
    for rank in (1, 2)
}
_AVERAGE = ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
_LARGEST = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_NUMBERED = ("input", "output_size", "return_indices")
_MOST = 32  # elements of a window, along an axis


def pool(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`F.avg_pool1d` and its kin, of these arguments; NotImplemented where windows differ in size, where the last one
    may lie half outside, and where places are asked for.

    The first of equal elements has the gradient, as in torch.
    """
    rank, largest, adaptive = POOLS[name]
    names = _NUMBERED if adaptive else _LARGEST if largest else _AVERAGE
    given = dict(zip(names, args, strict=False)) | kwargs
    x: Tensor = given.pop("input")
    asked = _each(given.pop("output_size" if adaptive else "kernel_size"), rank)
    stride, padding, dilation = (
        _each(given.pop(key, None) or default, rank)
        for key, default in (("stride", asked), ("padding", 0), ("dilation", 1))
    )
    whole = given.pop("count_include_pad", True)
    if x.dim() <= rank or any(given.values()) or not x.dtype.is_floating_point:
        return NotImplemented
    counts: list[tuple[int, list[float]]] = []
    axes = range(-1, -rank - 1, -1)  # rows of a window one after the other
    for axis, *one in zip(axes, asked[::-1], stride[::-1], padding[::-1], dilation[::-1], strict=True):
        found = _windows(x, axis, one, largest, adaptive)
        if found is NotImplemented:
            return NotImplemented
        x, count = found
        if count is not None:
            counts.append((axis, count))
    return x if largest or whole else _without_pads(x, counts)


def _windows(x: Tensor, axis: int, one: list[Any], largest: bool, adaptive: bool) -> Any:
    """The windows of an axis, pooled, and the part of each that is no padding where there is some."""
    (width, stride, padding, dilation), n = one, x.shape[axis]
    if adaptive:
        many = n if width is None else width
        if not 0 < many <= n or n % many:
            return NotImplemented
        width = stride = n // many
    reach = dilation * (width - 1) + 1
    if not 0 < width <= _MOST or stride < 1 or padding > width // 2 or reach > n + 2 * padding:
        return NotImplemented
    many = (n + 2 * padding - reach) // stride + 1
    share = None
    if padding == 0 and dilation == 1 and stride == width:
        apart = x.narrow(axis, 0, many * width).unflatten(axis, (many, width))
    else:
        if padding:
            beside = torch.full_like(x.narrow(axis, 0, 1), -math.inf if largest else 0.0)
            x = torch.cat([beside] * padding + [x] + [beside] * padding, axis)
            share = _inside(n, many, one)
        behind: list[Any] = [slice(None)] * (-axis - 1)
        starts = range(0, width * dilation, dilation)
        places = [slice(k, k + (many - 1) * stride + 1, stride) for k in starts]
        apart = torch.stack([x[(..., place, *behind)] for place in places], axis)
    return (apart.max(axis).values if largest else apart.mean(axis)), share


def _each(size: Any, rank: int) -> list[Any]:
    return list(size) * (rank if len(size) == 1 else 1) if isinstance(size, list | tuple) else [size] * rank


def _inside(n: int, many: int, one: list[int]) -> list[float]:
    """What part of each window along an axis lies within the n elements."""
    width, stride, padding, _ = one
    starts = range(-padding, many * stride - padding, stride)
    return [(min(k + width, n) - max(k, 0)) / width for k in starts]


def _without_pads(x: Tensor, counts: list[tuple[int, list[float]]]) -> Tensor:
    """Means over what is no padding."""
    for axis, part in counts:
        share = torch.tensor(part, dtype=x.dtype).to(x.device)
        x = x / share.view(-1, *[1] * (-axis - 1))
    return x
