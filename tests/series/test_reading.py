"""Tables, .ts and .arff to frames and cases: what is found, what is mended, what is left out."""

import math
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.config import UserError
from elman.data.account import Account
from elman.data.series import Case, Chosen, Frame, Step, read_cases, read_series
from elman.data.series.frames import since_of
from elman.data.series.numbers import decimal_of, number_of
from elman.data.series.stamps import find_step, read_times, written


def read(text: str, path: Path, **chosen: Any) -> tuple[list[Frame], Account]:
    path.write_text(text)
    account = Account()
    frames, _ = read_series([str(path)], account, Chosen(**chosen))
    return frames, account


def column(frame: Frame) -> list[float | None]:
    return [None if math.isnan(v) else v for v in frame.values[:, 0].tolist()]


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("1.5", 1.5),
        ("-2", -2.0),
        ("1e3", 1000.0),
        ("1,234.5", 1234.5),
        (" 7 ", 7.0),
        ("\u22123", -3.0),
        (4, 4.0),
        (True, 1.0),
    ],
)
def test_numbers(cell: Any, value: float) -> None:
    assert number_of(cell) == value


@pytest.mark.parametrize("cell", ["", "NaN", "?", "n/a", None, "null", "-", "inf"])
def test_words_for_nothing(cell: Any) -> None:
    value = number_of(cell)
    assert value is not None
    assert math.isnan(value)


@pytest.mark.parametrize("cell", ["abc", "1_000", "12:30", "1,5"])
def test_what_is_no_number(cell: str) -> None:
    assert number_of(cell) is None


@given(st.floats(-1e6, 1e6).map(lambda v: round(v, 2)))
def test_a_decimal_comma_says_the_same(value: float) -> None:
    word = f"{value:.2f}"
    assert decimal_of([word.replace(".", ",")] * 3) == "comma"
    assert decimal_of([word] * 3) == "point"
    assert number_of(word.replace(".", ","), "comma") == number_of(word)
    thousands = f"{value:,.2f}".translate(str.maketrans(",.", ".,"))
    assert number_of(thousands, "comma") == value


FORMS = [
    "%Y-%m-%d",
    "%d.%m.%Y",
    "%m/%d/%Y",
    "%Y%m%d",
    "%d-%b-%Y",
    "%Y-%m-%d %H:%M",
    "%d.%m.%Y %H:%M:%S",
    "%d/%m/%Y %I:%M %p",
]


@pytest.mark.parametrize("form", FORMS)
def test_times_in_any_usual_form(form: str) -> None:
    start = datetime(2023, 11, 3, tzinfo=UTC)
    times = [start + timedelta(days=t) for t in range(60)]
    found = read_times([t.strftime(form) for t in times])
    assert found is not None
    assert found.values.tolist() == [t.timestamp() for t in times]
    assert find_step(found.values, found.clock) == Step("seconds", 86400)


@pytest.mark.parametrize(
    ("cells", "step"),
    [
        ([str(year) for year in range(1900, 1950)], "a year"),
        ([f"{2000 + q // 4}Q{q % 4 + 1}" for q in range(20)], "a quarter"),
        ([f"{2000 + m // 12}-{m % 12 + 1:02d}" for m in range(30)], "a month"),
        ([f"2024-{m:02d}-{d}" for m, d in zip(range(1, 7), (31, 29, 31, 30, 31, 30), strict=True)], "a month"),
        ([f"2024-01-{d:02d}" for d in range(1, 31) if datetime(2024, 1, d).weekday() < 5], "a workday"),
        ([str(1700000000 + 900 * t) for t in range(20)], "15 minutes"),
        ([str(1700000000000 + 1000 * t) for t in range(20)], "a second"),
        ([f"2024-01-01T{h:02d}:00:00+01:00" for h in range(20)], "an hour"),
        (["0.5", "1", "1.5", "2", "3"], "0.5"),
        ([f"2024-01-{d:02d}" for d in (1, 2, 4, 9, 10, 12, 17, 18)], "a day"),
        ([str(t) for t in (0, 1, 3.7, 4.1, 9.2, 9.4, 11.3)], "irregular"),
    ],
)  # fmt: skip
def test_steps(cells: list[str], step: str) -> None:
    times = read_times(cells)
    assert times is not None
    assert str(find_step(times.values, times.clock)).startswith(step)


def test_steps_go_on_over_month_ends_and_weekends() -> None:
    at = datetime(2024, 1, 31, tzinfo=UTC).timestamp()
    days = [datetime.fromtimestamp(Step("months").after(at, k), UTC) for k in (1, 2, 13)]
    assert [(d.year, d.month, d.day) for d in days] == [(2024, 2, 29), (2024, 3, 31), (2025, 2, 28)]
    friday = datetime(2024, 3, 1, tzinfo=UTC).timestamp()
    assert datetime.fromtimestamp(Step("workdays").after(friday, 1), UTC).day == 4


