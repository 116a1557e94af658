"""Tables of series: which column is the time, which names the series, which are values; rows gathered by series."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from elman.data.account import Account, Place
from elman.data.series.frames import Chosen, Layout
from elman.data.series.numbers import Decimal, decimal_of, number_of
from elman.data.series.stamps import read_times
from elman.data.table import Table, TableRow
from elman.errors import UserError, nearest

__all__ = ["MANY", "Rows", "find_layout", "gathered", "in_words"]

# More numeric columns than these are series of their own, not channels of one.
MANY = 16
SAMPLE = 2000
_TIME = re.compile(
    r"(date|time|timestamp|datetime|ds|year|month|week|day|period|quarter|hour|stamp|t|date ?time|zeit|datum|jahr)",
    re.IGNORECASE,
)
_SERIES = re.compile(
    r"(series|unique_id|item|item_id|id|name|sensor|station|store|sku|product|region|country)", re.IGNORECASE
)
_LABEL = re.compile(r"(label|labels|anomaly|is_anomaly|outlier|is_outlier|anomalous)", re.IGNORECASE)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


class Rows(NamedTuple):
    """The rows of one series in the order of the file: times as they stand there, values of the channels."""

    times: list[Any]
    values: list[list[float]]
    places: list[Place]
    labels: list[int]
    static: dict[str, Any]


def find_layout(table: Table, name: str, chosen: Chosen, *, marks: bool = False) -> Layout:
    """What the columns of a table are, by what the user says, else by names and values.

    marks: whether a column of marks (0 and 1) is looked for. Raises UserError where a named column is not there, or
    nothing holds numbers.
    """
    _check_named(table, name, chosen)
    months = _months_of(table.columns)
    cells = {column: [row.values.get(column) for row in table.rows[:SAMPLE]] for column in table.columns}
    decimal: Decimal = (
        chosen.decimal
        if chosen.decimal != "auto"
        else decimal_of(cell for column in cells.values() for cell in column)
    )
    numeric = {column for column, own in cells.items() if _is_numeric(own, decimal)}
    time = chosen.time or _find_time(table, cells, numeric, chosen)
    taken = {time, *chosen.series, *chosen.past, *chosen.future, *chosen.static, chosen.label}
    if months and not chosen.targets:
        return Layout(
            time or table.columns[0],
            (),
            months,
            months=months,
            decimal=decimal,
            order=(time or table.columns[0], "value"),
        )
    label = chosen.label or (
        _first(table.columns, lambda c: c not in taken and _is_label(c, cells[c])) if marks else ""
    )
    series = chosen.series or _find_series(table, cells, numeric, {*taken, label, *chosen.targets}, time)
    if time and not chosen.time and not series and _comes_again(table, time):
        # A column of quarters or of hours is no time by itself.
        time = ""
    taken |= {label, *series}
    static = chosen.static or _find_static(table, cells, series, {*taken, *chosen.targets})
    taken |= set(static)
    targets = chosen.targets or tuple(c for c in table.columns if c in numeric and c not in taken)
    if not targets:
        raise UserError(
            f"{name}: no column holds numbers to learn from (columns: {', '.join(table.columns)}); name one by "
            f"--target-column, and the sign before decimals by --decimal"
        )
    for column in (*targets, *chosen.past, *chosen.future):
        if column not in numeric:
            example = next((cell for cell in cells[column] if number_of(cell, decimal) is None), "")
            raise UserError(f"{name}: the column {column!r} holds {example!r}; expected numbers")
    wide = chosen.wide == "series" or (chosen.wide == "auto" and not chosen.targets and len(targets) > MANY)
    if wide and len(targets) > 1 and series:
        raise UserError(f"{name}: --wide series and a column of series ({series[0]}) do not go together")
    return Layout(
        time,
        series,
        targets,
        chosen.past,
        chosen.future,
        static,
        label,
        wide=wide and len(targets) > 1,
        decimal=decimal,
        order=table.columns,
    )


def _comes_again(table: Table, time: str) -> bool:
    stamps = [str(row.values.get(time)) for row in table.rows]
    return len(set(stamps)) < 0.5 * len(stamps)


def _check_named(table: Table, name: str, chosen: Chosen) -> None:
    named = (
        chosen.time,
        *chosen.series,
        *chosen.targets,
        *chosen.past,
        *chosen.future,
        *chosen.static,
        chosen.label,
    )
    for column in filter(None, named):
        if column not in table.columns:
            hint = nearest(column, table.columns) or f"; the columns are {', '.join(table.columns[:12])}"
            raise UserError(f"{name} has no column {column!r}{hint}")
    for column, count in Counter(filter(None, named)).items():
        if count > 1:
            raise UserError(f"the column {column!r} is named for two uses; leave one of them out")


def _months_of(columns: Sequence[str]) -> tuple[str, ...]:
    """Twelve columns that are called as the months are, in their order."""
    found = tuple(column for column in columns if column.strip().lower()[:3] in _MONTHS)
    names = tuple(column.strip().lower()[:3] for column in found)
    return found if names == _MONTHS and len(columns) <= 15 else ()


def _is_numeric(cells: Sequence[Any], decimal: Decimal) -> bool:
    values = [number_of(cell, decimal) for cell in cells]
    known = [value for value in values if value is None or not math.isnan(value)]
    return bool(known) and sum(value is None for value in known) <= 0.1 * len(known)


def _first(columns: Iterable[str], rule: Callable[[str], bool]) -> str:
    return next((column for column in columns if rule(column)), "")


def _find_time(table: Table, cells: dict[str, list[Any]], numeric: set[str], chosen: Chosen) -> str:
    """The column of times: one that is called so and holds times, else the first that holds dates."""
    taken = {*chosen.series, *chosen.targets, *chosen.past, *chosen.future, *chosen.static, chosen.label}
    free = [column for column in table.columns if column not in taken]
    if chosen.step == "rows":
        return ""

    def holds(column: str) -> bool:
        found = read_times(cells[column], chosen.form, chosen.zone) if cells[column] else None
        return found is not None and (column not in numeric or _rises(found.values.tolist()))

    called = [column for column in free if _TIME.fullmatch(re.sub(r"[\W_]+", " ", column).strip())]
    # pandas leaves the name of its index empty; its number stands for it.
    firsts = [c for c in free[:1] if c.isdecimal() and table.named]
    return _first([*called, *firsts], holds) or _first((c for c in free if c not in numeric), holds)


def _rises(values: Sequence[float]) -> bool:
    """Whether numbers could be times: seldom the same twice running, and more often rising than falling."""
    steps = [b - a for a, b in pairwise(values)]
    return not steps or sum(step > 0 for step in steps) >= 0.5 * len(steps)


def _is_label(column: str, cells: Sequence[Any]) -> bool:
    words = {str(cell).strip().lower() for cell in cells if cell not in (None, "")}
    return bool(_LABEL.fullmatch(column.strip())) and words <= {"0", "1", "0.0", "1.0", "true", "false"}


def _find_series(
    table: Table, cells: dict[str, list[Any]], numeric: set[str], taken: set[str], time: str
) -> tuple[str, ...]:
    """The column that names the series of a long table: the same time stands in it once for each."""
    if not time or not table.rows:
        return ()
    stamps = [row.values.get(time) for row in table.rows]
    if len(set(map(str, stamps))) > 0.9 * len(stamps):
        return ()
    free = [c for c in table.columns if c not in taken and (c not in numeric or _SERIES.fullmatch(c.strip()))]

    def tells_apart(column: str) -> bool:
        names = [str(row.values.get(column)) for row in table.rows]
        pairs = len(set(zip(names, map(str, stamps), strict=True)))
        return 1 < len(set(names)) <= len(names) / 3 and pairs >= 0.9 * len(names)

    called = [c for c in free if _SERIES.fullmatch(c.strip())]
    return tuple(filter(None, [_first([*called, *free], tells_apart)]))


def _find_static(
    table: Table, cells: dict[str, list[Any]], series: tuple[str, ...], taken: set[str]
) -> tuple[str, ...]:
    """The columns of a long table that say one thing of each series, and not the same of all."""
    if not series:
        return ()
    names = [tuple(str(row.values.get(c)) for c in series) for row in table.rows]

    def constant(column: str) -> bool:
        known: dict[tuple[str, ...], str] = {}
        own = [str(row.values.get(column)) for row in table.rows]
        return len(set(own)) > 1 and all(
            known.setdefault(name, value) == value for name, value in zip(names, own, strict=True)
        )

    return tuple(c for c in table.columns if c not in taken and constant(c))


def in_words(layout: Layout, unused: Sequence[str]) -> str:
    """What was found, for the terminal."""
    parts = [f"time: {layout.time}" if layout.time else "no times: rows as they follow"]
    if layout.series:
        parts.append(f"series: {' and '.join(layout.series)}")
    kind = "months of a year a row" if layout.months else "a series each" if layout.wide else "values"
    shown = layout.targets[:8] if not layout.months else (f"{layout.months[0]} to {layout.months[-1]}",)
    parts.append(
        f"{kind}: {', '.join(shown)}{', ...' if len(layout.targets) > 8 and not layout.months else ''}"
    )
    for what, columns in (
        ("known to now", layout.past),
        ("known ahead", layout.future),
        ("static", layout.static),
    ):
        if columns:
            parts.append(f"{what}: {', '.join(columns)}")
    if layout.label:
        parts.append(f"marks: {layout.label}")
    if layout.decimal == "comma":
        parts.append("decimal comma")
    if unused:
        parts.append(f"not used: {', '.join(unused)}")
    return "; ".join(parts)


def gathered(table: Table, layout: Layout, account: Account) -> dict[str, Rows]:
    """The rows of each series, by its name. What is no number where one is expected is missing, with a remark."""
    if layout.months:
        return {"": _by_months(table, layout, account)}
    found: dict[str, Rows] = {}
    names = layout.targets if layout.wide else ("",)
    for row in table.rows:
        for name in names:
            targets = (name,) if layout.wide else layout.targets
            key = name if layout.wide else " ".join(str(row.values.get(c, "")).strip() for c in layout.series)
            rows = found.setdefault(key, Rows([], [], [], [], {}))
            rows.times.append(row.values.get(layout.time) if layout.time else None)
            rows.values.append(_values(row, (*targets, *layout.past, *layout.future), layout, account))
            rows.places.append(row.place)
            rows.labels.append(_mark(row.values.get(layout.label)) if layout.label else -1)
            for column in layout.static:
                rows.static.setdefault(column, _static(row.values.get(column), layout))
    return found


def _values(row: TableRow, columns: Iterable[str], layout: Layout, account: Account) -> list[float]:
    decimal: Any = layout.decimal
    values = []
    for column in columns:
        value = number_of(row.values.get(column), decimal)
        if value is None:
            account.remark(f"no number in {column}, taken for missing", row.place)
        values.append(math.nan if value is None else value)
    return values


def _mark(cell: Any) -> int:
    word = str(cell).strip().lower()
    return {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0}.get(word, -1)


def _static(cell: Any, layout: Layout) -> Any:
    decimal: Any = layout.decimal
    value = number_of(cell, decimal)
    return str(cell).strip() if value is None or math.isnan(value) else value


def _by_months(table: Table, layout: Layout, account: Account) -> Rows:
    """A row a year, a column a month: twelve rows of one value each."""
    rows = Rows([], [], [], [], {})
    for row in table.rows:
        values = _values(row, layout.months, layout, account)
        for month, value in enumerate(values, 1):
            rows.times.append(f"{str(row.values.get(layout.time)).strip().removesuffix('.0')}-{month:02d}")
            rows.values.append([value])
            rows.places.append(row.place)
            rows.labels.append(-1)
    while rows.values and math.isnan(rows.values[-1][0]):
        # The months to come of the last year.
        for column in (rows.times, rows.values, rows.places, rows.labels):
            column.pop()
    return rows
