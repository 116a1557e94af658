"""Tables from files: delimited text, lines of JSON, arrays of JSON. What was found can be printed, and overridden.

A table is names of columns and rows with their place of origin; a cell of delimited text is a string, one of JSON any
JSON value. Rows that cannot be read are faults in the account, never gone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from elman.data.account import Account, Place
from elman.data.delimited import DELIMITERS, Dialect, Row, read_rows, sniff
from elman.data.objects import JSON, JSON_LINES, Record, json_kind, read_json, read_json_lines
from elman.errors import UserError

__all__ = ["Given", "Table", "TableRow", "has_header", "read_table"]

# Names that stand in headers and hardly ever in a table's first row of data.
_HEADINGS = """
id idx index text sentence content review comment tweet message body document phrase headline title utterance question
description label labels labelname labeltext class category categories target sentiment emotion emotions intent topic
polarity score rating stars tag tags source author date time timestamp user name split group
path file filename filepath audio audiopath audiofile audiofilepath wav wavfile wavfilename clip clientid speaker
speakerid duration offset transcript transcription transcripts
picture pictures image images img imagename imagefile imagepath caption captions alttext commentnumber
"""
HEADINGS = frozenset(_HEADINGS.split())


@dataclass(frozen=True)
class Given:
    """What the user says about a table; `auto`: find out."""

    delimiter: str = "auto"
    quote: Literal["auto", "doubled", "backslash", "none"] = "auto"
    header: Literal["auto", "yes", "no"] = "auto"


class TableRow(NamedTuple):
    """The cells of a row under the columns' names; a name is missing where the record has no such cell."""

    place: Place
    values: Mapping[str, Any]


class Table(NamedTuple):
    """A table; found: what was recognized, in words; named: whether the columns' names come from the file."""

    columns: tuple[str, ...]
    rows: list[TableRow]
    found: str
    named: bool


def read_table(name: str, text: str, account: Account, given: Given = Given()) -> Table | None:
    """The table in the text of a file called `name`, with its faults in the account; None where it is no table.

    Each row is counted as read; a blank line is set aside.
    """
    kind = json_kind(text) if given.delimiter == "auto" else ""
    if kind:
        records = read_json_lines(text) if kind == JSON_LINES else read_json(text)
        return _from_records(name, records, account, {JSON_LINES: "lines of JSON", JSON: "JSON"}[kind])
    dialect = _dialect(text, given)
    return None if dialect is None else _from_rows(name, read_rows(text, dialect), dialect, account, given)


def _dialect(text: str, given: Given) -> Dialect | None:
    if given.delimiter == "auto":
        found = sniff(text)
    else:
        found = Dialect(DELIMITERS.get(given.delimiter, given.delimiter))
        if len(found.delimiter) != 1:
            raise UserError(f"--delimiter {given.delimiter}: give one character, or {', '.join(DELIMITERS)}")
        found = sniff(text, (found.delimiter,)) or found
    if found is None or given.quote == "auto":
        return found
    quote, escape = {"doubled": ('"', ""), "backslash": ('"', "\\"), "none": ("", "")}[given.quote]
    return Dialect(found.delimiter, quote, escape)


def _from_records(name: str, records: Iterable[Record], account: Account, kind: str) -> Table:
    rows: list[TableRow] = []
    columns: dict[str, None] = {}
    for record in records:
        account.read += 1
        place = Place(name, record.line)
        if record.fault == "blank line":
            account.set_aside(record.fault, place)
        elif record.fault:
            account.fault(record.fault, place)
        else:
            columns |= dict.fromkeys(record.values)
            rows.append(TableRow(place, record.values))
    return Table(tuple(columns), rows, kind, named=not all(column.isdecimal() for column in columns))


def _from_rows(name: str, rows: Sequence[Row], dialect: Dialect, account: Account, given: Given) -> Table:
    whole = [row for row in rows if row.cells]
    head = has_header([row.cells or () for row in whole]) if given.header == "auto" else given.header == "yes"
    width = len(whole[0].cells or ()) if head else _usual_width(whole)
    columns = _names(whole[0].cells or ()) if head else tuple(str(number + 1) for number in range(width))
    header_line = whole[0].line if head else 0
    kept: list[TableRow] = []
    for row in rows:
        if row.line == header_line:
            continue
        account.read += 1
        place = Place(name, row.line)
        if row.cells is None:
            account.fault("broken quotes", place)
        elif not row.cells:
            account.set_aside("blank line", place)
        elif len(row.cells) != width:
            account.fault(f"not {width} cells", place)
        else:
            kept.append(TableRow(place, dict(zip(columns, row.cells, strict=True))))
    return Table(columns, kept, f"{dialect}, {'a header' if head else 'no header'}", named=head)


def _usual_width(rows: Sequence[Row]) -> int:
    counts = Counter(len(row.cells) for row in rows if row.cells)
    return counts.most_common(1)[0][0] if counts else 1


def _names(cells: Sequence[str]) -> tuple[str, ...]:
    """Names of columns, made different where two are the same; a column without a name has its number."""
    names: list[str] = []
    for number, cell in enumerate(cells, 1):
        name = cell.strip() or str(number)
        while name in names:
            name += "'"
        names.append(name)
    return tuple(names)


def has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names the columns: it reads like names, and differs in kind from the rows below it."""
    if len(rows) < 2:
        return bool(rows) and all(_plain(cell) in HEADINGS for cell in rows[0])
    first, rest = rows[0], [row for row in rows[1:2000] if len(row) == len(rows[0])]
    # pandas leaves the name of its index empty.
    named = [cell for cell in first[1:] if not cell.strip()] == [] and len(set(first)) == len(first)
    if not named or not rest or any(len(cell) > 40 or len(cell.split()) > 3 for cell in first):
        return False
    below = list(zip(*rest, strict=True))
    if any(
        _plain(cell) in HEADINGS and cell not in column for cell, column in zip(first, below, strict=True)
    ):
        return True
    return any(_is_heading(cell, column) for cell, column in zip(first, below, strict=True))


def _plain(cell: str) -> str:
    return re.sub(r"[\W_]+", "", cell).lower()


def _is_heading(cell: str, column: Sequence[str]) -> bool:
    """A word over numbers, or over a few values that all come again while the word never does."""
    if all(_is_number(value) for value in column):
        return not _is_number(cell)
    counts = Counter(column)
    return cell not in counts and len(column) >= 20 and min(counts.values()) > 1


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"\s*[-+]?\d+([.,]\d+)?\s*", cell))
