"""Batches of continuous text: B parallel streams, cut into pieces of T steps that follow each other."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["IGNORED", "Streams", "TextBatch", "training_streams", "whole_text"]

Tokens = npt.NDArray[np.integer]

# A target with this value is counted neither in a loss nor in a metric (the default of torch's cross entropy).
IGNORED = -100


class TextBatch(NamedTuple):
    """T steps of B streams: `inputs` and `targets` `(T, B)`, int64; a target is the input of the step after.

    reset: bool `(T, B)`, true where a document begins; None where nothing does.
    """

    inputs: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    reset: npt.NDArray[np.bool_] | None = None

    @property
    def rows(self) -> int:
        """B."""
        return int(self.inputs.shape[1])

    def pick(self, rows: npt.NDArray[np.int64]) -> TextBatch:
        """Some of the streams."""
        reset = None if self.reset is None else self.reset[:, rows]
        return TextBatch(self.inputs[:, rows], self.targets[:, rows], reset)


class Streams:
    """Streams `(B, N)` with their targets, indexed by piece: piece i holds the steps from i*T to (i+1)*T."""

    def __init__(self, inputs: Tokens, targets: Tokens, steps: int, mark: int | None = None) -> None:
        """Take `inputs` and `targets` of shape `(B, N)`; `steps`: T, the length of a piece; the last may be shorter.

        mark: the number behind which a document begins, where the network is to forget.
        """
        self.mark = mark
        self.inputs = inputs
        self.targets = targets
        self.steps = steps

    @property
    def batch_size(self) -> int:
        """B, the number of streams."""
        return int(self.inputs.shape[0])

    def __len__(self) -> int:
        """Count the pieces of an epoch."""
        return math.ceil(int(self.inputs.shape[1]) / self.steps)

    def __getitem__(self, index: int) -> TextBatch:
        """Piece `index`, time first."""
        if not 0 <= index < len(self):
            raise IndexError(f"piece {index} of {len(self)}")
        piece = slice(index * self.steps, (index + 1) * self.steps)
        inputs, targets = (
            np.ascontiguousarray(a[:, piece].T, dtype=np.int64) for a in (self.inputs, self.targets)
        )
        reset = None if self.mark is None else inputs == self.mark
        return TextBatch(inputs, targets, reset if reset is not None and reset.any() else None)


def training_streams(tokens: Tokens, batch: int, steps: int, mark: int | None = None) -> Streams:
    """Cut a text into `batch` streams of equal length and pieces of exactly `steps`; the rest at the ends is left out.

    Zaremba, Sutskever and Vinyals (arXiv 1409.2329) read Penn Treebank so: a stream has N = len(tokens) // batch
    tokens, an epoch (N - 1) // steps pieces. Raises ValueError where that is less than one piece.
    """
    length = len(tokens) // batch
    used = (length - 1) // steps * steps if length else 0
    if used < steps:
        raise ValueError(f"{len(tokens)} tokens are too few for {batch} streams of {steps} steps")
    rows = tokens[: batch * length].reshape(batch, length)
    return Streams(rows[:, :used], rows[:, 1 : used + 1], steps, mark)


def whole_text(tokens: Tokens, batch: int, steps: int, mark: int | None = None) -> Streams:
    """Cut a text into `batch` streams such that every token but the first is predicted exactly once.

    The end of the last stream is filled up with targets that are `IGNORED`.
    """
    pairs = len(tokens) - 1
    if pairs < 1:
        raise ValueError(f"a text of {len(tokens)} tokens has nothing to predict; two are the least")
    batch = min(batch, pairs)
    length = -(-pairs // batch)
    inputs = np.zeros(batch * length, dtype=np.int64)
    targets = np.full(batch * length, IGNORED, dtype=np.int64)
    inputs[:pairs], targets[:pairs] = tokens[:-1], tokens[1:]
    return Streams(inputs.reshape(batch, length), targets.reshape(batch, length), steps, mark)
