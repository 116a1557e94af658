"""Pooling within a row over windows that lie side by side: sums and largest elements of an axis of their own."""

from __future__ import annotations

from typing import Any

from torch import Tensor

__all__ = ["POOLS", "pool"]

# Axes that are pooled, whether the largest is taken (else the mean), whether the number of windows is given.
POOLS = {
    f"{given}{kind}_pool{rank}d": (rank, kind == "max", bool(given))
    for given in ("", "adaptive_")
    for kind in ("avg", "max")
    for rank in (1, 2)
}
_DEFAULTS: dict[str, Any] = {
    "padding": 0, "dilation": 1, "ceil_mode": False, "divisor_override": None, "return_indices": False,
}  # fmt: skip
_AVERAGE = ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
_LARGEST = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_NUMBERED = ("input", "output_size", "return_indices")


def pool(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`F.avg_pool1d` and its kin, of these arguments; NotImplemented where windows overlap, or where some of a row lies
    between them or beside them as zeros.

    The first of equal elements has the gradient, as in torch.
    """
    rank, largest, adaptive = POOLS[name]
    given = (
        dict(zip(_NUMBERED if adaptive else _LARGEST if largest else _AVERAGE, args, strict=False)) | kwargs
    )
    x: Tensor = given.pop("input")
    if x.dim() <= rank:
        return NotImplemented
    asked = _each(given.pop("output_size" if adaptive else "kernel_size"), rank)
    stride, _ = given.pop("stride", None), given.pop("count_include_pad", None)
    plain = all(_each(v, rank) == _each(_DEFAULTS.get(k), rank) for k, v in given.items())
    if not plain or (stride is not None and _each(stride, rank) not in (asked, [])):
        return NotImplemented
    for axis, n in zip(
        range(-1, -rank - 1, -1), reversed(asked), strict=True
    ):  # rows of a window one after the other
        whole = x.shape[axis]
        width = whole if n is None else n
        if not 0 < width <= whole or (adaptive and whole % width):
            return NotImplemented
        width = whole // width if adaptive and n is not None else 1 if adaptive else width
        x = x.narrow(axis, 0, whole // width * width).unflatten(axis, (whole // width, width))
        x = x.max(axis).values if largest else x.mean(axis)
    return x


def _each(size: Any, rank: int) -> list[Any]:
    return list(size) * (rank if len(size) == 1 else 1) if isinstance(size, list | tuple) else [size] * rank
