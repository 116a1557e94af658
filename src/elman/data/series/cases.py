"""Whole series with a label each: `.ts`, `.arff`, and tables with a row a case or a row a step."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.data.account import Account, Place
from elman.data.encoding import decode, lines_of, read_bytes
from elman.data.inputs import files_of
from elman.data.series.frames import Chosen
from elman.data.series.numbers import Decimal, decimal_of, number_of
from elman.data.series.reading import table_of
from elman.data.table import Given, Table
from elman.errors import UserError

__all__ = ["Case", "as_case", "read_cases"]

AUTO = Given()
Floats = npt.NDArray[np.float64]


class Case(NamedTuple):
    """A series of any length with its label: values `(T, C)`, NaN where missing; label "" where there is none."""

    place: Place
    values: Floats
    label: str


def read_cases(
    paths: Sequence[str],
    account: Account,
    chosen: Chosen,
    *,
    given: Given = AUTO,
    encoding: str = "auto",
    labelled: bool = True,
) -> list[Case]:
    """The cases of files (of a folder: of its files). Raises UserError where a file is of no form that is known."""
    found: list[Case] = []
    for path in (file for name in paths for file in files_of(name)):
        text = decode(read_bytes(path), str(path), encoding).text
        readers = {".ts": _read_ts, ".arff": _read_arff}
        reader = readers.get(path.suffix.lower())
        if reader is not None:
            found += reader(str(path), text, account)
        else:
            found += _read_rows(path, text, account, chosen, given, labelled=labelled)
    found = [case for case in found if _is_sound(case, account, labelled=labelled)]
    widths = sorted({case.values.shape[1] for case in found})
    if len(widths) > 1:
        odd = next(case for case in found if case.values.shape[1] != widths[-1])
        raise UserError(f"{odd.place}: {odd.values.shape[1]} channels; others have {widths[-1]}")
    return found


def _is_sound(case: Case, account: Account, *, labelled: bool) -> bool:
    if not len(case.values) or bool(np.isnan(case.values).all()):
        account.fault("no values", case.place)
    elif labelled and not case.label:
        account.fault("no label", case.place)
    else:
        return True
    return False


# .ts: dimensions set apart by colons, values by commas, the label at the end


def _read_ts(name: str, text: str, account: Account) -> list[Case]:
    header: dict[str, list[str]] = {}
    cases: list[Case] = []
    data = False
    for number, line in enumerate(lines_of(text), 1):
        line = line.strip()
        if not line or line.startswith(("#", "%")):
            continue
        if line.startswith("@"):
            word, *rest = line[1:].split()
            header[word.lower()] = rest
            data = data or word.lower() == "data"
            continue
        if not data:
            raise UserError(f"{name}:{number} comes before @data; expected a line that begins with @ or #")
        account.read += 1
        labelled = header.get("classlabel", ["false"])[0].lower() == "true"
        case = _of_ts(line, Place(name, number), labelled=labelled)
        if case is None:
            account.fault("not a case of .ts", Place(name, number))
        else:
            cases.append(case)
    if not data:
        raise UserError(f"{name} has no @data; expected the form .ts of aeon and sktime")
    account.found.append(f"{name}: .ts{_shape(cases)}")
    return cases


def _of_ts(line: str, place: Place, *, labelled: bool) -> Case | None:
    stamped = re.search(r"\(\s*[^()]*,[^()]*\)", line) is not None
    parts = re.split(r":(?![^(]*\))", line) if stamped else line.split(":")
    label = parts.pop().strip() if labelled and len(parts) > 1 else ""
    columns: list[list[float]] = []
    for part in parts:
        cells = (
            [pair.rsplit(",", 1)[1] for pair in re.findall(r"\(([^()]*)\)", part)]
            if stamped
            else part.split(",")
        )
        values = [number_of(cell) for cell in cells]
        if any(value is None for value in values):
            return None
        columns.append([float(value) for value in values if value is not None])
    return Case(place, _side_by_side(columns), label)


def _side_by_side(columns: Sequence[Sequence[float]]) -> Floats:
    """Channels as columns; a shorter one is missing at its end."""
    length = max(map(len, columns), default=0)
    values = np.full((length, len(columns)), np.nan)
    for place, column in enumerate(columns):
        values[: len(column), place] = column
    return values


def _shape(cases: Sequence[Case]) -> str:
    if not cases:
        return ""
    lengths = [len(case.values) for case in cases]
    span = f"{lengths[0]}" if min(lengths) == max(lengths) else f"{min(lengths)} to {max(lengths)}"
    channels = cases[0].values.shape[1]
    return f", {len(cases):,} cases of {span} steps, {channels} channel{'s' * (channels > 1)}"


# .arff: a row a case; several channels in a relational attribute, in quotes


def _read_arff(name: str, text: str, account: Account) -> list[Case]:
    attributes: list[tuple[str, str]] = []
    cases: list[Case] = []
    inside = data = False
    for number, line in enumerate(lines_of(text), 1):
        line = line.strip()
        if not line or line.startswith("%"):
            continue
        word = line.split()[0].lower()
        if data:
            account.read += 1
            case = _of_arff(line, Place(name, number), attributes)
            if case is None:
                account.fault(f"not a row of {len(attributes)} attributes", Place(name, number))
            else:
                cases.append(case)
        elif word == "@attribute" and not inside:
            found = re.match(r"""@attribute\s+('[^']*'|"[^"]*"|\S+)\s+(.*)""", line, re.IGNORECASE)
            if found is None:
                raise UserError(f"{name}:{number} is no @attribute NAME TYPE")
            attributes.append((found[1].strip("'\""), found[2].strip()))
            inside = found[2].strip().lower() == "relational"
        elif word == "@end":
            inside = False
        elif word == "@data":
            data = True
    if not data:
        raise UserError(f"{name} has no @data; expected the form .arff of Weka")
    account.found.append(f"{name}: .arff{_shape(cases)}")
    return cases


