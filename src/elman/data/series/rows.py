"""A row of a series as it comes: a line of cells, or cells by the names of their columns."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.data.delimited import DELIMITERS
from elman.data.series.frames import Layout
from elman.data.series.numbers import number_of
from elman.data.series.scaled import Codec
from elman.data.series.stamps import Clock, read_times

__all__ = ["BadRowError", "Row", "as_cells", "header_of", "plain_static", "row_of"]

Floats = npt.NDArray[np.float64]


class BadRowError(Exception):
    """A row that cannot be answered; its text says why."""


class Row(NamedTuple):
    """A row as it comes in: its series, its time (None where there is none), values of the channels `(C + F,)`."""

    series: str
    time: float | None
    values: Floats
    static: Mapping[str, Any]


def header_of(line: str, layout: Layout) -> tuple[str, ...] | None:
    """The names of the columns, where a line holds all that are read; None where it is a row of values."""
    needed = {layout.time, *layout.series, *layout.targets} - {""}
    for delimiter in DELIMITERS.values():
        names = tuple(name.strip().strip('"') for name in line.split(delimiter))
        if needed and needed <= set(names):
            return names
    return None


def cells_of(line: str, count: int) -> list[str]:
    """The cells of a line, by the delimiter that gives as many as there should be."""
    if count == 1:
        return [line.strip()]
    for delimiter in DELIMITERS.values():
        cells = next(csv.reader([line], delimiter=delimiter), [])
        if len(cells) == count:
            return cells
    raise BadRowError(f"not {count} cells")


def row_of(cells: Mapping[str, Any], codec: Codec) -> Row:
    """The row in cells by their columns' names. Raises BadRowError for what is none."""
    layout = codec.layout
    decimal: Any = layout.decimal
    targets = ("value",) if layout.months else layout.targets
    values = []
    for column in (*targets, *layout.past, *layout.future):
        value = number_of(cells.get(column), decimal)
        if value is None:
            raise BadRowError(
                f"no number in {column}" if column in cells and len(cells) > 1 else "not a number"
            )
        values.append(value)
    time = None
    if layout.time and codec.step.kind != "rows":
        time = _time_of(cells.get(layout.time), codec.clock)
    series = " ".join(str(cells.get(column, "")).strip() for column in layout.series)
    return Row(series, time, np.array(values), {column: cells.get(column) for column in layout.static})


def _time_of(cell: Any, clock: Clock) -> float:
    form = "%Y-%m" if clock.form == "%Y-%m" else clock.form
    try:
        times = read_times([cell], form, clock.zone) if cell not in (None, "") else None
    except Exception as error:
        raise BadRowError(f"no time in {cell!r}") from error
    if times is None or np.isnan(times.values[0]):
        raise BadRowError(f"no time in {cell!r}")
    return float(times.values[0])


def plain_static(static: Mapping[str, Any], codec: Codec) -> dict[str, Any]:
    """Static cells as they are read from tables: numbers where the training data have numbers."""
    decimal: Any = codec.layout.decimal
    found: dict[str, Any] = {}
    for column, known in codec.statics.items():
        cell = static.get(column)
        value = cell if "words" in known or isinstance(cell, float) else number_of(cell, decimal)
        found[column] = str(cell).strip() if "words" in known and cell is not None else value
    return found


def as_cells(line: str, names: Sequence[str]) -> dict[str, str]:
    """The cells of a line under the names of their columns."""
    return dict(zip(names, cells_of(line, len(names)), strict=True))
