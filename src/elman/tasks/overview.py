"""Several runs side by side: `elman list`, `elman compare`. Read from what the folders hold, without torch."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from elman.config import Flag, UserError, option
from elman.tasks.replacing import check_page_replaced
from elman.training.log import read_log
from elman.training.run import Run
from elman.training.score import Score

__all__ = ["Compare", "List", "compare", "list_runs"]

BARS = "▁▂▃▄▅▆▇█"
CURVE = 24


class Summary(NamedTuple):
    """What a run folder says of itself. part: of the data on which the score was found."""

    path: Path
    task: str
    score: Score | None
    part: str
    parameters: int | None
    steps: int
    seconds: float
    created: str
    config: Mapping[str, Any]
    curve: list[tuple[int, Any]]

    def to_json(self) -> dict[str, Any]:
        """All but settings and curve."""
        score = None if self.score is None else self.score.to_json()
        own = {"run": str(self.path), "task": self.task, "part": self.part, "score": score}
        return own | {name: getattr(self, name) for name in ("parameters", "steps", "seconds", "created")}


def summary(run: Run) -> Summary:
    """Read the summary of a run."""
    events = read_log(run.log)
    score, part = _score(run)
    last = events[-1] if events else {}
    curve = [(e["step"], e["score"]) for e in events if e.get("event") == "valid" and "score" in e]
    size = next((event["parameters"] for event in events if "parameters" in event), None)
    return Summary(
        path=run.path,
        task=str(run.manifest.get("task", "?")),
        score=score,
        part=part,
        parameters=size,
        steps=int(last.get("step", 0)),
        seconds=float(last.get("seconds", 0.0)),
        created=str(run.manifest.get("created", ""))[:16].replace("T", " "),
        config=run.manifest.get("config", {}),
        curve=curve,
    )


def _score(run: Run) -> tuple[Score | None, str]:
    """The score at the end of the training if it is that of the best model, else that of the best validation."""
    facts = checkpoint_facts(run.best)
    if (run.path / "scores.json").is_file():
        for part, saved in run.read_json("scores.json").items():
            if not facts or saved.get("step") == facts.get("step"):
                return Score.from_json(saved), part
    if "score" in facts:
        return Score.from_json(facts["score"]), "valid"
    if "loss" in facts:
        return Score("loss", facts["loss"], higher=False), "valid"
    return None, ""


def checkpoint_facts(path: Path) -> dict[str, Any]:
    """The facts in the header of a checkpoint, read without its tensors; nothing where there are none."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, path.stat().st_size)))
        found = json.loads(header["__metadata__"]["facts"])
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class List:
    """Flags of `elman list`."""

    folders: tuple[str, ...] = option((), "where to look (none: runs)", unit="FOLDER", positional=True)
    json: Flag = option(False, "print a JSON object a line")


def list_runs(settings: List) -> Iterator[str]:
    """The runs below some folders, the newest first, a line each."""
    found, damaged = [], []
    for path in _run_folders(settings.folders or ("runs",)):
        try:
            found.append(summary(Run.open(path)))
        except UserError as error:
            damaged.append(str(error))
    found.sort(key=lambda run: run.created, reverse=True)
    if settings.json:
        yield from (json.dumps(run.to_json()) + "\n" for run in found)
    elif found:
        yield table(
            [_row(run) for run in found], ("run", "task", "measure", "on", "parameters", "steps", "begun")
        )
    else:
        yield f"no runs below {', '.join(settings.folders or ('runs',))}\n"
    yield from (f"{line}\n" for line in damaged if not settings.json)


def _run_folders(folders: Sequence[str]) -> list[Path]:
    for folder in folders:
        if not Path(folder).is_dir():
            raise UserError(f"no such folder: {folder}")
    found = {file.parent for folder in folders for file in Path(folder).rglob("run.json")}
    return sorted(path for path in found if not path.name.startswith("."))


