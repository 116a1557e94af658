"""Tokens: text <-> numbers, by characters, bytes, words or byte pairs.

Each tokenizer is learnt from the training text (`learn`), kept as JSON (`to_json`, `from_json`), and turns text into
numbers (`encode`) and numbers back into text, at once (`decode`) or one by one (`stream`). Characters, bytes and byte
pairs give back exactly the text they were given; words give back the words and the line ends.
"""

from __future__ import annotations

import codecs
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from elman.data.pieces import Piece
from elman.errors import UserError

__all__ = [
    "KINDS",
    "BytePairs",
    "Bytes",
    "Characters",
    "Stream",
    "Tokenizer",
    "Words",
    "byte_letters",
    "from_json",
    "learn",
    "learn_pieces",
]

Ids = npt.NDArray[np.int32]

UNKNOWN = "<unk>"
END_OF_LINE = "<eos>"
END_OF_DOCUMENT = "<end>"
BYTE_PAIRS = 4096


class Stream(ABC):
    """Numbers to text one by one, as a generator prints them."""

    @abstractmethod
    def push(self, token: int) -> str:
        """The text that this token completes; empty while a character is not whole yet."""

    def close(self) -> str:
        """What is left at the end."""
        return ""


class Tokenizer(ABC):
    """What all tokenizers have in common.

    kind: the word in the settings. unit: what one token is, for texts. size: V, how many numbers there are. mark: the
    number that stands between documents, or None. unknown: the number for what was never seen, or None.
    """

    kind: ClassVar[str]
    unit: ClassVar[str]
    size: int
    mark: int | None = None
    unknown: int | None = None

    @abstractmethod
    def encode(self, text: str) -> Ids:
        """The numbers of a text."""

    @staticmethod
    def cut(text: str) -> int:
        """The last place at which a text may be cut, its pieces having the numbers of the whole; 0 where there is none.

        So whatever comes behind it.
        """
        return len(text)

    def strange(self, text: str) -> list[str]:
        """What the text holds that no training text did, each once, in order; nothing where all can be spelled."""
        return []

    @abstractmethod
    def stream(self, before: str = "") -> Stream:
        """A fresh decoder; `before`: the text that its text will follow."""

    def shown(self, token: int) -> str:
        """One token for a reader: its own text, bytes that are no character as `\\xe4`, the mark as `<end>`."""
        if token == self.mark:
            return END_OF_DOCUMENT
        return UNKNOWN if token == self.unknown else self._shown(token)

    def _shown(self, token: int) -> str:
        return self.stream().push(token)

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """All of it, for a file."""

    def encode_piece(self, piece: Piece) -> Ids:
        """The numbers of a piece of a document that ends where `cut` allows; behind its last one the mark, if any."""
        ids = self.encode(piece.text)
        if self.mark is None or not piece.last:
            return ids
        return np.append(ids, np.int32(self.mark))

    def encode_documents(self, texts: Sequence[str]) -> Ids:
        """The numbers of several documents in one row, a mark behind each where the tokenizer has one."""
        rows = [self.encode_piece(Piece(text)) for text in texts]
        return np.concatenate(rows) if rows else np.zeros(0, dtype=np.int32)

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of the numbers."""
        stream = self.stream()
        return "".join([stream.push(int(token)) for token in tokens]) + stream.close()

    @property
    def start(self) -> int:
        """The number a text begins after: the mark, else a line end where there is one, else 0."""
        if self.mark is not None:
            return self.mark
        line_end = self.encode("\n")
        return int(line_end[0]) if len(line_end) and line_end[0] != self.unknown else 0


class _Pieces(Stream):
    """Each token has its own text."""

    def __init__(self, pieces: Sequence[str]) -> None:
        self.pieces = pieces

    def push(self, token: int) -> str:
        return self.pieces[token]


class Characters(Tokenizer):
    """One token a character: 0 is `<unk>`, 1 the mark where there is one, then the characters by code point."""

    kind = "characters"
    unit = "character"

    def __init__(self, characters: str, *, marked: bool) -> None:
        """Take the known characters; `marked`: whether documents are marked off."""
        self.characters = characters
        self.unknown = 0
        self.mark = 1 if marked else None
        first = 2 if marked else 1
        self.size = first + len(characters)
        points = _code_points(characters)
        self._table = np.zeros(int(points.max(initial=0)) + 1, dtype=np.int32)
        self._table[points] = np.arange(first, self.size, dtype=np.int32)

    @classmethod
    def learn(cls, pieces: Iterable[Piece], *, size: int, min_count: int, marked: bool) -> Characters:
        """The characters seen at least `min_count` times, at most `size` numbers in all (0: no limit)."""
        seen = np.zeros(0x110000, dtype=np.int64)
        for text, _ in pieces:
            found, counts = np.unique(_code_points(text), return_counts=True)
            seen[found] += counts
        kept = np.flatnonzero(seen >= min_count)
        if size:
            room = max(size - 1 - marked, 0)
            kept = np.sort(kept[np.argsort(-seen[kept], kind="stable")[:room]])
        return cls("".join(map(chr, kept.tolist())), marked=marked)

    def encode(self, text: str) -> Ids:
        """One number a character."""
        points = _code_points(text)
        known = points < len(self._table)
        return np.where(known, self._table[np.where(known, points, 0)], 0).astype(np.int32)

    def stream(self, before: str = "") -> Stream:
        """Each number is a character at once."""
        return _Pieces(["\N{REPLACEMENT CHARACTER}", *(["\n\n"] if self.mark else []), *self.characters])

    def _shown(self, token: int) -> str:
        return self.characters[token - (1 if self.mark is None else 2)]

    def to_json(self) -> dict[str, Any]:
        """The characters in order."""
        return {"characters": self.characters, "marked": self.mark is not None}


class _Utf8(Stream):
    """Each token has its bytes; a character appears when its last byte does."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = pieces
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        return self.decoder.decode(self.pieces[token])

    def close(self) -> str:
        return self.decoder.decode(b"", final=True)


