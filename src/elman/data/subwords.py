r"""Sentences to numbers and back: byte pairs, words or characters, learnt from the training sentences.

A sentence is cut into pieces that keep the space in front of them (` a`, ` dog`, `.`), so that the pieces written one
behind the other are the sentence again, tokenized or not. A character reference (`&apos;`) is one piece.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from elman.data.vocabulary import byte_letters

__all__ = ["END", "UNKNOWN", "Unit", "Vocabulary", "learn_vocabulary", "pieces"]

Ids = npt.NDArray[np.int32]
Unit = Literal["bpe", "words", "characters"]

# The number that stands behind every sentence and in front of a target, and that of a piece that is not known.
END, UNKNOWN, FIRST = 0, 1, 2
PIECE = r" ?&#?\w+;| ?\p{L}[\p{L}\p{M}]*| ?\p{N}+| ?[^\s\p{L}\p{N}]| +"
# The same for `re`, which has no classes of letters: \w without digits and the underscore.
_PIECE = re.compile(r" ?&#?\w+;| ?[^\W\d_]+| ?\d+| ?[^\s\w]| ?_| ?\w| +")
_ALPHABET = 256


def pieces(sentence: str) -> list[str]:
    """The pieces of a sentence, each with the space in front of it; one blank between words, none at the ends."""
    return _PIECE.findall(spaced(sentence))


def spaced(sentence: str) -> str:
    """A sentence with one blank in front of each word, the first too."""
    return "".join(f" {word}" for word in sentence.split())


class Vocabulary:
    """Sentences to numbers: 0 ends a sentence, 1 is unknown, the others are pieces of text.

    unit: what a number stands for. size: V. byte pairs spell everything, bytes at the least, so nothing is unknown.
    """

    def __init__(self, unit: Unit, texts: Sequence[str], model: Mapping[str, Any] | None, *, lower: bool):
        """texts: what each number from 2 up stands for, in order; model: byte pairs, in the format of `tokenizers`."""
        self.unit, self.texts, self.lower = unit, tuple(texts), lower
        self._model = None
        if model is not None:
            import tokenizers

            self._saved = dict(model)
            self._model = tokenizers.Tokenizer.from_str(json.dumps(model))
            letters = {letter: byte for byte, letter in enumerate(byte_letters())}
            self._bytes = [bytes(letters[letter] for letter in token) for token in self.texts]
        else:
            self._numbers = {text: number for number, text in enumerate(self.texts, FIRST)}

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return len(self.texts) + FIRST

    def encode(self, sentences: Sequence[str]) -> list[Ids]:
        """The numbers of each sentence, without an end."""
        plain = [spaced(sentence.lower() if self.lower else sentence) for sentence in sentences]
        if self._model is not None:
            found = self._model.encode_batch(plain, add_special_tokens=False)
            return [np.array(one.ids, dtype=np.int32) + FIRST for one in found]
        known = self._numbers
        cut = self.cut
        return [
            np.array([known.get(piece, UNKNOWN) for piece in cut(sentence)], dtype=np.int32)
            for sentence in plain
        ]

    def cut(self, sentence: str) -> list[str]:
        """What the numbers of a sentence stand for, as the sentence writes it: as many as `encode` gives numbers."""
        sentence = spaced(sentence.lower() if self.lower else sentence)
        if self._model is None:
            return _PIECE.findall(sentence) if self.unit == "words" else list(sentence)
        found = self._model.encode(sentence, add_special_tokens=False)
        return [self.text(number + FIRST) for number in found.ids]

    @cached_property
    def capitals(self) -> bool:
        """Whether a piece of several letters has a capital: whether the sentences had any."""
        texts = (self.text(number).strip() for number in range(FIRST, self.size))
        return any(text.lower() != text for text in texts if len(text) > 1)

    @cached_property
    def references(self) -> bool:
        """Whether signs are written as character references (`&apos;`), as some tokenizers leave them."""
        return any(text.endswith("&apos;") for text in self.texts)

    def text(self, number: int) -> str:
        """What one number stands for, for people: broken characters as such."""
        if number < FIRST:
            return ("", "<unk>")[number]
        if self._model is not None:
            return self._bytes[number - FIRST].decode("utf-8", "replace")
        return self.texts[number - FIRST]

    def decode(self, numbers: Iterable[int], copies: Mapping[int, str] | None = None) -> str:
        """The sentence of the numbers; copies: what stands for the unknown at these places, else `<unk>`."""
        if self._model is not None:
            spelled = b"".join(self._bytes[number - FIRST] for number in numbers if number >= FIRST)
            return spelled.decode("utf-8", "replace").strip()
        known = copies or {}
        parts = [
            known.get(place, " <unk>") if number == UNKNOWN else self.text(number)
            for place, number in enumerate(numbers)
        ]
        return "".join(parts).strip()

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        own = {"unit": self.unit, "lower": self.lower}
        return {**own, "tokenizers": self._saved} if self._model else {**own, "texts": list(self.texts)}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Vocabulary:
        """What `to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        model = saved.get("tokenizers")
        texts = saved["texts"] if model is None else _in_order(model["model"]["vocab"])
        return cls(saved["unit"], texts, model, lower=saved["lower"])


def learn_vocabulary(
    sentences: Sequence[str], *, unit: Unit, size: int, min_count: int = 1, lower: bool = False
) -> Vocabulary:
    """The vocabulary of these sentences, of at most `size` numbers (0: any number; of byte pairs 4,000).

    min_count: how often a word or a character must stand in them. Byte pairs are merged while a pair occurs twice
    (Sennrich, Haddow & Birch 2016, arXiv 1508.07909), never over the border of a piece.
    """
    plain = [spaced(sentence.lower() if lower else sentence) for sentence in sentences]
    if unit == "bpe":
        model = _learn_pairs(plain, max(size or 4000, _ALPHABET + FIRST) - FIRST, max(min_count, 2))
        return Vocabulary(unit, _in_order(model["model"]["vocab"]), model, lower=lower)
    counts = Counter(piece for text in plain for piece in (_PIECE.findall(text) if unit == "words" else text))
    kept = sorted(
        (piece for piece, count in counts.items() if count >= min_count), key=lambda p: (-counts[p], p)
    )
    return Vocabulary(unit, kept[: max(size - FIRST, 1) if size else None], None, lower=lower)


def _learn_pairs(sentences: Sequence[str], room: int, least: int) -> dict[str, Any]:
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    model = tokenizers.Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(PIECE), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    # The trainer reserves memory for all numbers that it is asked for: more than there are letters cannot come.
    most = _ALPHABET + sum(map(len, sentences)) * 4
    trainer = trainers.BpeTrainer(
        vocab_size=min(room, most),
        min_frequency=least,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator(sentences, trainer)
    saved: dict[str, Any] = json.loads(model.to_str())
    return saved


def _in_order(vocabulary: Mapping[str, int]) -> list[str]:
    return sorted(vocabulary, key=lambda token: vocabulary[token])