def test_a_wide_table_is_channels_of_one_series_or_series(tmp_path: Path) -> None:
    text = "date,a,b,name\n" + "".join(f"2024-01-{d:02d},{d},{d * d},x{d}\n" for d in range(1, 29))
    (frame,), account = read(text, tmp_path / "a.csv")
    assert frame.values.shape == (28, 2)
    assert "time: date; values: a, b; not used: name" in account.found[0]
    frames, _ = read(text, tmp_path / "a.csv", wide="series")
    assert [(f.name, f.values.shape) for f in frames] == [("a", (28, 1)), ("b", (28, 1))]


def test_months_of_a_year_a_row(tmp_path: Path) -> None:
    names = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
    rows = [",".join(map(str, [1990 + y, *(12 * y + m for m in range(12))])) for y in range(3)]
    (frame,), _ = read("\n".join([",".join(["YEAR", *names]), *rows]), tmp_path / "a.csv")
    assert column(frame) == list(range(36))
    assert frame.step == Step("months", 1)


def test_a_long_table_has_its_series_and_what_is_static(tmp_path: Path) -> None:
    kinds = {"x": "big", "y": "small", "z": "big"}
    rows = [f"2024-01-{d:02d},{s},{k},{d}" for s, k in kinds.items() for d in range(1, 21)]
    frames, account = read("\n".join(["ds,unique_id,kind,y", *rows]), tmp_path / "a.csv")
    assert [(f.name, len(f), f.static) for f in frames] == [
        ("x", 20, {"kind": "big"}), ("y", 20, {"kind": "small"}), ("z", 20, {"kind": "big"}),
    ]  # fmt: skip
    assert "series: unique_id; values: y; static: kind" in account.found[0]


def test_unsorted_and_double_times_and_gaps(tmp_path: Path) -> None:
    days = [3, 1, 2, 2, 7, 5, 6, 9, 8, 10]
    text = "day,v\n" + "".join(f"2024-01-{d:02d},{n}\n" for n, d in enumerate(days))
    (frame,), account = read(text, tmp_path / "a.csv")
    assert column(frame) == [1, 3, 0, None, 5, 6, 4, 8, 7, 9]
    assert [place is None for place in frame.places].count(True) == 1
    assert account.aside == {"time that comes again, the last row counts": [(str(tmp_path / "a.csv"), 4)]}
    assert "out of order, sorted by time" in account.remarks
    assert any("1 of them gaps; 1 of 10 values missing" in line for line in account.found)


@pytest.mark.parametrize("minutes", [60, 30, 15])
def test_daylight_saving_without_a_zone_is_made_even(tmp_path: Path, minutes: int) -> None:
    """A clock of Berlin over a year; hidden are an hour in March and one that comes twice in October."""
    zone, start = ZoneInfo("Europe/Berlin"), datetime(2023, 6, 1, tzinfo=UTC)
    count = 400 * 24 * 60 // minutes
    stamps = [(start + timedelta(minutes=minutes * t)).astimezone(zone) for t in range(count)]
    text = "time,v\n" + "".join(f"{t:%Y-%m-%d %H:%M},{n % 1000}\n" for n, t in enumerate(stamps))
    (frame,), account = read(text, tmp_path / "a.csv")
    assert len(frame) == count
    assert column(frame) == [n % 1000 for n in range(count)]
    assert len(account.remarks["clock changes of daylight saving, made even"]) == 2
    (named,), _ = read(text, tmp_path / "a.csv", zone="Europe/Berlin")
    assert column(named) == column(frame)
    assert named.times[0] == start.timestamp()


@pytest.mark.parametrize("start", [datetime(2024, 10, 20, tzinfo=UTC), datetime(2023, 6, 1, tzinfo=UTC)])
def test_behind_a_turn_of_the_clock_times_go_on_as_the_clock_shows_them(
    tmp_path: Path, start: datetime
) -> None:
    """So that a forecast, and rows that come later, follow on the last row of the file."""
    stamps = [(start + timedelta(hours=t)).astimezone(ZoneInfo("Europe/Berlin")) for t in range(300 * 24)]
    stamps = stamps[: next(n for n, t in enumerate(stamps) if t.month == 12)]
    text = "time,v\n" + "".join(f"{t:%Y-%m-%d %H:%M},{n}\n" for n, t in enumerate(stamps))
    (frame,), _ = read(text, tmp_path / "a.csv")
    assert (np.diff(frame.times) == 3600).all()
    assert written(frame.times[-1], frame.clock) == f"{stamps[-1]:%Y-%m-%d %H:%M:%S}"


@pytest.mark.parametrize("offset", ["+02:00", "-05:30", "Z"])
def test_times_that_name_their_zone_are_written_with_one(offset: str) -> None:
    cells = [f"2024-04-0{day}T22:30:00{offset}" for day in range(1, 8)]
    times = read_times(cells)
    assert times is not None
    for cell, value in zip(cells, times.values, strict=True):
        word = written(value, times.clock)
        assert datetime.fromisoformat(word) == datetime.fromisoformat(cell)
        again = read_times([word], times.clock.form)
        assert again is not None
        assert again.values.tolist() == [value]


