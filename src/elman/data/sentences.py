"""Sentences of words with tags: what every reader of them gives, and where a text without ends is cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from elman.config import UserError
from elman.data.account import Account, Place

__all__ = ["Form", "Sentence", "WordReading", "cut", "cut_endless"]

Form = Literal["auto", "columns", "conllu", "table", "json", "slashes"]
STOPS = frozenset({".", "!", "?", "...", "\u2026", "\u3002", "\uff01", "\uff1f", "\u0964", "\u061f"})
# A column file of one sentence only is doubted from so many words on.
DOUBTFUL = 100


class Sentence(NamedTuple):
    """The words of a sentence with a tag each, and where it begins; group: the document that it stands in.

    Sentences of which only the words are asked have no tags.
    """

    words: tuple[str, ...]
    tags: tuple[str, ...]
    place: Place
    group: str = ""


@dataclass(frozen=True)
class WordReading:
    """How files are read; each default finds out.

    words, tags, sentences: the columns, by name or by number from 1. ends: where the sentences of columns end, at blank
    lines or at the words . ! ?; auto: at blank lines, and at these words where a file has none. tagged: whether the
    words have tags.
    """

    form: Form = "auto"
    encoding: str = "auto"
    delimiter: str = "auto"
    words: str = ""
    tags: str = ""
    sentences: str = ""
    ends: Literal["auto", "blank", "stops"] = "auto"
    tagged: bool = True


def cut(words: Sequence[str]) -> Iterator[tuple[int, int]]:
    """The stretches [start, end) that end behind a stop, or behind the signs that follow it."""
    start = 0
    for place, word in enumerate(words):
        closed = place + 1 == len(words) or words[place + 1] not in {*STOPS, '"', "''", "\u201d", ")", "'"}
        if closed and (word in STOPS or (start < place and _behind(words, start, place))):
            yield start, place + 1
            start = place + 1
    if start < len(words):
        yield start, len(words)


def _behind(words: Sequence[str], start: int, place: int) -> bool:
    """Whether only closing signs lie between a stop and this one."""
    while place > start and words[place] in {'"', "''", "\u201d", ")", "'"}:
        place -= 1
        if words[place] in STOPS:
            return True
    return False


def cut_endless(
    name: str, found: list[Sentence], lines: Sequence[Sequence[int]], account: Account, ends: str
) -> list[Sentence]:
    """The sentences of a column file, cut at stops where that is asked for, or where they have no end of their own.

    lines: the line of each word. Raises UserError where a long file has neither blank lines nor stops.
    """
    endless = len(found) == 1 and len(found[0].words) > DOUBTFUL
    if ends == "blank" or (ends == "auto" and not endless):
        return found
    pieces = [
        Sentence(own.words[a:b], own.tags[a:b], Place(name, at[a]), own.group)
        for own, at in zip(found, lines, strict=True)
        for a, b in cut(own.words)
    ]
    if endless and len(pieces) == 1:
        raise UserError(
            f"{name} has no blank line between sentences, and no word . ! ? to cut it at: it would be one sentence of "
            f"{len(found[0].words):,} words; put a blank line behind each sentence, or say --sentence-ends blank"
        )
    why = "no blank line in it, so it is" if ends == "auto" else "by --sentence-ends stops"
    account.found.append(f"{name}: {why} cut behind the words . ! ? into {len(pieces):,} sentences")
    account.read += len(pieces) - len(found)
    return pieces
