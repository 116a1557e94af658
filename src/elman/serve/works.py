"""What a session can be asked for, as works of the batcher."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from elman.runtime import Frozen
from elman.serve.batcher import Arrays, RefusalError, Work

__all__ = ["Rows"]

Told = Callable[[Any, RefusalError | None], None]


class Rows(Work):
    """Steps on given inputs: xs `(T, ...)`, one array for each input of the model, T >= 1; `ys` alike."""

    def __init__(
        self, model: Frozen, xs: Sequence[Any], tell: Told | None = None, *, deadline: float = math.inf
    ) -> None:
        self.xs, self.tell, self.deadline = xs, tell, deadline
        self.ys = [np.empty((len(xs[0]), *a.shape), a.dtype) for a in model.outputs]
        self._at = 0

    def write(self, xs: Arrays, row: int) -> None:
        """The next row of each input."""
        for x, given in zip(xs, self.xs, strict=True):
            x[row] = given[self._at]

    def read(self, ys: Arrays, row: int) -> bool:
        """Kept in `ys`."""
        for y, kept in zip(ys, self.ys, strict=True):
            kept[self._at] = y[row]
        self._at += 1
        return self._at == len(self.xs[0])

    def done(self, error: RefusalError | None) -> None:
        """Passed on."""
        if self.tell is not None:
            self.tell(self, error)
