"""Frames side by side as one step of a network, with some that lie ahead."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["stacked", "steps_of"]

Floats = npt.NDArray[np.float32]


def steps_of(frames: int, stride: int) -> int:
    """Steps of the network over so many frames."""
    return -(-frames // stride)


def stacked(z: Floats, stride: int, ahead: int) -> Floats:
    """Frames `(T, F)` as steps `(⌈T / stride⌉, (stride + ahead) F)`.

    Step k has frames k·stride to (k+1)·stride + ahead − 1. Behind the last frame stand zeros, the
    mean of normalized frames.
    """
    T, F = z.shape
    count = steps_of(T, stride)
    if not count:
        return np.zeros((0, (stride + ahead) * F), dtype=np.float32)
    whole = np.zeros((count * stride + ahead, F), dtype=np.float32)
    whole[:T] = z
    views = np.lib.stride_tricks.sliding_window_view(whole, stride + ahead, axis=0)[::stride][:count]
    return views.transpose(0, 2, 1).reshape(count, (stride + ahead) * F).copy()
