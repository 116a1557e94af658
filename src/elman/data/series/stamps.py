"""Times of rows: read in any usual form, made even over clock changes, and the step between them.

A time is a count of seconds since 1970 (UTC, or the clock of the file where it names no zone), or a plain number.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, tzinfo
from functools import partial
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt

from elman.errors import UserError

__all__ = ["Clock", "Step", "Times", "calendar", "even_out", "find_step", "read_times", "written"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Kind = Literal["rows", "number", "seconds", "workdays", "months", "irregular"]

DAY, HOUR = 86400, 3600
# The second day of the calendar and the last but one, in any zone within it, and its last month.
FIRST = datetime(1, 1, 2, tzinfo=UTC).timestamp()
LAST = datetime(9999, 12, 30, tzinfo=UTC).timestamp()
LAST_MONTH = 9999 * 12 + 11
# Where fewer gaps than this are whole multiples of the usual one, the times are irregular.
REGULAR = 0.9
# And where fewer are the usual one itself.
USUAL = 0.25
FORMS = (
    "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%Y-%m", "%Y/%m", "%YM%m", "%b %Y", "%Y-%b", "%B %Y", "%d-%b-%Y",
    "%d %b %Y", "%b %d, %Y", "%d-%b-%y",
)  # fmt: skip
DAY_FIRST = ("%d.%m.%Y", "%d/%m/%Y", "%d-%m-%Y", "%d.%m.%y", "%d/%m/%y")
MONTH_FIRST = ("%m/%d/%Y", "%m-%d-%Y", "%m/%d/%y")
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
ZONED = "ISO with zone"
_QUARTER = re.compile(r"(\d{4})\s*[-/]?\s*[Qq]([1-4])|[Qq]([1-4])\s*[-/]?\s*(\d{4})")


class Clock(NamedTuple):
    """How times are written. form: a form of strptime, or ISO, number, seconds, milliseconds, year or quarter.

    Times of ISO that name their distance from UTC have the form ISO with zone, and are written in UTC.
    """

    form: str
    zone: str = ""

    @property
    def plain(self) -> bool:
        """Whether times are numbers without a calendar."""
        return self.form == "number"


class Times(NamedTuple):
    """Times of rows `(N,)`, NaN where a cell is none."""

    values: Floats
    clock: Clock


class Step(NamedTuple):
    """The time from one row to the next: `size` seconds, months, workdays or units of a plain number; or rows."""

    kind: Kind
    size: float = 1.0

    def __str__(self) -> str:
        """In words: `a month`, `15 minutes`."""
        if self.kind == "rows":
            return "a row"
        if self.kind == "number":
            return f"{self.size:g}"
        if self.kind == "workdays":
            return "a workday"
        if self.kind == "months":
            return {1: "a month", 3: "a quarter", 12: "a year"}.get(int(self.size), f"{self.size:g} months")
        words = _duration(self.size)
        return f"irregular, {words} as a rule" if self.kind == "irregular" else words

    def places(self, times: Floats) -> Ints:
        """The number of each time on the grid of this step, from any fixed start."""
        if self.kind == "months":
            return np.array([_months(t) for t in times], dtype=np.int64) // int(self.size)
        if self.kind == "workdays":
            days = (times // DAY).astype("datetime64[D]")
            return np.asarray(np.busday_count(np.datetime64("1970-01-01"), days), dtype=np.int64)
        return np.asarray(np.rint((times - times.min(initial=np.inf)) / self.size), dtype=np.int64)

    def after(self, time: float, steps: int) -> float:
        """The time so many steps after another one."""
        if self.kind == "months":
            moment = _moment(time)
            number = min(_months(time) + steps * int(self.size), LAST_MONTH)
            last = _last_day(number // 12, number % 12 + 1)
            at_end = moment.day == _last_day(moment.year, moment.month)
            day = last if at_end and moment.day > 27 else min(moment.day, last)
            return moment.replace(year=number // 12, month=number % 12 + 1, day=day).timestamp()
        if self.kind == "workdays":
            start = np.datetime64(int(time // DAY), "D")
            return float(np.busday_offset(start, steps, roll="backward").astype(np.int64)) * DAY + time % DAY
        return time + steps * self.size

    @property
    def season(self) -> int:
        """Steps in the usual season: 12 of months, 7 of days, 24 of hours; 1 where none is known."""
        if self.kind == "months":
            return max(1, round(12 / self.size))
        if self.kind == "workdays":
            return 5
        if self.kind != "seconds":
            return 1
        known = {7 * DAY: 52, DAY: 7}
        return known.get(int(self.size), round(DAY / self.size) if 2 * self.size <= DAY else 1)


def _duration(seconds: float) -> str:
    for size, name in ((7 * DAY, "week"), (DAY, "day"), (HOUR, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size and abs(seconds / size - round(seconds / size)) < 1e-9:
            count = round(seconds / size)
            article = "an" if name == "hour" else "a"
            return f"{article} {name}" if count == 1 else f"{count} {name}s"
    return f"{seconds:g} seconds"


def _moment(time: float, zone: tzinfo = UTC) -> datetime:
    """The time on a calendar; the calendar's first or last day where it lies outside."""
    return datetime.fromtimestamp(min(max(time, FIRST), LAST), zone)


