"""Cells that are numbers, or missing: decimal points and commas, thousands set apart, the many words for nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

__all__ = ["MISSING", "Decimal", "Numbers", "decimal_of", "number_of", "numbers_of"]

Decimal = Literal["point", "comma"]
MISSING = frozenset(
    {"", "na", "nan", "n/a", "#n/a", "null", "none", "nil", "-", "--", "?", ".", "missing", "inf", "-inf"}
)
_COMMA = re.compile(r"[-+]?(\d{1,3}(\.\d{3})+|\d+)?,\d+(e[-+]?\d+)?", re.IGNORECASE)
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+")


class Numbers(NamedTuple):
    """The values of cells, NaN where missing. bad: the indices of cells that are no number, nor a word for none."""

    values: list[float]
    bad: list[int]


def decimal_of(cells: Iterable[Any]) -> Decimal:
    """Which sign stands before the decimals: a comma where cells have it so, and none has a point so."""
    commas = points = 0
    for cell in cells:
        if not isinstance(cell, str):
            continue
        word = cell.strip()
        if _COMMA.fullmatch(word) and not _THOUSANDS.fullmatch(word):
            commas += 1
        elif "." in word and "," not in word:
            points += re.fullmatch(r"[-+]?\d*\.\d+(e[-+]?\d+)?", word, re.IGNORECASE) is not None
    return "comma" if commas > points else "point"


def number_of(cell: Any, decimal: Decimal = "point") -> float | None:
    """The value of a cell, NaN for a missing one; None where it is no number."""
    if cell is None:
        return math.nan
    if isinstance(cell, bool):
        return float(cell)
    if isinstance(cell, int | float):
        return float(cell) if math.isfinite(cell) else math.nan
    if not isinstance(cell, str):
        return None
    word = cell.strip().replace("\u00a0", "").replace("\u2212", "-")
    if word.lower() in MISSING:
        return math.nan
    if decimal == "comma":
        word = word.replace(".", "").replace(",", ".")
    elif _THOUSANDS.fullmatch(word.partition(".")[0]):
        word = word.replace(",", "")
    try:
        value = float(word)
    except ValueError:
        return None
    # Python reads 1_000 as a number; in a table it is a name.
    return None if "_" in word else value if math.isfinite(value) else math.nan


def numbers_of(cells: Sequence[Any], decimal: Decimal = "point") -> Numbers:
    """The values of all cells of a column."""
    found = [number_of(cell, decimal) for cell in cells]
    bad = [place for place, value in enumerate(found) if value is None]
    return Numbers([math.nan if value is None else value for value in found], bad)
