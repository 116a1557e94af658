"""Weights in eight bits: a matrix as whole numbers from -127 to 127, and one scale for each of its rows or columns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

__all__ = ["Packed", "in_eight_bits", "packed", "rounded"]

MOST = 127
Floats = npt.NDArray[Any]


class Packed(NamedTuple):
    """A matrix as numbers `(N, K)`, int8, times scales `(N,)` or `(K,)` along an axis."""

    numbers: npt.NDArray[np.int8]
    scales: Floats
    axis: int

    @property
    def values(self) -> Floats:
        """As the reader of a file has it: in the type of the scales, rounded once."""
        values: Floats = self.numbers.astype(self.scales.dtype) * np.expand_dims(self.scales, 1 - self.axis)
        return values


def rounded(values: Floats, axis: int) -> Packed:
    """The nearest such matrix; the largest number of each row (axis 0) or column (axis 1) is 127 times its scale."""
    most = np.abs(values).max(axis=1 - axis, initial=0)
    scales = _scales(most)
    found = _with(values, scales, axis)
    # The largest number is a product that was rounded, and its 127th part need not be the scale: until it is.
    for _ in range(8):
        again = _scales(np.abs(found.values).max(axis=1 - axis, initial=0))
        if np.array_equal(again, scales):
            break
        scales = again
        found = Packed(found.numbers, scales, axis)
    return found


def packed(values: Floats, axis: int) -> Packed | None:
    """A matrix that `rounded` made, as that; None for any other."""
    if values.ndim != 2 or not np.isfinite(values).all():
        return None
    found = _with(values, _scales(np.abs(values).max(axis=1 - axis, initial=0)), axis)
    return found if np.array_equal(found.values, values) else None


def _scales(most: Floats) -> Floats:
    scales: Floats = np.where(most > 0, most / most.dtype.type(MOST), most.dtype.type(1))
    return scales


def _with(values: Floats, scales: Floats, axis: int) -> Packed:
    steps = np.rint(values / np.expand_dims(scales, 1 - axis))
    return Packed(np.clip(steps, -MOST, MOST).astype(np.int8), scales, axis)


@contextmanager
def in_eight_bits(model: nn.Module) -> Iterator[None]:
    """Within, each matrix among the parameters is the nearest one of int8, with a scale for each row; then it is as it
    was. Vectors (biases, gains) stay what they are.

    Raises ValueError for a model without such a matrix, or with one that is not finite.
    """
    kept = [(name, p, p.detach().clone()) for name, p in model.named_parameters() if _is_matrix(p)]
    if not kept:
        raise ValueError("the model has no matrix of weights that could be kept in eight bits")
    for name, _, values in kept:
        if not bool(values.isfinite().all()):
            raise ValueError(f"{name} has numbers that are not finite, which eight bits cannot keep")
    try:
        with torch.no_grad():
            for _, p, values in kept:
                p.copy_(torch.from_numpy(rounded(values.cpu().numpy(), 0).values))
        yield
    finally:
        with torch.no_grad():
            for _, p, values in kept:
                p.copy_(values)


def _is_matrix(p: nn.Parameter) -> bool:
    return p.ndim == 2 and min(p.shape) > 1 and p.dtype in (torch.float32, torch.float64)