def _months(time: float) -> int:
    moment = _moment(time)
    return moment.year * 12 + moment.month - 1


def _last_day(year: int, month: int) -> int:
    return monthrange(year, month)[1]


# Reading


def read_times(cells: Sequence[Any], form: str = "auto", zone: str = "") -> Times | None:
    """The times in the cells of a column; None where most are none.

    form: as `Clock.form`, or auto; of two forms that fit all cells (day or month first) the day is taken first.
    zone: the zone of times that name none, such as Europe/Berlin; an hour that comes twice is told apart by its order.
    """
    where = _zone(zone)
    sample = [cell for cell in cells if cell not in (None, "")][:2000]
    if not sample:
        return None
    for name, parse in _parsers(form, sample):
        found = [_tried(parse, cell) for cell in sample]
        if sum(value is not None for value in found) >= max(1, 0.9 * len(sample)):
            read = [_tried(parse, cell) for cell in cells]
            values = np.array([np.nan if t is None else _seconds(t, where) for t in read])
            zoned = name == "ISO" and any(isinstance(t, datetime) and t.tzinfo for t in read)
            return Times(_second_hours(values, read, where), Clock(ZONED if zoned else name, zone))
    if form != "auto":
        raise UserError(f"--time-format {form}: cells such as {sample[0]!r} are not written so")
    return None


