"""Plain text cut into words the way that the training sentences are cut, each with its place in the text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from elman.data.words import Span

__all__ = ["Tokenizer"]

# Abbreviations that are kept, by how often they stand in the training sentences.
MOST_ABBREVIATIONS = 2000
_LINK = r"(?:https?://|www\.)[^\s<>\"]*[^\s<>\".,;:!?()'\]]"
_MAIL = r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
_NUMBER = r"\d+(?:[.,:]\d+)+(?!\w)"
_FACE = r"[:;=8][-o*']?[)\](\[dDpP/\\|](?!\w)|<3"
_ENDING = r"n't\b|'(?:s|re|ve|ll|d|m)\b"


class Tokenizer(NamedTuple):
    """Where words end. Each choice is the one that the training sentences show more often.

    contractions: `do n't`, `it 's` as two words. hyphens: `well-known` as one. hashtags, mentions: `#this`, `@you` as
    one. runs: `!!!` as one. faces: `:-)` as one. abbreviations: words that keep their stop, such as `Mr.`.
    """

    contractions: bool = True
    hyphens: bool = True
    hashtags: bool = True
    mentions: bool = True
    runs: bool = False
    faces: bool = True
    abbreviations: tuple[str, ...] = ()

    @classmethod
    def learn(cls, sentences: Iterable[Sequence[str]]) -> Tokenizer:
        """What the words of these sentences show; where they show nothing, the default."""
        whole: Counter[str] = Counter()
        parted: Counter[str] = Counter()
        stops: Counter[str] = Counter()
        for words in sentences:
            for before, word in pairwise(["", *words]):
                _count(before, word.replace("\u2019", "'"), whole, parted)
                if re.fullmatch(r"(?=.*[^\W\d_])[^\s.](?:.*[^\s.])?\.", word) and not re.fullmatch(
                    _LINK, word
                ):
                    stops[word] += 1
        names = ("contractions", "hyphens", "hashtags", "mentions", "runs", "faces")
        default = cls()
        shown = {
            name: whole[name] >= parted[name] if whole[name] + parted[name] else getattr(default, name)
            for name in names
        }
        kept = sorted(stops, key=lambda word: (-stops[word], word))[:MOST_ABBREVIATIONS]
        return cls(**shown, abbreviations=tuple(kept))

    def spans(self, text: str) -> list[Span]:
        """The words of a text with their places; everything but white space is in one of them."""
        straight = text.replace("\u2019", "'")
        found = _pattern(self).finditer(straight)
        return [Span(text[match.start() : match.end()], match.start(), match.end()) for match in found]

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {**self._asdict(), "abbreviations": list(self.abbreviations)}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Tokenizer:
        """The tokenizer that `to_json` wrote."""
        return cls(**{**saved, "abbreviations": tuple(saved["abbreviations"])})


def _count(before: str, word: str, whole: Counter[str], parted: Counter[str]) -> None:
    """What one word, and the one before it, show of each choice."""
    if re.fullmatch(_ENDING, word, re.IGNORECASE):
        whole["contractions"] += 1
    elif re.search(rf"\w(?:{_ENDING})$", word, re.IGNORECASE):
        parted["contractions"] += 1
    if re.fullmatch(r"\w+-\w[\w-]*", word):
        whole["hyphens"] += 1
    if word == "-" and re.fullmatch(r"\w+", before):
        parted["hyphens"] += 1
    for name, sign in (("hashtags", "#"), ("mentions", "@")):
        if re.match(rf"{sign}\w", word):
            whole[name] += 1
        if before == sign and re.match(r"\w", word):
            parted[name] += 1
    if re.fullmatch(r"([!?])\1+", word):
        whole["runs"] += 1
    if word in {"!", "?"} and before == word:
        parted["runs"] += 1
    if re.fullmatch(_FACE, word):
        whole["faces"] += 1
    if before in {":", ";"} and word == ")":
        parted["faces"] += 1


@lru_cache(maxsize=16)
def _pattern(how: Tokenizer) -> re.Pattern[str]:
    joined = r"\w+(?:-+\w+)*" if how.hyphens else r"\w+"
    word = rf"{_ENDING}|\w+(?=n't\b)|{joined}" if how.contractions else rf"{joined}(?:'{joined})*"
    if how.contractions and how.hyphens:
        word = rf"{_ENDING}|(?:\w+-+)*\w+(?=n't\b)|{joined}"
    longest = sorted(how.abbreviations, key=len, reverse=True)
    parts = [
        _LINK,
        _MAIL,
        rf"(?<!\w)(?:{'|'.join(re.escape(w) for w in longest)})(?!\w)" if longest else "",
        _FACE if how.faces else "",
        r"#\w+(?:-\w+)*" if how.hashtags else "",
        r"(?<!\w)@\w+" if how.mentions else "",
        _NUMBER,
        word,
        r"\.{2,}",
        r"([!?])\1+" if how.runs else "",
        r"[^\w\s]",
    ]
    return re.compile("|".join(part for part in parts if part), re.IGNORECASE)