def test_no_times_a_decimal_comma_and_broken_cells(tmp_path: Path) -> None:
    text = "a;b\n1,5;2\nx;3\n2,5;\n" + "".join(f"{n},25;{n}\n" for n in range(20))
    (frame,), account = read(text, tmp_path / "a.csv")
    assert frame.step == Step("rows")
    assert column(frame)[:4] == [1.5, None, 2.5, 0.25]
    assert list(account.remarks) == ["no number in a, taken for missing"]
    assert "decimal comma" in account.found[0]


def test_irregular_times_keep_their_gaps(tmp_path: Path) -> None:
    times = np.cumsum(np.random.default_rng(0).exponential(1, 50)).round(3)
    text = "t,v\n" + "".join(f"{t},{n}\n" for n, t in enumerate(times))
    (frame,), _ = read(text, tmp_path / "a.csv")
    assert frame.step.kind == "irregular"
    np.testing.assert_allclose(frame.gap[1:] * frame.step.size, np.diff(times))


def test_since_is_the_time_since_the_last_that_was_seen_before() -> None:
    """Example 1 of Che et al. 2018, in plain steps: eq. 2 row by row."""
    seen = np.array([[1, 0], [0, 0], [0, 1], [1, 0], [0, 0]], dtype=bool)
    gap = np.array([1, 0.1, 0.5, 1, 2])
    expected = [[0, 0], [0.1, 0.1], [0.6, 0.6], [1.6, 1.0], [2.0, 3.0]]
    np.testing.assert_allclose(since_of(seen, gap), expected)


@pytest.mark.parametrize(
    ("text", "chosen", "said"),
    [
        ("a,b\nx,y\nz,w\n", {}, "no column holds numbers"),
        ("a,b\n1,2\n3,4\n", {"targets": ("c",)}, "has no column 'c'"),
        ("date,v\n2024-01-01,1\n2024-01-02,2\n", {"form": "%d.%m.%Y", "time": "date"}, "are not written so"),
        ("date,v\n2024-01-01,1\n", {"zone": "Berlin"}, "no such zone"),
        ("date,v\n", {}, "has no rows"),
        (
            "date,v\n" + "2024-01-01,1,5\n" * 9,
            {},
            "names 2 columns (date, v), and the rows below it have 3 cells",
        ),
        ("date,v\n2024-01-01,1\n2024-01-02,3\n", {"targets": ("v",), "past": ("v",)}, "named for two uses"),
    ],
)
def test_bad_tables_end_in_a_sentence(tmp_path: Path, text: str, chosen: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        read(text, tmp_path / "a.csv", **chosen)


TS = "@problemName x\n@timeStamps false\n@classLabel true a b\n@data\n1,2,3:4,5,6:a\n7,?,9:1,2:b\noops:1:a\n"
STAMPED = TS.replace("1,2,3:4,5,6:a", "(0,1),(1,2),(2,3):(0,4),(1,5),(2,6):a").replace("7,?,9:1,2:b\n", "")
ARFF = "@relation x\n@attribute m relational\n @attribute t1 numeric\n @attribute t2 numeric\n@end m\n"
ARFF += "@attribute c {a,b}\n@data\n'1,2\\n4,5',a\n'7,8\\n?,2',b\n'1',x,y\n"
FLAT = "@relation x\n@attribute t1 numeric\n@attribute t2 numeric\n@attribute c {a,b}\n@data\n1,2,a\n3,?,b\n"


def cases(text: str, path: Path, **chosen: Any) -> tuple[list[Case], Account]:
    path.write_text(text)
    account = Account(unit="cases")
    return read_cases([str(path)], account, Chosen(**chosen)), account


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("a.ts", TS, [[[1, 4], [2, 5], [3, 6]], [[7, 1], [None, 2], [9, None]]]),
        ("a.ts", STAMPED, [[[1, 4], [2, 5], [3, 6]]]),
        ("a.arff", ARFF, [[[1, 4], [2, 5]], [[7, None], [8, 2]]]),
        ("a.arff", FLAT, [[[1], [2]], [[3], [None]]]),
        ("a.tsv", "a\t1\t2\nb\t3\t\n", [[[1], [2]], [[3]]]),
        ("a.csv", "p,q,label\n1,2,a\n3,4,b\n", [[[1], [2]], [[3], [4]]]),
    ],
)  # fmt: skip
def test_cases_of_any_form(tmp_path: Path, name: str, text: str, values: Any) -> None:
    found, account = cases(text, tmp_path / name)
    assert [
        [[None if math.isnan(v) else v for v in row] for row in one.values.tolist()] for one in found
    ] == values
    assert [one.label for one in found] == ["a", "b"][: len(values)]
    assert account.bad == text.count("oops") + text.count("'1',x")


def test_cases_by_step(tmp_path: Path) -> None:
    text = "who,t,x,y,kind\n" + "".join(f"{w},{t},{t},{-t},{w[0]}\n" for w in ("a1", "b1") for t in range(4))
    found, _ = cases(text, tmp_path / "a.csv", series=("who",), label="kind", time="t")
    assert [(one.label, one.values.shape) for one in found] == [("a", (4, 2)), ("b", (4, 2))]