def _zone(zone: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(zone) if zone else None
    except (ZoneInfoNotFoundError, ValueError):
        raise UserError(
            f"--time-zone {zone}: no such zone; Europe/Berlin and America/New_York are some"
        ) from None


Parse = Callable[[Any], "datetime | float | None"]


def _tried(parse: Parse, cell: Any) -> datetime | float | None:
    try:
        return parse(cell)
    except (ValueError, TypeError, OverflowError):
        return None


def _parsers(form: str, sample: Sequence[Any]) -> list[tuple[str, Parse]]:
    words: dict[str, Parse] = {
        "year": _year,
        "quarter": _quarter,
        "ISO": _iso,
        ZONED: _iso,
        "seconds": partial(_epoch, 1.0),
        "milliseconds": partial(_epoch, 1e-3),
        "number": float,
    }
    if form != "auto":
        return [(form, words.get(form, partial(_by_form, form)))]
    numeric = all(_tried(words["number"], cell) is not None for cell in sample)
    if numeric:
        values = np.array([float(cell) for cell in sample])
        return [
            (name, words[name] if name in words else partial(_by_form, name)) for name in _of_numbers(values)
        ]
    dated = [f"{day}{clock}" for day in (*FORMS, *DAY_FIRST, *MONTH_FIRST) for clock in CLOCKS]
    return [(name, words[name]) for name in ("ISO", "quarter")] + [(f, partial(_by_form, f)) for f in dated]


def _of_numbers(values: Floats) -> list[str]:
    """What numbers may be as times, the likeliest first."""
    whole = bool(np.all(values == np.rint(values)))
    if whole and values.min() > 19000000 and values.max() < 21001231:
        return ["%Y%m%d", "number"]
    if whole and values.min() >= 1500 and values.max() <= 2200:
        return ["year"]
    if values.min() > 3e11:
        return ["milliseconds"]
    return ["seconds"] if values.min() > 3e8 else ["number"]


def _year(cell: Any) -> datetime:
    return datetime(int(float(cell)), 1, 1)


def _quarter(cell: Any) -> datetime | None:
    found = _QUARTER.fullmatch(str(cell).strip())
    if not found:
        return None
    year, quarter = int(found[1] or found[4]), int(found[2] or found[3])
    return datetime(year, 3 * quarter - 2, 1)


def _iso(cell: Any) -> datetime:
    word = str(cell).strip()
    if not re.match(r"\d{4}-\d{2}-\d{2}", word):
        raise ValueError(word)
    return datetime.fromisoformat(word.replace(" UTC", "+00:00"))


def _epoch(unit: float, cell: Any) -> float:
    return float(cell) * unit


def _by_form(form: str, cell: Any) -> datetime:
    return datetime.strptime(str(cell).strip().removesuffix(".0"), form)


def _seconds(time: datetime | float, zone: ZoneInfo | None) -> float:
    if not isinstance(time, datetime):
        return float(time)
    if time.tzinfo is None:
        time = time.replace(tzinfo=zone or UTC)
    return time.timestamp()


def _second_hours(values: Floats, read: Sequence[Any], zone: ZoneInfo | None) -> Floats:
    """With a zone: an hour that the clock shows twice, the second time it comes."""
    if zone is None:
        return values
    seen: set[float] = set()
    for place, (value, time) in enumerate(zip(values.tolist(), read, strict=True)):
        if isinstance(time, datetime) and time.tzinfo is None and value in seen:
            later = time.replace(tzinfo=zone, fold=1).timestamp()
            values[place] = later
        seen.add(value)
    return values


def written(time: float, clock: Clock) -> str:
    """A time as the file writes it, as far as that is known."""
    if clock.plain:
        return f"{time:.12g}"
    if clock.form in {"seconds", "milliseconds"}:
        return f"{time * (1000 if clock.form == 'milliseconds' else 1):.15g}"
    zone = _zone(clock.zone) or UTC
    moment = _moment(time, zone)
    if clock.form == "year":
        return str(moment.year)
    if clock.form == "quarter":
        return f"{moment.year}Q{(moment.month + 2) // 3}"
    if clock.form == ZONED:
        return moment.isoformat(" ")
    if clock.form == "ISO":
        bare = moment.replace(tzinfo=None)
        return bare.date().isoformat() if time % DAY == 0 and not clock.zone else bare.isoformat(" ")
    return moment.strftime(clock.form)


# Clock changes and steps


def even_out(times: Floats) -> tuple[Floats, list[int]]:
    """Times of a clock that is turned for daylight saving, made even; and the rows at which it is turned.

    A clock that is turned back shows an hour twice: rows in order step back by an hour less a step. Only where that is
    seen are the hours that are left out in spring closed too. Rows that are out of order otherwise stay as they are.
    The last rows keep the times that the clock shows, so that those to come follow on them; earlier ones are moved.
    """
    steps = np.diff(times)
    usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    if not 0 < usual <= HOUR or HOUR % usual:
        return times, []
    turned = [i + 1 for i, step in enumerate(steps) if step == usual - HOUR and _is_turn(times[i])]
    back = [i for i, step in enumerate(steps) if step < 0]
    if not turned or len(back) > len(turned) or len(turned) > 1 + len(times) * usual / (180 * DAY):
        return times, []
    forward = [i + 1 for i, step in enumerate(steps) if step == usual + HOUR and _is_turn(times[i])]
    shift = np.zeros(len(times))
    for row in turned:
        shift[row:] += HOUR
    for row in forward:
        shift[row:] -= HOUR
    return times + shift - shift[-1], sorted([*turned, *forward])


def _is_turn(time: float) -> bool:
    """Whether clocks are turned then: an hour of a Sunday's night, in spring or autumn."""
    moment = _moment(time)
    return (
        moment.month in {3, 4, 9, 10, 11}
        and moment.weekday() in {5, 6}
        and (moment.hour < 5 or moment.hour == 23)
    )


def find_step(times: Floats, clock: Clock) -> Step:
    """The step of times in ascending order, each once."""
    if len(times) < 2:
        return Step("number" if clock.plain else "seconds", 1.0 if clock.plain else DAY)
    steps = np.diff(times)
    if not clock.plain:
        months = _find_months(times)
        if months:
            return Step("months", months)
        if bool((steps % DAY == 0).all()) and steps.min() == DAY and _workdays(times):
            return Step("workdays")
    usual = _usual(steps)
    ratio = steps / usual
    regular = np.abs(ratio - np.rint(ratio)) < 0.05
    usually = (np.rint(ratio) == 1).mean() >= USUAL
    if regular.mean() < REGULAR or not usually or (np.rint(ratio) < 1).any():
        return Step("irregular", float(np.median(steps)))
    return Step("number" if clock.plain else "seconds", usual)


def _usual(steps: Floats) -> float:
    values, counts = np.unique(np.round(steps, 9), return_counts=True)
    return float(values[counts.argmax()])


def _find_months(times: Floats) -> int:
    """The common divisor of the months between times of one day of the month, or of each month's last; else 0."""
    moments = [_moment(t) for t in times]
    same = {(m.day, m.hour, m.minute, m.second) for m in moments}
    ends = all(m.day == _last_day(m.year, m.month) for m in moments)
    numbers = np.array([m.year * 12 + m.month for m in moments])
    steps = np.diff(numbers)
    if (len(same) > 1 and not ends) or (steps <= 0).any():
        return 0
    return int(np.gcd.reduce(steps))


def _workdays(times: Floats) -> bool:
    days = (times // DAY).astype("datetime64[D]")
    if not bool(np.is_busday(days).all()) or len(times) < 6:
        return False
    return len(times) >= 0.8 * (int(np.busday_count(days[0], days[-1])) + 1)


def calendar(times: Floats, step: Step, clock: Clock) -> tuple[list[str], Floats]:
    """What the calendar says of each time, between -1 and 1: sines and cosines of the year, week and day `(N, K)`.

    Only what changes with this step, and does so within a few hundred of it: no time of day of daily rows.
    """
    if clock.plain or step.kind in {"rows", "number"}:
        return [], np.zeros((len(times), 0))
    length = {"months": 30.4 * DAY * step.size, "workdays": DAY}.get(step.kind, step.size)
    days = times / DAY
    year = np.array([_share_of_year(t) for t in times])
    cycles = {"year": (365.25 * DAY, year), "week": (7 * DAY, (days + 3) / 7 % 1), "day": (DAY, days % 1)}
    names, columns = [], []
    for name, (period, share) in cycles.items():
        if 2 * length <= period <= 400 * length:
            names += [f"{name} (sine)", f"{name} (cosine)"]
            columns += [np.sin(2 * np.pi * share), np.cos(2 * np.pi * share)]
    return names, np.stack(columns, axis=1) if columns else np.zeros((len(times), 0))


def _share_of_year(time: float) -> float:
    moment = _moment(time)
    start = datetime(moment.year, 1, 1, tzinfo=UTC)
    return (moment - start).total_seconds() / (366 * DAY)
