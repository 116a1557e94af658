"""The draw of the next token in a few array operations, for a model that takes no longer than these do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from elman.decoding.checks import check_options

__all__ = ["Draw"]

Floats = npt.NDArray[np.float64]

# Random numbers are drawn so many at a time.
AT_ONCE = 256
# From so many numbers on, a sort takes longer than a look for those to be sorted.
MANY = 1000


class Draw:
    """Draws one number for each row of logits: `tokens = draw(logits)`, from what `probabilities` says.

        u ~ U[0, 1)    token = min {i : p_1 + ... + p_i > u},    p = probabilities(logits, ...)

    seed: row b draws from a generator of its own, seeded with seed + b; what it draws depends on no other row, and on
    no generator but its own. A sequence: the seed of each row. None: seeds that nobody knows. The other arguments are
    those of `probabilities`.
    Raises ValueError as `probabilities`, and for logits that are no numbers.
    """

    def __init__(
        self,
        size: int,
        *,
        rows: int = 1,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        banned: Sequence[int] = (),
        seed: int | Sequence[int] | None = None,
    ) -> None:
        """Take V, the number of logits in a row, and how many rows there are."""
        check_options(size, temperature, top_k, top_p, banned)
        self._temperature, self._top_p = temperature, top_p
        self._top_k = top_k if top_k < size else 0
        self._banned = list(banned)
        seeds = (
            seed
            if isinstance(seed, Sequence)
            else [None if seed is None else seed + row for row in range(rows)]
        )
        self._uniform = [_uniform(one) for one in seeds]
        self.rows = rows

    def __call__(self, logits: Tensor, rows: Sequence[int] | None = None) -> list[int]:
        """One number for each row of `(B, V)`. rows: which ones these are, of those that it was made for."""
        generators = self._uniform if rows is None else [self._uniform[row] for row in rows]
        weights = map(self._weights, _rows(logits))
        if self._temperature == 0:
            return [int(row.argmax()) for row in weights]
        return [_drawn(row, next(uniform)) for row, uniform in zip(weights, generators, strict=True)]

    def chances(self, logits: Tensor) -> Floats:
        """What is drawn from, `(B, V)`: for each row its probabilities."""
        weights = np.stack([self._weights(row) for row in _rows(logits)])
        if self._temperature == 0:
            only: Floats = np.eye(weights.shape[-1])[weights.argmax(-1)]
            return only
        found: Floats = weights / weights.sum(-1, keepdims=True)
        return found

    def _weights(self, z: Floats) -> Floats:
        """What a row's probabilities are in proportion to, in its place; at temperature 0, largest at the likeliest."""
        for number in self._banned:
            z[number] = -np.inf
        top = float(z.max())
        if not math.isfinite(top):
            raise ValueError(f"the largest logit of a row is {top}: there is nothing to draw from")
        if self._temperature == 0:
            return z
        z -= top
        z /= self._temperature
        np.exp(z, z)
        if self._top_k or self._top_p < 1:
            self._cut(z)
        return z

    def _cut(self, row: Floats) -> None:
        """Make zeros of what is outside the `top_k` likeliest, then outside the fewest that reach `top_p`."""
        places = None
        values = row
        if self._top_k and len(row) > MANY:
            # Sorted are only those that may stay.
            least = np.partition(row, -self._top_k)[-self._top_k]
            places = (row >= least).nonzero()[0]
            values = row[places]
        # Of equal ones the first.
        order = (-values).argsort(kind="stable")
        if self._top_k:
            order = order[: self._top_k]
        values = values[order]
        if self._top_p < 1:
            # Dropped is what stands after the sum has reached top_p; the first always stays.
            sums = values.cumsum()
            count = 1 + int(sums.searchsorted(self._top_p * sums[-1]))
            order, values = order[:count], values[:count]
        row.fill(0)
        row[order if places is None else places[order]] = values


def _rows(logits: Tensor) -> Floats:
    """The logits in memory of their own."""
    return logits.detach().to("cpu", torch.float64, copy=True).numpy()


def _drawn(weights: Floats, u: float) -> int:
    """min {i : w_1 + ... + w_i > u (w_1 + ... + w_V)}."""
    sums = weights.cumsum()
    # u < 1, so u times the sum is below the sum in floating point too, and what has no weight is never drawn.
    return int(sums.searchsorted(u * sums[-1], "right"))


def _uniform(seed: int | None) -> Iterator[float]:
    """Numbers from U[0, 1)."""
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    while True:
        yield from torch.rand(AT_ONCE, dtype=torch.float64, generator=generator).tolist()
