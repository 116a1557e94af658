"""Predict: what is answered to a text, for a person, for a program, and as a page."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.config import Whole, option
from elman.data.account import Account, OnBad, Place
from elman.data.columns import Chosen, Roles, find_roles
from elman.data.encoding import decode, read_bytes
from elman.data.inputs import STANDARD_INPUT, Item, check_inputs, files_of, lines
from elman.data.labels import Labels
from elman.data.table import Given, Table, read_table
from elman.data.words import Span
from elman.page import Html, text
from elman.tasks import verbs
from elman.tasks.base import Answer
from elman.tasks.classification.settings import TextSettings

__all__ = ["Evaluate", "Explained", "Predict", "answer_of", "highlighted", "inputs_of"]

Floats = npt.NDArray[np.float64]
TABLES = {".csv", ".tsv", ".json", ".jsonl", ".ndjson"}
GREEN, RED, BOLD, PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[1m", "\x1b[0m"


@dataclass(frozen=True)
class Evaluate(verbs.Evaluate):
    """Flags of `elman evaluate`."""

    on_bad: OnBad = option(
        "auto",
        "rows of --data that cannot be used: skip them, refuse the data, or auto: refuse where they are more than 1 %",
        needs={"data": True},
    )


@dataclass(frozen=True)
class Predict(verbs.Predict):
    """Flags of `elman predict`."""

    read: Literal["auto", "lines", "tables", "files"] = option(
        "auto",
        "what a text is: a line, a row of a table, or a file (auto: rows of .csv, .tsv, .json, .jsonl; files of a "
        "folder; else lines)",
    )
    text_column: str = option("", "column of the text in tables (empty: found)", unit="COLUMN")
    words: Whole = option(
        3, "how many of the words that weighed most are shown (0: none, which is faster)", unit="COUNT"
    )
    colour: Literal["auto", "always", "never"] = option("auto", "colours (auto: on a terminal)")
    html: str = option("", "write a page with the texts and the words that weighed to this file", unit="FILE")

    @property
    def coloured(self) -> bool:
        """Whether colours are shown."""
        return self.colour == "always" or (self.colour == "auto" and sys.stdout.isatty())


class Explained(NamedTuple):
    """A text with its answer: p `(K,)`, the numbers of its labels, its words, and what each weighs (empty: unknown)."""

    text: str
    p: Floats
    labels: tuple[int, ...]
    spans: list[Span]
    weights: Floats


def answer_of(found: Explained, labels: Labels, settings: Predict) -> Answer:
    """A line for a person, an object for a program."""
    p = {name: round(float(value), 6) for name, value in zip(labels.names, found.p, strict=True)}
    said = [labels.names[number] for number in found.labels]
    heavy = _heaviest(found, settings.words)
    data: dict[str, Any] = {
        "text": found.text,
        "labels" if labels.several else "label": said if labels.several else said[0],
    }
    data["probabilities"] = p
    if settings.words:
        data["words"] = [
            {"word": span.word, "start": span.start, "end": span.end, "weight": round(weight, 4)}
            for span, weight in heavy
        ]
    return Answer(_line(said, p, heavy, coloured=settings.coloured), data)


def _heaviest(found: Explained, count: int) -> list[tuple[Span, float]]:
    """The words with the largest weights, for or against, by their size."""
    pairs = [(span, float(weight)) for span, weight in zip(found.spans, found.weights, strict=False)]
    return sorted(pairs, key=lambda pair: -abs(round(pair[1], 4)))[:count]


def _line(
    said: Sequence[str], p: dict[str, float], heavy: Sequence[tuple[Span, float]], *, coloured: bool
) -> str:
    others = sorted((name for name in p if name not in said), key=lambda name: -p[name])[:2]
    first = ", ".join(f"{name} {p[name]:.3f}" for name in said) or "none"
    first = f"{BOLD}{first}{PLAIN}" if coloured else first
    line = f"{first} ({', '.join(f'{name} {p[name]:.3f}' for name in others)})" if others else first
    words = [_weighed(span.word, weight, coloured=coloured) for span, weight in heavy]
    return f"{line}: {', '.join(words)}" if words else line


def _weighed(word: str, weight: float, *, coloured: bool) -> str:
    shown = f"{' '.join(word.split()) or repr(word)} {weight:+.2f}"
    return f"{GREEN if weight > 0 else RED}{shown}{PLAIN}" if coloured else shown


def highlighted(found: Explained, most: int = 600) -> Html:
    """The text as HTML: words that speak for the answer on green, those against it on red, the darker the heavier."""
    top = max((abs(float(weight)) for weight in found.weights), default=0.0) or 1.0
    pieces, at = [], 0
    for span, weight in zip(found.spans, found.weights, strict=False):
        if span.end > most:
            break
        pieces.append(text(found.text[at : span.start]))
        colour, share = "15, 123, 85" if weight > 0 else "200, 67, 29", abs(float(weight)) / top
        word = text(found.text[span.start : span.end])
        shade = (
            f'<mark style="background: rgba({colour}, {0.7 * share:.2f})" title="{weight:+.3f}">{word}</mark>'
        )
        pieces.append(shade if share > 0.1 else word)
        at = span.end
    rest = found.text[at:]
    pieces.append(text(rest) if len(rest) + at <= most else text(rest[: max(0, most - at)]) + " ...")
    return Html("".join(pieces))


# What is to be answered


def inputs_of(
    settings: Predict, how: TextSettings, columns: dict[tuple[str, ...], Roles]
) -> Iterator[list[Item]]:
    """The texts to be answered, in groups, each with its place; what cannot be read is an item with its fault."""
    check_inputs(settings.inputs)
    for path in settings.inputs:
        kind = _kind(path, settings)
        if kind == "lines":
            yield from lines([path], settings.together)
            continue
        for file in files_of(path):
            whole = file.suffix.lower() not in TABLES if settings.read == "auto" else kind == "files"
            items = [_whole(file, how)] if whole else _rows(file, settings, how, columns)
            yield from (items[at : at + settings.together] for at in range(0, len(items), settings.together))


def _kind(path: str, settings: Predict) -> str:
    if settings.read != "auto":
        return settings.read
    if path != STANDARD_INPUT and Path(path).is_dir():
        return "files"
    return "tables" if Path(path).suffix.lower() in TABLES else "lines"


def _whole(path: Path, how: TextSettings) -> Item:
    from elman.config import UserError

    try:
        return Item(decode(read_bytes(path), str(path), how.encoding).text, str(path))
    except UserError as error:
        return Item(None, str(path), str(error))


def _rows(
    path: Path, settings: Predict, how: TextSettings, columns: dict[tuple[str, ...], Roles]
) -> list[Item]:
    """The rows of a table in their order, those with faults too."""
    text = decode(read_bytes(path), str(path), how.encoding).text
    account, table = _table(str(path), text, how.reading("other", columns).given, columns)
    if table is None:
        return []
    bad = {
        place: reason
        for kind in (account.faults, account.aside)
        for reason, at in kind.items()
        for place in at
    }
    items: list[tuple[Place, Item]] = [
        (place, Item(None, str(place), reason)) for place, reason in bad.items()
    ]
    if table.rows:
        known = columns.get(table.columns)
        own = settings.text_column or (known.text if known else _text_of(how, table))
        roles = find_roles(table, str(path), Chosen(own), labelled=False)
        for row in table.rows:
            value = row.values.get(roles.text)
            fault = "" if isinstance(value, str) else "no text"
            items.append((row.place, Item(value, str(row.place), fault)))
    return [item for _, item in sorted(items, key=lambda pair: pair[0].line)]


def _table(
    name: str, text: str, given: Given, columns: dict[tuple[str, ...], Roles]
) -> tuple[Account, Table | None]:
    """The table with its faults; a first row that names the columns of the training is a header."""
    account = Account()
    # A table of one column has nothing that could be recognized.
    table = read_table(name, text, account, given) or read_table(name, text, account, Given("comma"))
    if table is None or table.named or not table.rows or given.header != "auto":
        return account, table
    first = tuple(table.rows[0].values.values())
    if any(first == names for names in columns):
        return _table(name, text, replace(given, header="yes"), columns)
    return account, table


def _text_of(how: TextSettings, table: Table) -> str:
    """The text column that the training named, where the table has it too."""
    return how.text_column if how.text_column in table.columns else ""
