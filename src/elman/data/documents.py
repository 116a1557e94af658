"""Documents: what of a text belongs together, where each begins, and their order in an epoch.

A document is a file, a line, what stands between two separators, a cell of a table, or a record. Behind each stands the
tokenizer's mark; where documents are kept apart, one stands in front of the first too:

    mark d_1 mark d_2 mark ... d_N mark
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from elman.config import UserError, nearest
from elman.data.account import Account
from elman.data.table import read_table

__all__ = ["Kind", "columns_of", "compiled", "cut", "shuffled"]

Tokens = npt.NDArray[np.int32]
Kind = Literal["joined", "files", "lines", "separated", "column", "records"]


def cut(text: str, kind: Kind, *, separator: str = "", record: str = "", name: str = "") -> list[str]:
    """The documents of a text; those without a letter are left out.

    joined, files, column: all of it is one. lines: each line. separated: what stands between two `separator`s, without
    the line ends around it. records: what stands from one match of the regular expression `record` to the next, `^` a
    line's start; without the line ends behind it.
    Raises UserError for a pattern that is none, and for one that is nowhere in the text. name: of its file, for these.
    """
    if kind == "lines":
        found = text.split("\n")
    elif kind == "separated":
        found = [piece.strip("\n") for piece in text.split(separator)]
    elif kind == "records":
        found = [piece.rstrip("\n") for piece in _records(text, record, name)]
    else:
        found = [text]
    return [piece for piece in found if piece.strip()]


def compiled(record: str) -> re.Pattern[str]:
    """The pattern at whose matches a record begins. Raises UserError for one that is none."""
    try:
        return re.compile(record, re.MULTILINE)
    except re.error as error:
        raise UserError(f"--record {record!r} is no regular expression: {error}") from None


def _records(text: str, record: str, name: str) -> list[str]:
    starts = [match.start() for match in compiled(record).finditer(text)]
    if not starts:
        raise UserError(f"{name}: no record begins in it, --record {record!r} is nowhere found")
    # What stands in front of the first record is one too.
    places = [0, *starts, len(text)]
    return [text[a:b] for a, b in pairwise(places)]


def columns_of(path: Path, text: str, field: str) -> list[str]:
    """The cells of a column of a table (csv, tsv, ...), a document each; an empty one is left out.

    Raises UserError where the text is no table or has no such column.
    """
    table = read_table(str(path), text, Account("rows"))
    if table is None:
        raise UserError(
            f"{path} is no table: name a .csv, .tsv or .jsonl file, or leave --documents column out"
        )
    if field not in table.columns:
        words = ", ".join(table.columns)
        raise UserError(
            f"{path} has no column {field!r}{nearest(field, table.columns)}; --field takes one of {words}"
        )
    cells = (row.values.get(field) for row in table.rows)
    return [cell for cell in cells if isinstance(cell, str) and cell.strip()]


def shuffled(tokens: Tokens, mark: int, seed: int, epoch: int) -> Tokens:
    """The documents of `mark d_1 mark d_2 mark ...` in another order, which seed and epoch decide."""
    marks = np.flatnonzero(tokens == mark)
    begins, lengths = marks[:-1] + 1, np.diff(marks)
    order = np.random.default_rng([seed, epoch]).permutation(len(begins))
    begins, lengths = begins[order], lengths[order]
    into = np.cumsum(lengths) - lengths
    places = np.arange(lengths.sum()) + np.repeat(begins - into, lengths)
    return np.concatenate([tokens[:1], tokens[places]])