def _of_arff(line: str, place: Place, attributes: Sequence[tuple[str, str]]) -> Case | None:
    quote = "'" if "'" in line else '"'
    cells = next(csv.reader([line], quotechar=quote, skipinitialspace=True), [])
    if len(cells) != len(attributes):
        return None
    label, columns = "", list[list[float]]()
    single: list[float] = []
    for cell, (_, kind) in zip(cells, attributes, strict=True):
        if kind.lower() == "relational":
            rows = re.split(r"\\n|\n", cell)
            columns += [[_or_nan(value) for value in row.split(",")] for row in rows]
        elif kind.startswith("{") or kind.lower() == "string":
            label = cell.strip().strip("'\"")
        else:
            single.append(_or_nan(cell))
    if single:
        columns.append(single)
    return Case(place, _side_by_side(columns), "" if label == "?" else label)


def _or_nan(cell: str) -> float:
    value = number_of(cell)
    return np.nan if value is None else value


# Tables


def _read_rows(
    path: Path, text: str, account: Account, chosen: Chosen, given: Given, *, labelled: bool
) -> list[Case]:
    """A row a case (values side by side, the label first, last or named), or a row a step of a case."""
    if given.delimiter == "auto" and re.match(r"\s*-?[\d.]+(e[-+]\d+)?\s*\t", text):
        given = Given("tab", given.quote, "no" if given.header == "auto" else given.header)
    table = table_of(path, text, account, given)
    decimal = (
        chosen.decimal
        if chosen.decimal != "auto"
        else decimal_of(cell for row in table.rows[:200] for cell in row.values.values())
    )
    if chosen.series:
        cases = list(_by_step(table, chosen, decimal, account))
        account.found.append(f"{path}: {table.found}; a row a step{_shape(cases)}")
        return cases
    label = chosen.label or _label_column(table, decimal) if labelled or chosen.label else ""
    if labelled and not label:
        raise UserError(
            f"{path}: which column holds the labels? name it by --label-column; where a case is several rows, name the "
            f"column that tells the cases apart by --series-column"
        )
    columns = [column for column in table.columns if column != label]
    cases = [
        Case(row.place, _row_values(row.values, columns, decimal), str(row.values.get(label, "")).strip())
        for row in table.rows
    ]
    account.found.append(f"{path}: {table.found}; a row a case, label: {label or 'none'}{_shape(cases)}")
    return cases


def _row_values(values: Any, columns: Sequence[str], decimal: Decimal) -> Floats:
    """The cells as one channel; missing ones at the end are the end of a shorter series."""
    found = [number_of(values.get(column), decimal) for column in columns]
    own = np.array([np.nan if value is None else value for value in found])
    known = np.flatnonzero(~np.isnan(own))
    return own[: known[-1] + 1 if len(known) else 0].reshape(-1, 1)


def _label_column(table: Table, decimal: Decimal) -> str:
    """A column called so, one that holds words, else the first or last with few whole numbers; "" for none."""
    named = [c for c in table.columns if c.strip().lower() in {"label", "class", "target", "y"}]
    if named:
        return named[0]
    rows = table.rows[:500]
    words = [c for c in table.columns if any(number_of(row.values.get(c), decimal) is None for row in rows)]
    if words:
        return words[0] if len(words) == 1 else ""
    for column in (table.columns[0], table.columns[-1]):
        values = [number_of(row.values.get(column), decimal) for row in rows]
        whole = all(value == round(value) for value in values if value is not None and not np.isnan(value))
        if whole and len(set(values)) <= max(2, len(values) // 3):
            return column
    return ""


def _by_step(table: Table, chosen: Chosen, decimal: Decimal, account: Account) -> Iterator[Case]:
    if not chosen.label:
        raise UserError(
            "--series-column tells cases apart; name the column of their labels by --label-column too"
        )
    skip = {*chosen.series, chosen.label, chosen.time}
    columns = chosen.targets or tuple(c for c in table.columns if c not in skip)
    account.unit = "rows"
    groups: dict[str, list[Any]] = {}
    for row in table.rows:
        groups.setdefault(" ".join(str(row.values.get(c)) for c in chosen.series), []).append(row)
    for rows in groups.values():
        values = [[number_of(row.values.get(c), decimal) for c in columns] for row in rows]
        labels = {str(row.values.get(chosen.label, "")).strip() for row in rows}
        if len(labels) > 1:
            account.remark("steps of one case with different labels, the first counts", rows[0].place)
        numbers = np.array([[np.nan if v is None else v for v in row] for row in values], dtype=np.float64)
        yield Case(rows[0].place, numbers, str(rows[0].values.get(chosen.label, "")).strip())


def as_case(line: str, place: Place, label: str = "") -> Case | None:
    """A case from one line of numbers, as it comes by standard input: channels set apart by colons; None for none."""
    case = _of_ts(line.strip(), place, labelled=False) if line.strip() else None
    return None if case is None else case._replace(label=label)
