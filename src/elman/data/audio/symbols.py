"""What a recognizer writes: the symbols of the training transcripts, and transcripts as numbers."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = ["BLANK", "Symbols", "cleaned"]

# CTC's blank is number 0; the symbols begin at 1.
BLANK = 0
APOSTROPHES = str.maketrans({"’": "'", "ʼ": "'", "`": "'"})


def cleaned(text: str, *, lower: bool, punctuation: bool) -> str:
    """A transcript as it is learnt: composed letters (NFC), single spaces; signs dropped unless `punctuation`."""
    text = unicodedata.normalize("NFC", text)
    text = text.lower() if lower else text
    if not punctuation:
        text = text.translate(APOSTROPHES)
        text = "".join(c if c == "'" or unicodedata.category(c)[0] not in "PS" else " " for c in text)
        text = " ".join(word.strip("'") for word in text.split())
    return " ".join(text.split())


class Symbols(NamedTuple):
    """The symbols in the order of their numbers, from 1; words: whether each is a whole word."""

    names: tuple[str, ...]
    words: bool = False

    @classmethod
    def learn(cls, texts: Iterable[str], *, words: bool) -> Symbols:
        """Those of the training transcripts, in their order."""
        return cls(tuple(sorted({symbol for text in texts for symbol in _split(text, words)})), words)

    def encode(self, text: str) -> list[int]:
        """The numbers of a transcript; symbols that are not known are left out."""
        numbers = {name: number for number, name in enumerate(self.names, 1)}
        return [numbers[symbol] for symbol in _split(text, self.words) if symbol in numbers]

    def unknown(self, text: str) -> list[str]:
        """The symbols of a transcript that are not known, each once."""
        known = set(self.names)
        return [symbol for symbol in dict.fromkeys(_split(text, self.words)) if symbol not in known]

    def decode(self, numbers: Sequence[int]) -> str:
        """The text of numbers, single spaces between words."""
        pieces = [self.names[number - 1] for number in numbers]
        return " ".join(pieces) if self.words else " ".join("".join(pieces).split())

    def pieces(self, numbers: Sequence[int]) -> list[tuple[str, int, int]]:
        """The words of numbers, each with its first and last place in `numbers`."""
        if self.words:
            return [(self.names[number - 1], at, at) for at, number in enumerate(numbers)]
        found: list[tuple[str, int, int]] = []
        word, first, last = "", 0, 0
        for at, number in enumerate(numbers):
            symbol = self.names[number - 1]
            if symbol.isspace():
                found += [(word, first, last)] if word else []
                word = ""
            else:
                word, first, last = word + symbol, (at if not word else first), at
        return [*found, (word, first, last)] if word else found


def _split(text: str, words: bool) -> Sequence[str]:
    return text.split() if words else text