class Bytes(Tokenizer):
    """One token a byte of UTF-8: 0 to 255, and the mark is 256."""

    kind = "bytes"
    unit = "byte"

    def __init__(self, *, marked: bool) -> None:
        """`marked`: whether documents are marked off."""
        self.mark = 256 if marked else None
        self.size = 256 + marked

    def encode(self, text: str) -> Ids:
        """One number a byte."""
        return np.frombuffer(_utf8(text), dtype=np.uint8).astype(np.int32)

    def stream(self, before: str = "") -> Stream:
        """A character appears with its last byte."""
        return _Utf8([*(bytes([i]) for i in range(256)), b"\n\n"])

    def _shown(self, token: int) -> str:
        return bytes([token]).decode("utf-8", "backslashreplace")

    def to_json(self) -> dict[str, Any]:
        """There is nothing to learn but the mark."""
        return {"marked": self.mark is not None}


class _Lines(Stream):
    """Words with a space between them, line ends as such."""

    def __init__(self, words: Sequence[str], *, at_start: bool) -> None:
        self.words = words
        self.at_start = at_start

    def push(self, token: int) -> str:
        word = self.words[token]
        before = "" if self.at_start or word == END_OF_LINE else " "
        self.at_start = word == END_OF_LINE
        return "\n" if word == END_OF_LINE else before + word


