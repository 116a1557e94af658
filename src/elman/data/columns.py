"""Which column of a table holds the text and which the labels, and how several labels share a cell."""

from __future__ import annotations

import ast
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from elman.data.table import Table
from elman.errors import UserError, nearest

__all__ = ["Chosen", "Roles", "cell_labels", "find_roles", "is_flag"]

# In the order of preference where a table has several of them.
_TEXTS = """
text sentence content tweet review comment message body document phrase utterance headline title question description
reviewtext tweettext commenttext reviewbody texts sentences input
"""
_LABELS = """
labelname labeltext labelnames emotion emotions sentiment label labels class classes category categories target intent
topic polarity airlinesentiment tag tags stars rating score y output
"""
TEXTS, LABELS = tuple(_TEXTS.split()), tuple(_LABELS.split())
SEPARATORS = (",", "|", ";", "/")
SAMPLE = 5000


@dataclass(frozen=True)
class Chosen:
    """The columns that the user names, by name or by number from 1; empty: find out."""

    text: str = ""
    labels: tuple[str, ...] = ()
    separator: str = "auto"


class Roles(NamedTuple):
    """labels: one column, or several that say yes or no (one-hot). separator: between labels in a cell, or nothing."""

    text: str
    labels: tuple[str, ...]
    separator: str

    @property
    def one_hot(self) -> bool:
        """Whether each label has a column of its own."""
        return len(self.labels) > 1

    def __str__(self) -> str:
        """Say it in words."""
        if not self.labels:
            return f"text in column {self.text!r}"
        many = f"one column a label ({', '.join(self.labels[:4])}{', ...' * (len(self.labels) > 4)})"
        where = many if self.one_hot else f"labels in {self.labels[0]!r}"
        split = f", set apart by {self.separator!r}" if self.separator else ""
        return f"text in column {self.text!r}, {where}{split}"


def find_roles(table: Table, name: str, chosen: Chosen, *, labelled: bool = True) -> Roles:
    """The columns of text and labels; labelled: False asks for the text alone.

    Raises UserError where they cannot be told.
    """
    sample = [row.values for row in table.rows[:SAMPLE]]
    columns = {column: [row.get(column) for row in sample] for column in table.columns}
    labels = tuple(_column(word, table, name, "--label-column") for word in chosen.labels)
    text = _column(chosen.text, table, name, "--text-column") if chosen.text else _text(columns, labels, name)
    if not labelled:
        return Roles(text, (), "")
    labels = labels or _labels({key: cells for key, cells in columns.items() if key != text}, table, name)
    separator = chosen.separator
    if separator == "auto":
        separator = "" if len(labels) > 1 else _separator(columns[labels[0]])
    return Roles(text, labels, "" if separator == "none" else separator)


def _column(word: str, table: Table, name: str, flag: str) -> str:
    if word in table.columns:
        return word
    if word.isdecimal() and 0 < int(word) <= len(table.columns):
        return table.columns[int(word) - 1]
    hint = nearest(word, table.columns) or f"; its columns are {', '.join(table.columns[:20])}"
    raise UserError(f"{flag} {word}: {name} has no such column{hint}")


def _text(columns: dict[str, list[Any]], taken: Sequence[str], name: str) -> str:
    lengths = {
        column: sum(len(cell) for cell in cells if isinstance(cell, str)) / max(len(cells), 1)
        for column, cells in columns.items()
        if column not in taken
    }
    named = [word for word in TEXTS for column in lengths if _plain(column) == word and lengths[column] > 0]
    if named:
        return next(column for column in lengths if _plain(column) == named[0])
    if not lengths or max(lengths.values()) == 0:
        raise UserError(
            f"{name} has no column of texts; its columns are {', '.join(columns)}: name it by --text-column"
        )
    return max(lengths, key=lambda column: lengths[column])


def _labels(columns: dict[str, list[Any]], table: Table, name: str) -> tuple[str, ...]:
    named = [column for word in LABELS for column in columns if _plain(column) == word]
    if named:
        return (named[0],)
    flags = tuple(column for column, cells in columns.items() if cells and all(map(is_flag, cells)))
    if table.named and len(flags) > 1:
        return flags
    counts = {column: _variety(cells) for column, cells in columns.items()}
    rows = max((len(cells) for cells in columns.values()), default=0)
    likely = [column for column, count in counts.items() if 1 < count <= max(rows / 2, 2)]
    if not likely:
        which = f"its columns beside the text are {', '.join(columns)}" if columns else "it has one column"
        raise UserError(f"{name} has no column of labels ({which}); name it by --label-column")
    return (min(likely, key=lambda column: counts[column]),)


def _variety(cells: Sequence[Any]) -> int:
    """How many different labels a column would hold."""
    separator = _separator(cells)
    return len({label for cell in cells for label in cell_labels(cell, separator) or ()})


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()


def is_flag(cell: Any) -> bool:
    """Whether a cell says yes or no, as one-hot columns do."""
    return str(cell).strip().lower() in {"0", "1", "0.0", "1.0", "true", "false", "", "none"}


def _separator(cells: Sequence[Any]) -> str:
    """What sets labels apart: cut there, the cells hold fewer different labels, of which most stand alone too."""
    written = [cell.strip() for cell in cells if isinstance(cell, str) and cell.strip()]
    whole = Counter(written)
    for separator in SEPARATORS:
        several = [cell for cell in whole if separator in cell and not _is_list(cell)]
        pieces = {piece.strip() for cell in several for piece in cell.split(separator)}
        alone = pieces & whole.keys()
        if several and len(pieces) <= 2 * len(alone) and "" not in pieces:
            return separator
    return ""


def _is_list(cell: str) -> bool:
    return cell.startswith("[") and cell.endswith("]")


def cell_labels(cell: Any, separator: str) -> list[str] | None:
    """The labels in a cell, without the spaces around them; None where it holds none, [] where it is an empty list.

    A string may hold a list as JSON or Python writes it; an object names its labels by what is true of them.
    """
    if cell is None:
        return None
    if isinstance(cell, dict):
        return [str(name).strip() for name, value in cell.items() if value]
    if isinstance(cell, list):
        return [label for item in cell for label in cell_labels(item, "") or []]
    if isinstance(cell, bool | float | int):
        # NaN is a gap in a table of numbers.
        return None if math.isnan(cell) else [_number(cell)]
    written = str(cell).strip()
    if _is_list(written):
        items = _parsed(written)
        return [label for item in items for label in cell_labels(item, "") or []]
    pieces = written.split(separator) if separator else [written]
    return [piece.strip() for piece in pieces if piece.strip()] or None


def _number(value: bool | float) -> str:
    """1.0 as 1, as it was before a table with gaps made it a float; true and false in JSON's spelling."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if float(value).is_integer() else str(value)


def _parsed(written: str) -> list[Any]:
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(written)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return found if isinstance(found, list) else [found]
    # Neither JSON nor Python: words between brackets, as numpy prints them.
    return [word.strip("'\"") for word in re.split(r"[\s,]+", written[1:-1]) if word]
