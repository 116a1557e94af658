"""Batches of like lengths by a budget of padded size, so that little padding is computed.

The items are ordered by length, and cut where the next one would break the budget. Where the cuts are depends on the
lengths alone, so every epoch has the same number of batches of the same sizes; which of the items of one length meet,
and the order of the batches, are drawn from (seed, epoch). A batch is a pure function of (seed, epoch, index).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["Buckets", "cuts"]

Indices = npt.NDArray[np.int64]


def cuts(lengths: npt.NDArray[np.integer], budget: int, most: int) -> list[int]:
    """Where batches of ascending `lengths` begin, and the end: rows * longest <= budget (0: any), rows <= most.

    An item that is longer than the budget is a batch by itself.
    """
    starts, begin = [0], 0
    for end in range(1, len(lengths) + 1):
        rows = end - begin
        if rows > 1 and (rows > most or (budget and rows * int(lengths[end - 1]) > budget)):
            begin = end - 1
            starts.append(begin)
    return [*starts, len(lengths)] if len(lengths) else [0]


class Buckets:
    """The batches of all epochs, as arrays of item indices."""

    def __init__(
        self, lengths: Sequence[int], *, budget: int = 0, most: int = 32, seed: int = 0, alike: bool = True
    ) -> None:
        """Take the items' lengths; alike: False mixes all lengths, in batches of `most` items.

        budget: padded size of a batch, rows times its longest (0: no limit). most: rows of a batch at most.
        """
        self.lengths = np.asarray(lengths, dtype=np.int64)
        self.seed, self.alike = seed, alike
        ordered = np.sort(self.lengths) if alike else np.ones_like(self.lengths)
        self.starts = cuts(ordered, budget if alike else 0, most)
        self._epoch, self._batches = 0, list[Indices]()

    def __len__(self) -> int:
        """Count the batches of an epoch, the same in each."""
        return len(self.starts) - 1

    def __call__(self, epoch: int, index: int) -> Indices:
        """Batch `index` of `epoch`. Raises IndexError outside of it."""
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        if epoch != self._epoch or not self._batches:
            self._batches, self._epoch = self._draw(epoch), epoch
        return self._batches[index]

    def _draw(self, epoch: int) -> list[Indices]:
        generator = np.random.default_rng([self.seed, epoch])
        ties = generator.permutation(len(self.lengths))
        order = np.lexsort((ties, self.lengths)) if self.alike else ties
        pieces = [order[a:b] for a, b in zip(self.starts, self.starts[1:], strict=False)]
        return [pieces[number] for number in generator.permutation(len(pieces))]

    @property
    def padding(self) -> float:
        """The share of an epoch's padded size that is padding."""
        padded = sum(len(batch) * int(self.lengths[batch].max()) for batch in self._draw(1))
        return 1 - int(self.lengths.sum()) / padded if padded else 0.0