class Words(Tokenizer):
    """One token a word between spaces, and `<eos>` at the end of each line, as Penn Treebank is read.

    Numbers go by frequency, then by spelling. A word that is not known becomes `<unk>`.
    """

    kind = "words"
    unit = "word"

    def __init__(self, words: Sequence[str], *, marked: bool = False) -> None:
        """Take the words in the order of their numbers; `marked`: whether documents are marked off."""
        self.words = list(words)
        self.mark = len(self.words) if marked else None
        self.size = len(self.words) + marked
        self._numbers = {word: number for number, word in enumerate(self.words)}
        self.unknown = self._numbers[UNKNOWN]

    @classmethod
    def learn(cls, pieces: Iterable[Piece], *, size: int, min_count: int, marked: bool = False) -> Words:
        """The words seen at least `min_count` times, at most `size` numbers in all (0: no limit)."""
        counts = Counter[str]()
        for text, last in pieces:
            counts.update(text.split())
            counts[END_OF_LINE] += text.count("\n") + (last and not text.endswith("\n"))
        words = [word for word, count in counts.items() if count >= min_count or word == END_OF_LINE]
        words.sort(key=lambda word: (-counts[word], word))
        if size:
            room = size - marked
            words = words[: room if UNKNOWN in words[:room] else room - 1]
        return cls(words if UNKNOWN in words else [*words, UNKNOWN], marked=marked)

    def encode(self, text: str) -> Ids:
        """One number a word, and one at the end of each line; the last line counts as open."""
        *lines, rest = text.split("\n")
        words = [word for line in lines for word in (*line.split(), END_OF_LINE)] + rest.split()
        return np.array([self._numbers.get(word, self.unknown) for word in words], dtype=np.int32)

    def strange(self, text: str) -> list[str]:
        """The words without a number of their own."""
        return list(dict.fromkeys(word for word in text.split() if word not in self._numbers))

    @staticmethod
    def cut(text: str) -> int:
        """Behind a space of any kind."""
        return len(text) if text[-1:].isspace() else len(text) - len(text.rsplit(None, 1)[-1])

    def encode_piece(self, piece: Piece) -> Ids:
        """As the base, but a document always ends with a line end."""
        ends = not piece.last or piece.text.endswith("\n")
        return super().encode_piece(piece if ends else Piece(piece.text + "\n"))

    def stream(self, before: str = "") -> Stream:
        """Words with a space between them."""
        words = self.words if self.mark is None else [*self.words, END_OF_LINE]
        return _Lines(words, at_start=not before or before[-1].isspace())

    def _shown(self, token: int) -> str:
        return self.words[token]

    def to_json(self) -> dict[str, Any]:
        """The words in order."""
        return {"words": self.words, **({} if self.mark is None else {"marked": True})}


class BytePairs(Tokenizer):
    """Byte pair encoding over bytes (Sennrich et al., arXiv 1508.07909), so that any text comes back as it was.

    The merges are learnt and carried out by the `tokenizers` package. The mark, where there is one, is the last number.
    """

    kind = "bpe"
    unit = "token"

    def __init__(self, model: str, *, marked: bool) -> None:
        """Take the text form of a `tokenizers.Tokenizer`; `marked`: whether documents are marked off."""
        import tokenizers

        self._model = tokenizers.Tokenizer.from_str(model)
        self._bytes: list[bytes] | None = None
        pairs = self._model.get_vocab_size()
        self.mark = pairs if marked else None
        self.size = pairs + marked

    @classmethod
    def learn(
        cls, pieces: Iterable[Piece], *, size: int, min_count: int, marked: bool, length: int
    ) -> BytePairs:
        """Merge pairs until there are `size` numbers (0: 4,096), or no pair is seen max(2, `min_count`) times.

        length: the characters of all pieces.
        """
        import tokenizers
        from tokenizers import models, pre_tokenizers, trainers

        # More numbers than bytes cannot come of merging; the trainer reserves memory for all that it is asked for.
        most = 256 + length * 4
        room = min(size or BYTE_PAIRS, most) - marked
        if room < 256:
            raise UserError(
                f"--vocabulary {size} is too small for byte pairs: the 256 bytes are in it; take 512 or more"
            )
        model = tokenizers.Tokenizer(models.BPE())
        model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=room,
            min_frequency=max(min_count, 2),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        model.train_from_iterator((text for text, _ in pieces), trainer)
        return cls(model.to_str(), marked=marked)

    @staticmethod
    def cut(text: str) -> int:
        """Between what is no space and a space or a line end: no pair goes from the one into the other."""
        at = len(text)
        while (at := max(text.rfind(" ", 0, at), text.rfind("\n", 0, at))) > 0:
            # Of a few control characters it is not agreed whether they are spaces; all that is printable is clear.
            if text[at - 1].isprintable() and text[at - 1] != " ":
                return at
        return 0

    def encode(self, text: str) -> Ids:
        """The numbers after all merges."""
        _utf8(text)
        return np.array(self._model.encode(text).ids, dtype=np.int32)

    def stream(self, before: str = "") -> Stream:
        """A character appears with its last byte."""
        return _Utf8([*self._spelled(), b"\n\n"])

    def _spelled(self) -> list[bytes]:
        """The bytes of each token."""
        if self._bytes is None:
            letters = {letter: byte for byte, letter in enumerate(byte_letters())}
            words = [self._model.id_to_token(i) or "" for i in range(self._model.get_vocab_size())]
            self._bytes = [bytes(letters[letter] for letter in word) for word in words]
        return self._bytes

    def _shown(self, token: int) -> str:
        return self._spelled()[token].decode("utf-8", "backslashreplace")

    def to_json(self) -> dict[str, Any]:
        """The merges, in the format of `tokenizers`."""
        return {"tokenizers": json.loads(self._model.to_str()), "marked": self.mark is not None}


