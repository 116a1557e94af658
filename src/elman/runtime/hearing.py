"""From symbols over time to words with their times: what a recognizer and a frozen one have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from elman.data.audio.symbols import BLANK, Symbols

__all__ = ["BestPath", "Heard", "HeardWord", "Path", "words_of"]


class HeardWord(NamedTuple):
    """A word, from where it starts to where it ends in seconds; confidence: the geometric mean of its symbols' p."""

    word: str
    start: float
    end: float
    confidence: float

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "word": self.word,
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "confidence": round(self.confidence, 4),
        }


class Heard(NamedTuple):
    """The text of a recording, and its words."""

    text: str
    words: list[HeardWord]

    @property
    def confidence(self) -> float:
        """The mean of the words', 1 where there are none."""
        return float(np.mean([word.confidence for word in self.words])) if self.words else 1.0


class Path(NamedTuple):
    """Symbols of the best path: number, first and last step, and the sum of log p over the steps between."""

    number: int
    first: int
    last: int
    total: float


def words_of(path: Sequence[Path], symbols: Symbols, seconds: float) -> Heard:
    """The text of a path, and its words; seconds: from one step to the next."""
    numbers = [entry.number for entry in path]
    words = []
    for word, first, last in symbols.pieces(numbers):
        own = path[first : last + 1]
        logs = sum(entry.total / (entry.last - entry.first + 1) for entry in own) / len(own)
        times = own[0].first * seconds, (own[-1].last + 1) * seconds
        words.append(HeardWord(word, *times, float(np.exp(logs))))
    return Heard(symbols.decode(numbers), words)


class BestPath:
    """The best path, step by step: a symbol is final as soon as it appears. before: the number of the last step."""

    def __init__(self) -> None:
        self.symbols: list[Path] = []
        self.steps = 0
        self.before = BLANK

    def read(self, values: Iterable[float], numbers: Iterable[int]) -> None:
        """The next steps: the likeliest symbol of each, or the blank, and log p of it."""
        for value, number in zip(values, numbers, strict=True):
            if number != BLANK:
                if number == self.before:
                    last = self.symbols[-1]
                    self.symbols[-1] = last._replace(last=self.steps, total=last.total + value)
                else:
                    self.symbols.append(Path(number, self.steps, self.steps, value))
            self.before = number
            self.steps += 1
