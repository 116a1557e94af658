"""Records of JSON: an object a line (.jsonl), or one array or table of columns in a file, each with its line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from elman.data.encoding import lines_of

__all__ = ["JSON", "JSON_LINES", "Record", "json_kind", "read_json", "read_json_lines"]

JSON = "json"
JSON_LINES = "json lines"
_SPACE = re.compile(r"[\s,]*")


class Record(NamedTuple):
    """What stands under each name, and the line (from 1) on which the record begins.

    fault: why there is nothing; empty where there is.
    """

    line: int
    values: Mapping[str, Any]
    fault: str = ""


def json_kind(text: str) -> str:
    """`JSON_LINES`, `JSON`, or nothing where the text begins with neither an object nor an array that reads as JSON.

    An array on its first line followed by other lines is lines of arrays, as an object followed by others is.
    """
    start = text.lstrip()
    if not start.startswith(("{", "[")):
        return ""
    try:
        _, end = json.JSONDecoder().raw_decode(start)
    except (ValueError, RecursionError):
        # Damaged somewhere: lines of JSON if most lines are whole by themselves.
        lines = [line for line in lines_of(start[:100_000]) if line.strip()][:100]
        if sum(map(_whole, lines)) > len(lines) / 2:
            return JSON_LINES
        return JSON if re.match(r"\[\s*[\[{]", start) else ""
    if start[end:].strip():
        return JSON_LINES
    return JSON if start[0] == "[" or "\n" in start[:end].rstrip() or _is_columns(start) else JSON_LINES


def _is_columns(text: str) -> bool:
    found = json.loads(text)
    columns = len(found) > 1 and all(isinstance(column, list | dict) for column in found.values())
    return columns or any(map(_is_array, found.values()))


def _whole(line: str) -> bool:
    if not line.strip().startswith(("{", "[")):
        return False
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def read_json_lines(text: str) -> Iterator[Record]:
    """A record a line; blank lines have the fault `blank line`."""
    for number, line in enumerate(lines_of(text), 1):
        if not line.strip():
            yield Record(number, {}, "blank line")
            continue
        try:
            yield _record(number, json.loads(line))
        except (ValueError, RecursionError):
            yield Record(number, {}, "broken JSON")


def read_json(text: str) -> Iterator[Record]:
    """The items of an array, the only object, or the rows of a table written by columns (`{"text": [...], ...}`).

    An array of objects may stand inside of an object (`{"version": 1, "data": [{...}, ...]}`), if there is just one.
    """
    start = _skip(text, 0)
    if text[start] == "[":
        yield from _array(text, start + 1)
        return
    found = json.loads(text)
    inner = [name for name, value in found.items() if _is_array(value)]
    if len(inner) == 1:
        begun = re.search(rf"{re.escape(json.dumps(inner[0]))}\s*:\s*\[", text)
        if begun is not None:
            yield from _array(text, begun.end())
            return
    columns = {name: _column(column) for name, column in found.items()}
    if (
        len({len(column) for column in columns.values() if column is not None}) != 1
        or None in columns.values()
    ):
        yield _record(1, found)
        return
    for cells in zip(*columns.values(), strict=True):
        yield Record(1, dict(zip(columns, cells, strict=True)))


def _is_array(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _column(value: Any) -> list[Any] | None:
    """A column as a list, or as pandas writes it: `{"0": ..., "1": ...}`."""
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else None


def _array(text: str, at: int) -> Iterator[Record]:
    decoder, line, counted = json.JSONDecoder(), 1, 0
    while (at := _skip(text, at)) < len(text) and text[at] != "]":
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            # Where one item ends is lost with it, so the rest of the file is too.
            yield Record(line, {}, "broken JSON from here to the end of the file")
            return
        yield _record(line, value)


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _record(line: int, value: Any) -> Record:
    """An object as it is, a list by position from 1, a bare text as the column `1`."""
    if isinstance(value, dict):
        return Record(line, value)
    if isinstance(value, list):
        return Record(line, {str(number): cell for number, cell in enumerate(value, 1)})
    return Record(line, {"1": value})
