"""What a session can be asked for, as works of the batcher."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from elman.data.vocabulary import Stream as Spelling
from elman.runtime import Frozen
from elman.runtime.texts import TextWriter
from elman.serve.batcher import Arrays, RefusalError, Work

__all__ = ["Reading", "Rows", "Writing"]

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


class Reading(Work):
    """A language model reads tokens, two or more: `nats`, the surprise -log p of each but the first."""

    def __init__(
        self, tokens: Sequence[int], tell: Told | None = None, *, deadline: float = math.inf
    ) -> None:
        self.tokens, self.tell, self.deadline = tokens, tell, deadline
        self.nats = np.empty(len(tokens) - 1)
        self._at = 0

    def write(self, xs: Arrays, row: int) -> None:
        """The next token."""
        xs[0][row] = self.tokens[self._at]

    def read(self, ys: Arrays, row: int) -> bool:
        """How surprising the one behind it is."""
        logits = ys[0][row].astype(np.float64)
        highest = logits.max()
        total = highest + np.log(np.exp(logits - highest).sum())
        self.nats[self._at] = total - logits[self.tokens[self._at + 1]]
        self._at += 1
        return self._at == len(self.nats)

    def done(self, error: RefusalError | None) -> None:
        """Passed on."""
        if self.tell is not None:
            self.tell(self, error)


class Writing(Work):
    """A language model reads tokens and writes `length` more, one or more, into `text`; `last` is not yet read.

    spell: turns them into text. piece: is told of each bit of text as it comes, by the thread that steps.
    """

    def __init__(
        self,
        writer: TextWriter,
        tokens: Sequence[int],
        spell: Spelling,
        tell: Told | None = None,
        *,
        length: int,
        temperature: float,
        top_k: int,
        seed: int | None,
        piece: Callable[[str], None] | None = None,
        deadline: float = math.inf,
    ) -> None:
        self.writer, self.tokens, self.spell, self.tell, self.deadline = writer, tokens, spell, tell, deadline
        self.left, self.temperature, self.top_k, self.piece = length, temperature, top_k, piece
        self.last, self.pieces = tokens[0], [""]
        self._draw = np.random.default_rng(seed)
        self._at = 0

    @property
    def text(self) -> str:
        """What is written by now."""
        return "".join(self.pieces)

    def write(self, xs: Arrays, row: int) -> None:
        """A token of the prompt, then the one that was written last."""
        if self._at < len(self.tokens):
            self.last = self.tokens[self._at]
        xs[0][row] = self.last

    def read(self, ys: Arrays, row: int) -> bool:
        """The next token, behind the prompt."""
        self._at += 1
        if self._at < len(self.tokens):
            return False
        self.last = self.writer.choose(ys[0][row], self._draw, self.temperature, self.top_k)
        text = self.spell.push(self.last)
        if text:
            self.pieces.append(text)
            if self.piece is not None:
                self.piece(text)
        self.left -= 1
        return self.left == 0

    def done(self, error: RefusalError | None) -> None:
        """Passed on."""
        if self.tell is not None:
            self.tell(self, error)
