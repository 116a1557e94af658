"""What has changed since frames before, beside the frames."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["pictures_with_differences", "with_differences"]

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


def with_differences(x: Floats, steps: tuple[int, ...]) -> Floats:
    """x `(T, F)` with x_t − x_{t−k} beside it for each k, `(T, F (1 + K))`."""
    before = [x[np.maximum(np.arange(len(x)) - k, 0)] for k in steps]
    return np.concatenate([x, *(x - other for other in before)], axis=1) if steps else x


def pictures_with_differences(x: Bytes, steps: tuple[int, ...]) -> Bytes:
    """Pictures `(T, F)` of bytes, and beside them for each k what has changed, 128 + ⌊(x_t − x_{t−k}) / 2⌋."""
    if not steps:
        return x
    wide = x.astype(np.int16)
    before = [wide[np.maximum(np.arange(len(x)) - k, 0)] for k in steps]
    changes = [(128 + (wide - other) // 2).astype(np.uint8) for other in before]
    return np.concatenate([x, *changes], axis=1)
