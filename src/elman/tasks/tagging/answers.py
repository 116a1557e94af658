"""Predict: what is answered to a text, for a person and for a program."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from elman.config import UserError, option
from elman.data.account import Account, OnBad
from elman.data.inputs import STANDARD_INPUT, Item, check_inputs, files_of, lines
from elman.data.sentences import Form
from elman.data.spelled import Codec
from elman.data.tagged import read_sentences
from elman.runtime import tagging
from elman.runtime.tagging import Tagged, Words, as_words, place_of, tagged
from elman.tasks import verbs
from elman.tasks.base import Answer
from elman.tasks.tagging.settings import SentenceSettings

__all__ = [
    "Evaluate",
    "Predict",
    "Tagged",
    "Words",
    "answer_of",
    "as_words",
    "inputs_of",
    "tagged",
    "words_of",
]

# Files whose words stand in rows, where nothing else is said.
ROWS = {".conllu", ".conll", ".conll03", ".bio", ".iob", ".iob2", ".bioes", ".bilou"}
BOLD, DIM, PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"


@dataclass(frozen=True)
class Evaluate(verbs.Evaluate):
    """Flags of `elman evaluate`."""

    on_bad: OnBad = option(
        "auto",
        "sentences of --data that cannot be used: skip them, refuse the data, or auto: refuse where they are more than "
        "1 %",
        needs={"data": True},
    )
    form: Form = option("auto", "form of --data where it is not recognized", needs={"data": True})
    word_column: str = option(
        "", "column of the words of --data (empty: as in training)", unit="COLUMN", needs={"data": True}
    )
    tag_column: str = option(
        "", "column of the tags of --data (empty: as in training)", unit="COLUMN", needs={"data": True}
    )


@dataclass(frozen=True)
class Predict(verbs.Predict):
    """Flags of `elman predict`."""

    read: Literal["auto", "lines", "words", "sentences"] = option(
        "auto",
        "what is tagged: a line of text; a line of words set apart by spaces; or the sentences of files as --data has "
        "them (auto: these in .conllu, .conll, .bio, .iob, ..., else lines)",
    )
    colour: Literal["auto", "always", "never"] = option("auto", "colours (auto: on a terminal)")

    @property
    def coloured(self) -> bool:
        """Whether colours are shown."""
        return self.colour == "always" or (self.colour == "auto" and sys.stdout.isatty())


def words_of(value: Any, codec: Codec, settings: Predict) -> Words:
    """What is to be tagged: a text, which is cut into words, or words."""
    if isinstance(value, str) and settings.read == "words":
        value = value.split()
    if isinstance(value, str):
        return Words(value, codec.tokenizer.spans(value))
    return as_words(value)


def answer_of(found: Tagged, codec: Codec, settings: Predict) -> Answer:
    """A line for a person, an object for a program."""
    shown = (
        _with_spans(found, coloured=settings.coloured)
        if codec.scheme
        else _with_tags(found, codec, coloured=settings.coloured)
    )
    return Answer(shown, tagging.answer_of(found, codec))


def _with_spans(found: Tagged, *, coloured: bool) -> str:
    """`[PER .98 Ada Lovelace] was in [LOC .91 London]`."""
    pieces, at = [], 0
    for span, sure in zip(found.spans, found.sure, strict=True):
        start, end = place_of(found.source, span)
        what = " ".join(part for part in (span.kind, f"{sure:.2f}") if part)
        named = found.source.text[start:end]
        pieces += [
            found.source.text[at:start],
            f"[{DIM}{what}{PLAIN} {BOLD}{named}{PLAIN}]" if coloured else f"[{what} {named}]",
        ]
        at = end
    return " ".join("".join([*pieces, found.source.text[at:]]).splitlines())


def _with_tags(found: Tagged, codec: Codec, *, coloured: bool) -> str:
    """`So/ADV it/PRON is/AUX`."""
    dim, plain = (DIM, PLAIN) if coloured else ("", "")
    pairs = zip(found.source.words, found.tags, strict=True)
    return " ".join(f"{word}{dim}/{codec.tags[tag]}{plain}" for word, tag in pairs)


def inputs_of(settings: Predict, how: SentenceSettings) -> Iterator[list[Item]]:
    """What is to be tagged, in groups, each with its place."""
    check_inputs(settings.inputs)
    for path in settings.inputs:
        if path == STANDARD_INPUT:
            yield from lines([path], settings.together)
            continue
        for file in files_of(path):
            rows = settings.read == "sentences" or (settings.read == "auto" and file.suffix.lower() in ROWS)
            items = _sentences(file, how) if rows else None
            if items is None:
                yield from lines([str(file)], settings.together)
            else:
                yield from (
                    items[at : at + settings.together] for at in range(0, len(items), settings.together)
                )


def _sentences(path: Path, how: SentenceSettings) -> list[Item]:
    """The sentences of a file; those with a fault too, in their places."""
    account = Account()
    try:
        found = read_sentences([str(path)], account, replace(how.reading(), tagged=False))
    except UserError as error:
        return [Item(None, str(path), str(error))]
    items = [(sentence.place, Item(sentence.words, str(sentence.place))) for sentence in found]
    bad = [(place, Item(None, str(place), reason)) for reason, at in account.faults.items() for place in at]
    return [item for _, item in sorted([*items, *bad], key=lambda pair: pair[0].line)]