def byte_letters() -> list[str]:
    """The visible letter by which byte-level BPE writes each byte: printable ones stay, the rest begin at U+0100."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(spare)) for byte in range(256)]


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"the text holds half a character (a lone surrogate, at position {error.start})"
        ) from None


def _code_points(text: str) -> npt.NDArray[np.uint32]:
    _utf8(text)
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)


KINDS: dict[str, type[Tokenizer]] = {cls.kind: cls for cls in (Characters, Bytes, Words, BytePairs)}


def learn(
    kind: str, texts: Sequence[str], *, size: int, min_count: int, marked: bool, apart: bool = False
) -> Tokenizer:
    """The tokenizer of that kind for these texts; see the classes for what the sizes mean.

    marked: documents have a mark behind them. apart: also of words, whose line ends are enough for texts read on.
    """
    return learn_pieces(
        kind,
        map(Piece, texts),
        size=size,
        min_count=min_count,
        marked=marked,
        apart=apart,
        length=sum(map(len, texts)),
    )


def learn_pieces(
    kind: str,
    pieces: Iterable[Piece],
    *,
    size: int,
    min_count: int,
    marked: bool,
    apart: bool,
    length: int,
) -> Tokenizer:
    """As `learn`, of documents in pieces that end where the tokenizer's `cut` allows, of `length` characters in all."""
    if kind == "characters":
        return Characters.learn(pieces, size=size, min_count=min_count, marked=marked)
    if kind == "words":
        return Words.learn(pieces, size=size, min_count=min_count, marked=apart)
    if kind == "bpe":
        return BytePairs.learn(pieces, size=size, min_count=min_count, marked=marked, length=length)
    return Bytes(marked=marked)


def to_json(tokenizer: Tokenizer) -> dict[str, Any]:
    """The tokenizer with its kind, as `from_json` reads it."""
    return {"kind": tokenizer.kind, **tokenizer.to_json()}


def from_json(saved: dict[str, Any]) -> Tokenizer:
    """The tokenizer that `to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
    kind = saved["kind"]
    if kind == "characters":
        return Characters(saved["characters"], marked=saved["marked"])
    if kind == "words":
        return Words(saved["words"], marked=saved.get("marked", False))
    if kind == "bpe":
        return BytePairs(json.dumps(saved["tokenizers"]), marked=saved["marked"])
    if kind == "bytes":
        return Bytes(marked=saved["marked"])
    raise ValueError(f"no tokenizer is called {kind!r}")
