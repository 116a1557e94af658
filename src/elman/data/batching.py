"""Batches of continuous text: B parallel streams, cut into pieces of T steps that follow each other."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from elman.data.documents import Shuffled
from elman.data.mapped import Tokens, let_go

__all__ = ["IGNORED", "Streams", "TextBatch", "training_streams", "whole_text"]

Places = npt.NDArray[np.int64]

# Places read on their own before pages are let go of.
LET_GO = 256
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
    """Streams of N steps, indexed by piece: piece i holds the steps from i*T to (i+1)*T.

    Stream b reads the tokens from starts[b] on, and its target is always the token after. They are cut from the tokens
    when they are asked for, so that these may lie in a file.
    """

    def __init__(
        self, tokens: Tokens | Shuffled, starts: Places, length: int, steps: int, mark: int | None = None
    ) -> None:
        """starts: `(B,)`; length: N; steps: T, the length of a piece; the last may be shorter.

        Past the last token the inputs are 0 and the targets `IGNORED`. mark: the number behind which a document begins,
        where the network is to forget.
        """
        self.tokens = tokens
        self.starts = starts
        self.length = length
        self.steps = steps
        self.mark = mark
        self._touched = 0

    @property
    def batch_size(self) -> int:
        """B, the number of streams."""
        return len(self.starts)

    def __len__(self) -> int:
        """Count the pieces of an epoch."""
        return math.ceil(self.length / self.steps)

    def __getitem__(self, index: int) -> TextBatch:
        """Piece `index`, time first."""
        if not 0 <= index < len(self):
            raise IndexError(f"piece {index} of {len(self)}")
        first = index * self.steps
        places = np.arange(first, min(first + self.steps, self.length) + 1)[:, None] + self.starts
        found = self.tokens[np.minimum(places, len(self.tokens) - 1)].astype(np.int64)
        beyond = places[1:] >= len(self.tokens)
        inputs, targets = np.where(beyond, 0, found[:-1]), np.where(beyond, IGNORED, found[1:])
        self._let_go(inputs)
        reset = None if self.mark is None else inputs == self.mark
        return TextBatch(inputs, targets, reset if reset is not None and reset.any() else None)

    def _let_go(self, inputs: Places) -> None:
        """Of pages that were read, once they are many: each place that is read on its own may bring in 64 KiB."""
        documents = 0 if self.mark is None else int((inputs == self.mark).sum())
        self._touched += self.batch_size + documents
        if self._touched > LET_GO:
            self._touched = 0
            let_go(self.tokens)


def training_streams(tokens: Tokens | Shuffled, batch: int, steps: int, mark: int | None = None) -> Streams:
    """Cut a text into `batch` streams of equal length and pieces of exactly `steps`; the rest at the ends is left out.

    Zaremba, Sutskever and Vinyals (arXiv 1409.2329) read Penn Treebank so: a stream has N = len(tokens) // batch
    tokens, an epoch (N - 1) // steps pieces. Raises ValueError where that is less than one piece.
    """
    length = len(tokens) // batch
    used = (length - 1) // steps * steps if length else 0
    if used < steps:
        raise ValueError(f"{len(tokens)} tokens are too few for {batch} streams of {steps} steps")
    return Streams(tokens, np.arange(batch) * length, used, steps, mark)


def whole_text(tokens: Tokens, batch: int, steps: int, mark: int | None = None) -> Streams:
    """Cut a text into `batch` streams such that every token but the first is predicted exactly once.

    The end of the last stream is filled up with targets that are `IGNORED`.
    """
    pairs = len(tokens) - 1
    if pairs < 1:
        raise ValueError(f"a text of {len(tokens)} tokens has nothing to predict; two are the least")
    batch = min(batch, pairs)
    length = -(-pairs // batch)
    return Streams(tokens, np.arange(batch) * length, length, steps, mark)
