"""Schemes of tags that mark spans of words: which one is it, tags to spans, spans to tags, what may follow what.

| scheme | a span of one word, of three |
|---|---|
| io | `I-X`; `I-X I-X I-X` (neighbours of one kind run together) |
| iob1 | the same, but `B-X` where a span of the same kind ends just before (Ramshaw and Marcus 1995) |
| bio | `B-X`; `B-X I-X I-X` (also called IOB2) |
| bioes | `S-X`; `B-X I-X E-X` (also IOBES, BMES, START/END) |
| bilou | `U-X`; `B-X I-X L-X` (Ratinov and Roth 2009) |

A word outside of all spans is `O`. The kind may be missing: `B`, `I`, `O`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "OUTSIDE",
    "Allowed",
    "Scheme",
    "TagSpan",
    "allowed",
    "recognize",
    "spans_of",
    "split_tag",
    "tags_of",
]

Scheme = Literal["io", "iob1", "bio", "bioes", "bilou"]
OUTSIDE = "O"
_TAG = re.compile(r"([BIESLUM])(?:[-_](.*))?", re.DOTALL)
# Other letters for an end, a span of one word, and the middle.
_LETTERS = {"L": "E", "U": "S", "M": "I"}


class TagSpan(NamedTuple):
    """The words [start, end) of a sentence, and of which kind they are."""

    start: int
    end: int
    kind: str


class Allowed(NamedTuple):
    """Which tags may follow which, `pairs[i, j]` `(K, K)`; which may be the first and the last, `(K,)`."""

    pairs: npt.NDArray[np.bool_]
    first: npt.NDArray[np.bool_]
    last: npt.NDArray[np.bool_]


@lru_cache(maxsize=4096)
def split_tag(tag: str) -> tuple[str, str] | None:
    """The letter (one of B, I, E, S, O) and the kind of a tag; None where it is no tag of a span."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    found = _TAG.fullmatch(tag)
    return None if found is None else (_LETTERS.get(found[1], found[1]), found[2] or "")


def recognize(rows: Iterable[Sequence[str]]) -> Scheme | None:
    """The scheme in which the tags of these sentences are written; None where they mark no spans.

    Of BIO and IOB1 it is the one with fewer spans that begin wrongly; other letters settle the rest.
    """
    letters: Counter[str] = Counter()
    begun: Counter[str] = Counter()
    for tags in rows:
        parts = [split_tag(tag) for tag in tags]
        if None in parts:
            return None
        letters.update(tag[0] for tag in tags)
        known = [part for part in parts if part is not None]
        begun.update(
            letter
            for (before, last), (letter, kind) in pairwise([(OUTSIDE, ""), *known])
            if letter != OUTSIDE and (before == OUTSIDE or kind != last)
        )
    if not letters - Counter({OUTSIDE: letters[OUTSIDE]}):
        return None
    if letters["L"] or letters["U"]:
        return "bilou"
    if letters["E"] or letters["S"] or letters["M"]:
        return "bioes"
    if not letters["B"]:
        return "io"
    return "bio" if begun["B"] >= begun["I"] else "iob1"


def spans_of(tags: Sequence[str]) -> list[TagSpan]:
    """The spans that tags of any scheme mark, in order.

    What breaks the scheme is read as conlleval reads it: a tag of another kind, or one that follows no beginning,
    begins a span; a span that has no end ends where the next begins. Raises ValueError for a tag of no scheme.
    """
    found: list[TagSpan] = []
    start, before, last = 0, OUTSIDE, ""
    for place, tag in enumerate([*tags, OUTSIDE]):
        parts = split_tag(tag)
        if parts is None:
            raise ValueError(f"{tag!r} marks no span; expected O, or B-, I-, E-, S-, L-, U- and a kind")
        letter, kind = parts
        goes_on = letter in "IE" and before in "BI" and kind == last
        if before != OUTSIDE and not goes_on:
            found.append(TagSpan(start, place, last))
        if not goes_on:
            start = place
        before, last = letter, kind
    return found


def tags_of(spans: Iterable[TagSpan], length: int, scheme: Scheme) -> list[str]:
    """The tags of a sentence of `length` words with these spans, none of which overlap."""
    tags = [OUTSIDE] * length
    before = TagSpan(0, 0, "")
    for span in sorted(spans):
        touches = span.start == before.end and span.kind == before.kind and before.end > before.start
        for place, letter in enumerate(_letters(span.end - span.start, scheme, touches=touches), span.start):
            tags[place] = f"{letter}-{span.kind}" if span.kind else letter
        before = span
    return tags


def _letters(length: int, scheme: Scheme, *, touches: bool) -> str:
    if scheme in {"io", "iob1"}:
        return ("B" if touches and scheme == "iob1" else "I") + "I" * (length - 1)
    if scheme == "bio":
        return "B" + "I" * (length - 1)
    alone, end = ("S", "E") if scheme == "bioes" else ("U", "L")
    return alone if length == 1 else "B" + "I" * (length - 2) + end


def allowed(tags: Sequence[str], scheme: Scheme) -> Allowed:
    """What a sound sequence of these tags looks like: only such are ever answered."""
    parts = [split_tag(tag) or (OUTSIDE, "") for tag in tags]
    ends = scheme in {"bioes", "bilou"}

    def follows(before: tuple[str, str], after: tuple[str, str]) -> bool:
        if scheme in {"io", "iob1"}:
            # A B says that a span of its kind has just ended.
            return after[0] != "B" or (before[0] != OUTSIDE and before[1] == after[1])
        inside = before[0] in {"B", "I"}
        goes_on = after[0] in {"I", "E"} and inside and before[1] == after[1]
        begins = after[0] not in {"I", "E"}
        return goes_on or (begins and not (ends and inside))

    outside = (OUTSIDE, "")
    pairs = np.array([[follows(a, b) for b in parts] for a in parts], dtype=bool)
    first = np.array([follows(outside, part) for part in parts], dtype=bool)
    last = np.array([follows(part, outside) for part in parts], dtype=bool)
    return Allowed(pairs.reshape(len(tags), len(tags)), first, last)
