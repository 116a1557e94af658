"""Predict: forecasts of series, scores of rows; for a person, for a program, and as a table."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from elman.config import Flag, option
from elman.data.account import Account, OnBad
from elman.data.inputs import STANDARD_INPUT, Item, check_inputs, files_of, lines
from elman.data.series import Frame
from elman.data.series.encoded import rows_in
from elman.data.series.rows import header_of
from elman.data.series.scaled import Codec
from elman.runtime.following import forecast_of
from elman.tasks import verbs
from elman.tasks.base import Answer
from elman.tasks.series.settings import SeriesSettings
from elman.training.score import number

__all__ = ["TABLES", "Evaluate", "Predict", "forecast_answer", "rows_of_files", "table_of_answers"]

Floats = npt.NDArray[np.float64]
TABLES = {".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".ts", ".arff"}


@dataclass(frozen=True)
class Evaluate(verbs.Evaluate):
    """Flags of `elman evaluate`."""

    on_bad: OnBad = option(
        "auto",
        "rows of --data that cannot be used: skip them, refuse the data, or auto: refuse where they are more than 1 %",
        needs={"data": True},
    )


@dataclass(frozen=True)
class Predict(verbs.Predict):
    """Flags of `elman predict`."""

    read: Literal["auto", "rows", "files"] = option(
        "auto",
        "what is answered: each row as it comes, or each series of a file at its end (auto: series of tables to "
        "forecast, cases of files to classify, else rows)",
    )
    history: str = option(
        "", "table that is read before the rows, so that they do not begin in the dark", unit="FILE"
    )
    new: Flag = option(False, "answer only rows behind the last one of the training data")
    interval: Literal["90", "80", "50"] = option("80", "percent of the values that lie between low and high")
    to: str = option("", "write the answers into this table too (.csv)", unit="FILE")


def rows_of_files(settings: Predict, data: SeriesSettings, codec: Codec) -> Iterator[list[Item]]:
    """Rows, as they come: an item is the cells of a row by the names of their columns."""
    check_inputs(settings.inputs)
    names: tuple[str, ...] = codec.layout.order
    for group in lines(settings.inputs, settings.together):
        found = []
        for item in group:
            if item.value is not None:
                header = header_of(item.value, codec.layout)
                if header is not None:
                    names = header
                    continue
            found.append(Item((item.value, names), item.place, item.fault))
        if found:
            yield found


def frames_of_files(settings: Predict, data: SeriesSettings, codec: Codec) -> Iterator[list[Item]]:
    """The series of tables, an item each."""
    from elman.data.series import read_series

    for path in settings.inputs:
        for file in files_of(path):
            account = Account()
            frames, _ = read_series(
                (str(file),), account, data.chosen, given=data.given, encoding=data.encoding,
                layout=codec.layout, step=codec.step,
            )  # fmt: skip
            yield [Item(frame, f"{file}{f' {frame.name}' if frame.name else ''}") for frame in frames]


def cases_of_files(settings: Predict, data: SeriesSettings, codec: Any) -> Iterator[list[Item]]:
    """The cases of .ts, .arff and tables, an item each; of other files and standard input a case a line."""
    from elman.tasks.series.classes import with_faults

    check_inputs(settings.inputs)
    for path in settings.inputs:
        whole = path != STANDARD_INPUT and (Path(path).is_dir() or Path(path).suffix.lower() in TABLES)
        if not whole or settings.read == "rows":
            yield from lines([path], settings.together)
            continue
        for file in files_of(path):
            items = [Item(case, place, fault) for case, place, fault in with_faults(str(file), data, codec)]
            yield from (items[at : at + settings.together] for at in range(0, len(items), settings.together))


def by_rows(settings: Predict, target: str) -> bool:
    """Whether rows are answered one by one."""
    if settings.read != "auto":
        return settings.read == "rows"
    if target == "anomalies":
        return True
    return not all(
        path != STANDARD_INPUT and (Path(path).is_dir() or Path(path).suffix.lower() in TABLES)
        for path in settings.inputs
    )


def forecast_answer(
    codec: Codec, name: str, last: float | None, q: Floats, clock: Any, settings: Predict
) -> Answer:
    """A forecast `(h, M, Q)` in the values' own units, behind a row at the time `last`."""
    data = forecast_of(codec, name, last, q, clock, settings.interval)
    return Answer(_line(name, data["forecast"]), data)


def _line(name: str, ahead: dict[str, list[dict[str, Any]]]) -> str:
    """`12.3 (10.1 to 14.2), 12.9 (...)`; several targets one behind the other, with their names."""
    parts = []
    for target, rows in ahead.items():
        said = ", ".join(
            (f"{row['time']} " if "time" in row else "")
            + f"{_shown(row['median'])} ({_shown(row['low'])} to {_shown(row['high'])})"
            for row in rows
        )
        parts.append(f"{target}: {said}" if len(ahead) > 1 else said)
    return (f"{name}: " if name else "") + "; ".join(parts)


def _shown(value: float) -> str:
    """A value of any unit, the smallest too."""
    return number(value) if value == 0 or abs(value) >= 0.1 else f"{value:.4g}"


def table_of_answers(found: Sequence[tuple[str, Answer | str]]) -> str:
    """The answers as a table: a row for each row ahead and target, or for each score or class."""
    rows: list[dict[str, Any]] = []
    for place, answer in found:
        if isinstance(answer, str):
            rows.append({"place": place, "error": answer})
        elif "forecast" in answer.data:
            series = {"series": answer.data["series"]} if "series" in answer.data else {}
            rows += [
                {"place": place, **series, "target": target, "ahead": k, **row}
                for target, own in answer.data["forecast"].items()
                for k, row in enumerate(own, 1)
            ]
        else:
            rows.append({"place": place, **{k: v for k, v in answer.data.items() if not isinstance(v, dict)}})
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def frame_of(values: Any, codec: Codec) -> Frame | str:
    """A series without times from plain numbers, for Python; a few words where it is none."""
    rows = rows_in(values)
    if isinstance(rows, str):
        return rows
    times = np.array([codec.step.after(0.0, i) for i in range(len(rows))])
    return Frame("", rows, times, np.ones(len(rows)), codec.step, codec.clock, [None] * len(rows))
