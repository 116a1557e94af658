"""Pretrained word vectors in their text forms, for the words of a vocabulary.

A line is a word and its numbers, separated by spaces. word2vec and fastText put a header before them, "count width";
GloVe has none, and some of its words hold spaces themselves. The file may be gzipped.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from elman.config import UserError

__all__ = ["Vectors", "read_vectors"]

_SHOWN = 5


@dataclass(frozen=True)
class Vectors:
    """The vectors of the words that were found.

    numbers `(N,)`: their numbers in the vocabulary, rising. rows `(N, I)`, float32. unknown: the words of the
    vocabulary that the file does not have, in the order of their numbers. repeated: how many words stand in the file
    more than once; the first one counts.
    """

    path: Path
    numbers: NDArray[np.int64]
    rows: NDArray[np.float32]
    unknown: tuple[str, ...]
    repeated: int

    @property
    def width(self) -> int:
        """I."""
        return int(self.rows.shape[1])

    def lines(self) -> list[str]:
        """What was found, for the user."""
        total = len(self.numbers) + len(self.unknown)
        lines = [f"{self.path}: vectors of {self.width} numbers for {len(self.numbers):,} of {total:,} words"]
        if self.unknown:
            shown = ", ".join(map(repr, self.unknown[:_SHOWN])) + (
                ", ..." if len(self.unknown) > _SHOWN else ""
            )
            lines.append(
                f"{len(self.unknown):,} words are unknown to it and start from random vectors: {shown}"
            )
        if self.repeated:
            lines.append(f"{self.repeated:,} words stand in it more than once; the first vector is taken")
        return lines


def read_vectors(path: str | Path, words: Iterable[str], *, width: int = 0) -> Vectors:
    """The vectors that a file has for `words`, whose order gives their numbers.

    width: how many numbers a vector must have (0: as many as in the file). Raises UserError with the line for one of
    another width, for what is no number, for a file in word2vec's binary form, and where not a single word is found.
    """
    path = Path(path)
    wanted = {word: number for number, word in enumerate(words)}
    found: dict[int, NDArray[np.float32]] = {}
    repeated = 0
    try:
        with _opened(path) as lines:
            for word, row in _rows(path, lines, wanted, width):
                repeated += wanted[word] in found
                found.setdefault(wanted[word], row)
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read the vectors in {path}: {reason}") from None
    if not found:
        raise UserError(
            f"{path} has a vector for none of the {len(wanted):,} words; is it of another language or case?"
        )
    numbers = np.array(sorted(found), dtype=np.int64)
    unknown = tuple(word for word, number in wanted.items() if number not in found)
    return Vectors(path, numbers, np.stack([found[number] for number in numbers]), unknown, repeated)


def _opened(path: Path) -> IO[bytes]:
    # The first two bytes of a gzip file.
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else path.open("rb")  # type: ignore[return-value]


def _rows(
    path: Path, lines: Iterable[bytes], wanted: Mapping[str, int], width: int
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The word and the vector of each line that has a wanted word; all lines are checked for their width."""
    found_in = f"the {width} that are asked for" if width else ""
    for place, line in enumerate(lines, 1):
        fields = line.rstrip().split(b" ") if b"\t" not in line else line.split()
        where = f"{path}:{place}"
        if place == 1 and (header := _header(fields)) is not None:
            if width and header != width:
                raise UserError(
                    f"{where}: the vectors have {header} numbers, not {found_in}; give --embedding {header}"
                )
            width, found_in = header, f"the {header} of the header in line 1"
            continue
        if place <= 2 and b"\0" in line:
            raise UserError(f"{path} is in a binary form; save it in word2vec's text form")
        if fields in ([b""], []):
            continue
        if not width:
            width, found_in = _count(fields), f"the {_count(fields)} of line {place}"
        yield from _row(fields, width, wanted, where, found_in)


def _header(fields: list[bytes]) -> int | None:
    """The width in a header "count width"; None for a line that is none."""
    return int(fields[1]) if len(fields) == 2 and all(field.isdigit() for field in fields) else None


def _row(
    fields: list[bytes], width: int, wanted: Mapping[str, int], where: str, found_in: str
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    spelled = b" ".join(fields[: max(1, len(fields) - width)])
    word = spelled.decode("utf-8", "replace")
    extra = len(fields) - 1 - width
    if extra < 0 or (extra > 0 and _is_number(fields[1])):
        raise UserError(
            f"{where}: {word!r} has {_count(fields)} numbers, not {found_in}; mend or delete the line"
        )
    if word in wanted:
        yield word, _numbers(fields[-width:], word, where)


def _numbers(fields: list[bytes], word: str, where: str) -> NDArray[np.float32]:
    for field in fields:
        if not _is_number(field):
            shown = field.decode("utf-8", "replace")
            raise UserError(
                f"{where}: {shown!r} in the vector of {word!r} is not a finite number; mend or delete the line"
            )
    return np.array(fields, dtype=np.float64).astype(np.float32)


def _count(fields: list[bytes]) -> int:
    """How many numbers end a line, after the word."""
    count = 0
    while count < len(fields) - 1 and _is_number(fields[-1 - count]):
        count += 1
    return count


def _is_number(field: bytes) -> bool:
    try:
        return bool(np.isfinite(float(field)))
    except ValueError:
        return False
