"""Words as numbers that keep their letters, and tags as numbers: what a tagger knows beside its weights."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from elman.data.schemes import Allowed, Scheme, allowed, split_tag
from elman.data.tokens import Tokenizer

__all__ = ["Codec", "encode_words", "plain"]

Ids = npt.NDArray[np.int64]
# Numbers of letters: none behind the end of a word, and one that the training data hardly have.
NO_LETTER, ODD_LETTER = 0, 1
_DIGIT = re.compile(r"\d")


@dataclass(frozen=True)
class Codec:
    """Between words and numbers, tags and numbers.

    scheme: in which spans are learned; empty where a tag is nothing but a tag. words: number 0 is any other one.
    """

    tags: tuple[str, ...]
    scheme: Scheme | None
    words: tuple[str, ...]
    letters: tuple[str, ...]
    lower: bool
    digits: bool
    longest: int
    tokenizer: Tokenizer

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Of each word of the table, from 1 up."""
        return {word: number for number, word in enumerate(self.words, 1)}

    @cached_property
    def tag_numbers(self) -> dict[str, int]:
        """Of each tag, from 0 up."""
        return {tag: number for number, tag in enumerate(self.tags)}

    @cached_property
    def letter_numbers(self) -> dict[str, int]:
        """Of each letter that is known."""
        return {letter: number for number, letter in enumerate(self.letters, ODD_LETTER + 1)}

    @cached_property
    def allowed(self) -> Allowed:
        """Which tags may follow which."""
        K = len(self.tags)
        if self.scheme is None:
            return Allowed(np.ones((K, K), dtype=bool), np.ones(K, dtype=bool), np.ones(K, dtype=bool))
        return allowed(self.tags, self.scheme)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of spans, in order."""
        found = [split_tag(tag) for tag in self.tags if tag != "O"]
        return tuple(dict.fromkeys(part[1] for part in found if part is not None))

    def plain(self, word: str) -> str:
        """A word as the table has it."""
        return plain(word, lower=self.lower, digits=self.digits)

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        own = {name: getattr(self, name) for name in ("scheme", "lower", "digits", "longest")}
        lists = {name: list(getattr(self, name)) for name in ("tags", "words", "letters")}
        return {**own, **lists, "tokenizer": self.tokenizer.to_json()}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Codec:
        """What `to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        lists: dict[str, Any] = {name: tuple(saved[name]) for name in ("tags", "words", "letters")}
        own = {name: saved[name] for name in ("scheme", "lower", "digits", "longest")}
        return cls(**lists, **own, tokenizer=Tokenizer.from_json(saved["tokenizer"]))


def plain(word: str, *, lower: bool, digits: bool) -> str:
    """A word with its capitals and digits made alike."""
    word = word.replace("\u2019", "'")
    word = word.lower() if lower else word
    return _DIGIT.sub("0", word) if digits else word


def encode_words(words: Sequence[str], codec: Codec) -> Ids:
    """The numbers of words and of their letters, `(T, 1 + C)`."""
    spelled = [_letters(word, codec) for word in words]
    found = np.zeros((len(words), 1 + max(map(len, spelled), default=1)), dtype=np.int64)
    for place, (word, letters) in enumerate(zip(words, spelled, strict=True)):
        found[place, 0] = codec.numbers.get(codec.plain(word), 0)
        found[place, 1 : 1 + len(letters)] = letters
    return found


def _letters(word: str, codec: Codec) -> list[int]:
    if len(word) > codec.longest:
        ahead = (codec.longest + 1) // 2
        word = word[:ahead] + word[len(word) - (codec.longest - ahead) :]
    numbers = codec.letter_numbers
    return [numbers.get(letter, ODD_LETTER) for letter in word]
