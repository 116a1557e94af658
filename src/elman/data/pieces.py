"""Texts of any length in pieces: what is read, counted and encoded need not lie in memory as a whole.

A document comes as one piece or as several, of which the last one says so; no piece is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

__all__ = ["BLOCK", "Piece", "recut", "split", "whole"]

# Bytes of a file that are read at once.
BLOCK = 1 << 18


class Piece(NamedTuple):
    """A piece of a document; last: whether the document ends with it."""

    text: str
    last: bool = True


def whole(chunks: Iterable[str]) -> Iterator[Piece]:
    """All chunks as one document; no document where there is no text."""
    held = ""
    for chunk in filter(None, chunks):
        if held:
            yield Piece(held, last=False)
        held = chunk
    if held:
        yield Piece(held)


def split(chunks: Iterable[str], separator: str) -> Iterator[str]:
    """`text.split(separator)` of the text that all chunks are, one by one."""
    before: list[str] = []
    tail = ""
    for chunk in chunks:
        *found, rest = (tail + chunk).split(separator)
        for text in found:
            yield "".join([*before, text])
            before = []
        # A separator may have begun in the last characters, never in front of them.
        cut = max(len(rest) - len(separator) + 1, 0)
        before.append(rest[:cut])
        tail = rest[cut:]
    yield "".join([*before, tail])


def recut(pieces: Iterable[Piece], place: Callable[[str], int]) -> Iterator[Piece]:
    """The same documents, cut only at places that `place` allows: of a text the last one, 0 where there is none."""
    held = ""
    for text, last in pieces:
        held += text
        at = len(held) if last else place(held)
        if at:
            yield Piece(held[:at], last)
            held = held[at:]
