"""Files of series -> frames on an even grid; the account says what was found, mended and left out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from elman.data.account import Account, Place
from elman.data.encoding import decode, lines_of, read_bytes
from elman.data.inputs import files_of
from elman.data.series.frames import Chosen, Frame, Layout
from elman.data.series.numbers import decimal_of, number_of
from elman.data.series.stamps import Clock, Step, Times, even_out, find_step, read_times
from elman.data.series.tables import Rows, find_layout, gathered, in_words
from elman.data.table import Given, Table, TableRow, read_table
from elman.errors import UserError

__all__ = ["gridded", "joined", "read_frames", "read_series", "table_of"]

AUTO = Given()
SAMPLE = 2000
# No grid has so many more rows than the file.
MOST_GAPS = 50


def table_of(path: Path, text: str, account: Account, given: Given) -> Table:
    """The table in a file; one column alone is a table too. UserError where there is none."""
    table, own = _tried(str(path), text, given)
    if table is not None and given.header == "auto" and not table.named and _names_columns(table):
        table, own = _tried(str(path), text, replace(given, header="yes"))
    if table is None or not table.rows or _only_names(table):
        raise UserError(f"{path} has no rows: expected a table with a row for each time")
    if len(table.columns) == 1:
        return _of_lines(str(path), text, table, account)
    _check_commas(str(path), text, table)
    account.merge(own)
    return table


def _check_commas(name: str, text: str, table: Table) -> None:
    """UserError where decimal commas seem to have been taken for ends of cells: more cells than the header names."""
    first = next((line for line in lines_of(text) if line.strip()), "")
    names = [cell.strip().strip('"') for cell in first.split(",")]
    if table.named or not table.found.startswith("delimited by comma") or len(names) >= len(table.columns):
        return
    if all(number_of(word) is None for word in names):
        raise UserError(
            f"{name}: the first row names {len(names)} columns ({', '.join(names[:12])}), and the rows below it have "
            f"{len(table.columns)} cells; where a comma stands before decimals, put the numbers into quotes or set "
            f"cells apart by another sign"
        )


def _of_lines(name: str, text: str, table: Table, account: Account) -> Table:
    """A table of one column: a blank line is a value that is missing, but for those at the end."""
    lines = lines_of(text.rstrip())
    first = 1 + table.named
    rows = [
        TableRow(Place(name, number), {table.columns[0]: line.strip().strip('"')})
        for number, line in enumerate(lines, 1)
        if number >= first
    ]
    account.read += len(rows)
    return table._replace(rows=rows)


def _tried(name: str, text: str, given: Given) -> tuple[Table | None, Account]:
    account = Account()
    table = read_table(name, text, account, given)
    if table is None:
        account = Account()
        table = read_table(name, text, account, replace(given, delimiter="comma"))
    return table, account


def _only_names(table: Table) -> bool:
    """Whether a table is one row of words, as a header without rows is."""
    words = [cell for row in table.rows for cell in row.values.values()]
    return len(table.rows) == 1 and len(words) > 1 and all(number_of(word) is None for word in words)


def _names_columns(table: Table) -> bool:
    """Whether the first row names the columns: words over cells that are mostly numbers, some of them broken."""
    if len(table.rows) < 2:
        return False
    first, rest = table.rows[0].values, table.rows[1:SAMPLE]

    def is_name(column: str) -> bool:
        decimal = decimal_of(row.values.get(column) for row in rest)
        numbers = [number_of(row.values.get(column), decimal) is not None for row in rest]
        return number_of(first[column], decimal) is None and sum(numbers) > 0.5 * len(numbers)

    return any(is_name(column) for column in first)


def read_series(
    paths: Sequence[str],
    account: Account,
    chosen: Chosen,
    *,
    given: Given = AUTO,
    encoding: str = "auto",
    layout: Layout | None = None,
    step: Step | None = None,
    marks: bool = False,
) -> tuple[list[Frame], Layout]:
    """The frames of files (of a folder: of its files), and their columns. layout, step: those that are known already.

    Raises UserError where a file is no table, or lacks a column.
    """
    frames: list[Frame] = []
    for path in (file for given_path in paths for file in files_of(given_path)):
        text = decode(read_bytes(path), str(path), encoding)
        if text.odd:
            account.remark(
                "line that is not UTF-8, read as cp1252", [Place(str(path), line) for line in text.odd]
            )
        table = table_of(path, text.text, account, given)
        own = layout or find_layout(table, str(path), chosen, marks=marks)
        _check_columns(table, own, str(path))
        unused = [column for column in table.columns if column not in own.columns]
        found = read_frames(table, own, account, chosen, step=step)
        account.found.append(f"{path}: {table.found}; {in_words(own, unused)}")
        account.found += _said(found)
        frames += found
        layout = own
    if layout is None or not frames:
        raise UserError(f"{', '.join(paths)}: no rows to read")
    return _by_name(frames), layout


def _check_columns(table: Table, layout: Layout, name: str) -> None:
    needed = (*layout.targets, *layout.past, *layout.future, layout.time, *layout.series, *layout.static)
    lacking = [column for column in needed if column and column not in table.columns]
    if lacking:
        raise UserError(
            f"{name} lacks the column {lacking[0]!r}, which the other data have; its columns are "
            f"{', '.join(table.columns[:12])}"
        )


def read_frames(
    table: Table, layout: Layout, account: Account, chosen: Chosen, *, step: Step | None = None
) -> list[Frame]:
    """The frames of a table."""
    return [
        gridded(name, rows, account, chosen, step) for name, rows in gathered(table, layout, account).items()
    ]


def gridded(name: str, rows: Rows, account: Account, chosen: Chosen, step: Step | None) -> Frame:
    """The rows of a series in the order of time, on an even grid where there is one."""
    times = _times_of(rows, chosen)
    if times is None or chosen.step == "rows":
        count = len(rows.values)
        plain = np.arange(count, dtype=np.float64)
        return _frame(name, rows, np.arange(count), plain, np.ones(count), Step("rows"), Clock("number"))
    values, clock = times
    if not clock.plain and not clock.zone:
        values, turned = even_out(values)
        if turned:
            account.remark("clock changes of daylight saving, made even", [rows.places[i] for i in turned])
    keep = _in_order(values, rows, account)
    stamps = values[keep]
    own = step or (find_step(stamps, clock) if chosen.step == "auto" else _forced(chosen.step, stamps, clock))
    if own.kind in {"irregular", "rows"}:
        gap = np.concatenate([[1.0], np.diff(stamps) / own.size]) if len(stamps) else np.ones(0)
        return _frame(name, rows, keep, stamps, gap, own, clock)
    return _filled(name, rows, keep, stamps, own, clock, account)


def _forced(kind: str, stamps: Any, clock: Clock) -> Step:
    if kind == "months":
        return Step("months", 1)
    found = find_step(stamps, clock)
    return Step("seconds", found.size) if found.kind in {"irregular", "seconds"} else Step("seconds", 86400.0)


def _times_of(rows: Rows, chosen: Chosen) -> Times | None:
    if all(time is None for time in rows.times):
        return None
    return read_times(rows.times, chosen.form, chosen.zone)


def _in_order(values: Any, rows: Rows, account: Account) -> Any:
    """The indices of the rows in the order of time, of one time the last row only; others stand in the account."""
    lost = [i for i, value in enumerate(values) if np.isnan(value)]
    for i in lost:
        account.fault("no time", rows.places[i])
    if (np.diff(values[~np.isnan(values)]) < 0).any():
        steps = np.diff(values)
        account.remark(
            "out of order, sorted by time", [rows.places[i + 1] for i in np.flatnonzero(steps < 0)]
        )
    last: dict[float, int] = {}
    for i, value in enumerate(values.tolist()):
        if math.isnan(value):
            continue
        if value in last:
            account.set_aside("time that comes again, the last row counts", rows.places[last[value]])
        last[value] = i
    return np.array([last[value] for value in sorted(last)], dtype=np.int64)


def _frame(name: str, rows: Rows, keep: Any, times: Any, gap: Any, step: Step, clock: Clock) -> Frame:
    values = np.array([rows.values[i] for i in keep], dtype=np.float64).reshape(len(keep), -1)
    labels = np.array([rows.labels[i] for i in keep], dtype=np.int64)
    marked = labels if (labels >= 0).any() else None
    places: list[Place | None] = [rows.places[i] for i in keep]
    return Frame(name, values, times, gap, step, clock, places, marked, rows.static)


def _filled(
    name: str, rows: Rows, keep: Any, stamps: Any, step: Step, clock: Clock, account: Account
) -> Frame:
    """The rows on their grid, with empty rows in the gaps."""
    numbers = step.places(stamps)
    again = np.flatnonzero(np.diff(numbers) == 0)
    if len(again):
        account.remark(
            f"rows within {step} of another, the last one counts", [rows.places[keep[i]] for i in again]
        )
        last = np.append(np.diff(numbers) > 0, True)
        keep, stamps, numbers = keep[last], stamps[last], numbers[last]
    numbers = numbers - numbers[0]
    count = int(numbers[-1]) + 1
    if count > MOST_GAPS * len(numbers) + 1000:
        usual = float(np.median(np.diff(stamps)))
        gap = np.concatenate([[1.0], np.diff(stamps) / usual])
        return _frame(name, rows, keep, stamps, gap, Step("irregular", usual), clock)
    whole = _frame(name, rows, keep, stamps, np.ones(len(keep)), step, clock)
    if count == len(numbers):
        return whole
    values = np.full((count, whole.values.shape[1]), np.nan)
    values[numbers] = whole.values
    places: list[Place | None] = [None] * count
    for number, place in zip(numbers.tolist(), whole.places, strict=True):
        places[number] = place
    times = np.array([step.after(float(stamps[0]), i) for i in range(count)])
    times[numbers] = stamps
    labels = None
    if whole.labels is not None:
        labels = np.full(count, -1)
        labels[numbers] = whole.labels
    return Frame(name, values, times, np.ones(count), step, clock, places, labels, rows.static)


def _said(frames: Sequence[Frame]) -> list[str]:
    """The step, the rows and the gaps of what was read."""
    steps = list(dict.fromkeys(str(frame.step) for frame in frames))
    rows = sum(len(frame) for frame in frames)
    empty = sum(place is None for frame in frames for place in frame.places)
    missing = sum(int(np.isnan(frame.values).sum()) for frame in frames)
    cells = sum(frame.values.size for frame in frames)
    many = f"{len(frames):,} series, " if len(frames) > 1 else ""
    gaps = f", {empty:,} of them gaps" if empty else ""
    share = (
        f"; {missing:,} of {cells:,} values missing ({100 * missing / cells:.2g} %)"
        if missing
        else "; no value missing"
    )
    return [f"{many}step: {', '.join(steps[:3])}; {rows:,} rows{gaps}{share}"]


def _by_name(frames: Sequence[Frame]) -> list[Frame]:
    """The frames of several files; of one name, one behind the other by time."""
    found: dict[str, Frame] = {}
    for frame in frames:
        old = found.get(frame.name)
        found[frame.name] = frame if old is None else joined(old, frame)
    return list(found.values())


def joined(first: Frame, second: Frame) -> Frame:
    """Two frames of one series, the second behind the first. UserError where its times begin before those end."""
    if first.step.kind == "rows" or not len(second) or second.times[0] <= first.times[-1]:
        times = np.arange(len(first) + len(second), dtype=np.float64)
        if first.step.kind != "rows":
            raise UserError(
                f"{second.places[0]}: its times begin before those of the file before it end; give files in order"
            )
    else:
        times = np.concatenate([first.times, second.times])
    labels = None
    if first.labels is not None or second.labels is not None:
        labels = np.concatenate(
            [np.full(len(f), -1) if f.labels is None else f.labels for f in (first, second)]
        )
    return Frame(
        first.name,
        np.concatenate([first.values, second.values]),
        times,
        np.concatenate([first.gap, second.gap]),
        first.step,
        first.clock,
        [*first.places, *second.places],
        labels,
        first.static,
    )