def _row(run: Summary) -> tuple[str, ...]:
    score = "" if run.score is None else str(run.score)
    size = "" if run.parameters is None else f"{run.parameters:,}"
    return (str(run.path), run.task, score, run.part, size, f"{run.steps:,}", run.created)


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Columns as wide as they need to be; numbers to the right."""
    whole = [tuple(header), *rows]
    widths = [max(len(row[column]) for row in whole) for column in range(len(header))]
    numeric = [
        all(row[column].replace(",", "").isdigit() or not row[column] for row in rows)
        for column in range(len(header))
    ]
    lines = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in whole
    ]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Compare:
    """Flags of `elman compare`."""

    runs: tuple[str, ...] = option((), "the runs", unit="RUN", positional=True)
    to: str = option("", "write a page with table and curves there (empty: only the terminal)", unit="FILE")
    json: Flag = option(False, "print a JSON object a line")


def compare(settings: Compare) -> Iterator[str]:
    """The runs side by side: measure, size, time, the settings in which they differ, and their curves."""
    if len(settings.runs) < 2:
        raise UserError("elman compare needs two runs at least: elman compare RUN RUN ...")
    if settings.to:
        check_page_replaced(Path(settings.to))
    runs = [summary(Run.open(Path(path))) for path in settings.runs]
    if settings.json:
        yield from (
            json.dumps({**run.to_json(), "differs": differing(runs)[i]}) + "\n" for i, run in enumerate(runs)
        )
    else:
        header, rows = _compared(runs)
        yield table(
            [(*row, spark(run.curve)) for row, run in zip(rows, runs, strict=True)], (*header, "validation")
        )
    if settings.to:
        yield f"{_write_page(runs, Path(settings.to))}\n"


def _compared(runs: Sequence[Summary]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    different = differing(runs)
    names = sorted({name for settings in different for name in settings})
    header = ("run", "measure", "on", "parameters", "steps", "seconds", *names)
    rows = []
    for run, settings in zip(runs, different, strict=True):
        path, _, score, part, size, steps, _ = _row(run)
        values = (str(settings.get(name, "")) for name in names)
        rows.append((path, score, part, size, steps, f"{run.seconds:.0f}", *values))
    return header, rows


def differing(runs: Sequence[Summary]) -> list[dict[str, Any]]:
    """The settings of each run that are not the same in all."""
    flat = [
        {name: value for section in run.config.values() for name, value in section.items()} for run in runs
    ]
    names = dict.fromkeys(name for settings in flat for name in settings)
    mixed = [name for name in names if any(s.get(name) != flat[0].get(name) for s in flat)]
    return [{name: settings[name] for name in mixed if name in settings} for settings in flat]


def spark(curve: Sequence[tuple[int, Any]]) -> str:
    """A curve in one line of characters, low to high."""
    values = [value for _, value in curve if isinstance(value, float)]
    if len(values) > CURVE:
        values = [values[round(place * (len(values) - 1) / (CURVE - 1))] for place in range(CURVE)]
    if not values:
        return ""
    low, high = min(values), max(values)
    return "".join(BARS[round((value - low) / ((high - low) or 1) * (len(BARS) - 1))] for value in values)


def _write_page(runs: Sequence[Summary], path: Path) -> Path:
    from elman.files import write_bytes
    from elman.page import COLOURS, Line, Section, document, figure, line_chart
    from elman.page import table as html_table

    header, rows = _compared(runs)
    measures = {run.score.name for run in runs if run.score}
    lines = [
        Line(run.path.name, run.curve, COLOURS[place % len(COLOURS)], dots=len(run.curve) <= 40)
        for place, run in enumerate(runs)
    ]
    chart = line_chart(lines, "step", f"{', '.join(sorted(measures))}, validation")
    sections = [
        Section.of("Runs", html_table(header, rows)),
        Section.of("Validation", figure(chart) if chart else ""),
    ]
    page = document("Runs side by side", [f"{len(runs)} runs"], sections, "This file needs no network.")
    write_bytes(path, page.encode())
    return path
