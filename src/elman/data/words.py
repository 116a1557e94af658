"""Words of a text with their places in it, and their numbers: what a classifier of texts reads."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["UNKNOWN", "Lexicon", "Span", "Unit", "pieces_of"]

Ids = npt.NDArray[np.int32]
Unit = Literal["words", "characters"]

# The number of every word that the lexicon does not have.
UNKNOWN = 0
# Contractions come apart as treebanks have them (do n't, it 's), so that text of both kinds has the same words.
_WORD = re.compile(r"n't\b|'(?:s|re|ve|ll|d|m)\b|\w+(?=n't\b)|\w+|[^\w\s]", re.IGNORECASE)
_CHARACTER = re.compile(r"\S|\s+")


class Span(NamedTuple):
    """A word and where it stands: text[start:end]."""

    word: str
    start: int
    end: int


class Lexicon(NamedTuple):
    """The known words in the order of their numbers, from 1 up; 0 is any other.

    unit: "words" (letters and digits together, each sign by itself), or "characters" (spaces as one). lower: whether
    capitals are taken for small letters. subwords: how many numbers there are for the pieces of words.
    """

    words: tuple[str, ...]
    unit: Unit = "words"
    lower: bool = True
    subwords: int = 0

    @classmethod
    def learn(
        cls,
        texts: Iterable[str],
        *,
        unit: Unit = "words",
        lower: bool = True,
        size: int = 0,
        min_count: int = 1,
        subwords: int = 0,
    ) -> Lexicon:
        """The words that stand in the texts `min_count` times or more, at most `size` of them (0: any number)."""
        empty = cls((), unit, lower)
        counts = Counter(word for text in texts for word in empty.split(text))
        kept = sorted(
            (word for word, count in counts.items() if count >= min_count), key=lambda w: (-counts[w], w)
        )
        return cls(tuple(kept[: size or None]), unit, lower, subwords)

    @property
    def size(self) -> int:
        """V, how many numbers there are."""
        return len(self.words) + 1

    def split(self, text: str) -> list[str]:
        """The words as the lexicon writes them."""
        return [self._plain(match[0]) for match in self._pattern.finditer(_straight(text))]

    def spans(self, text: str) -> list[Span]:
        """The words as the text writes them, with their places."""
        found = self._pattern.finditer(_straight(text))
        return [Span(text[match.start() : match.end()], match.start(), match.end()) for match in found]

    def pieces(self) -> tuple[Ids, Ids]:
        """The subwords of all words, one word behind the other, and where those of each number begin, `(V + 1,)`.

        See `pieces_of`; number 0, any other word, has none.
        """
        found = [pieces_of(word, self.subwords) for word in self.words]
        starts = np.cumsum([0, 0, *map(len, found)], dtype=np.int32)
        return np.array([number for own in found for number in own], dtype=np.int32), starts

    def encoder(self) -> Encoder:
        """What turns texts into numbers."""
        return Encoder(self)

    @property
    def _pattern(self) -> re.Pattern[str]:
        return _WORD if self.unit == "words" else _CHARACTER

    def _plain(self, word: str) -> str:
        if self.unit == "characters" and word.isspace():
            return " "
        return word.lower() if self.lower else word

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        shared = {"subwords": self.subwords} if self.subwords else {}
        return {"words": list(self.words), "unit": self.unit, "lower": self.lower, **shared}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Lexicon:
        """The lexicon that `to_json` wrote."""
        return cls(tuple(saved["words"]), saved["unit"], saved["lower"], saved.get("subwords", 0))


def pieces_of(word: str, count: int) -> list[int]:
    """Numbers below `count` for the pieces of <word>, of 3 to 5 characters, its ends marked: <re rea ... ead>.

    A number is the piece's CRC-32, modulo `count`: some pieces share one (Bojanowski et al. 2017, arXiv 1607.04606,
    who take 3 to 6 characters and another hash).
    """
    marked = f"<{word}>"
    pieces = [marked[at : at + n] for n in (3, 4, 5) for at in range(len(marked) - n + 1)]
    return [zlib.crc32(piece.encode("utf-8", "surrogatepass")) % count for piece in pieces]


def _straight(text: str) -> str:
    """The text with straight apostrophes, every character in its place."""
    return text.replace("\u2019", "'")


class Encoder:
    """Texts to numbers by a lexicon."""

    def __init__(self, lexicon: Lexicon) -> None:
        """Index the words."""
        self.lexicon = lexicon
        self._numbers = {word: number for number, word in enumerate(lexicon.words, 1)}

    def __call__(self, text: str) -> Ids:
        """The numbers of a text, `(T,)`."""
        numbers = self._numbers
        return np.array([numbers.get(word, UNKNOWN) for word in self.lexicon.split(text)], dtype=np.int32)
