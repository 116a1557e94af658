"""The report of a run: one HTML file with the data, the curves, the measure, what went wrong, and the network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import elman
from elman.config import UserError, options
from elman.data.account import Account, listed
from elman.files import write_bytes
from elman.page import (
    Line,
    Section,
    columns,
    details,
    document,
    facts,
    figure,
    inline,
    line_chart,
    paragraph,
    table,
)
from elman.plots.curve import in_measure
from elman.training.log import read_log
from elman.training.score import Score

if TYPE_CHECKING:
    from elman.tasks.base import Baseline, Trained

__all__ = ["CHOSEN_ON", "write_report"]

# Where a task keeps its accounts, by the name of what was read; and how many places of a reason are shown.
ACCOUNT, MOST_PLACES = "account.json", 20
BLUE, RED = "#0b62a8", "#c8431d"
MANY = 120
CHOSEN_ON = (
    "there is no test data; on the validation data, by which the model was chosen, it looks better than it is"
)


def write_report(trained: Trained, path: Path) -> Path:
    """Write the report of a run into a file. Without its data at hand it shows what the training has measured."""
    write_bytes(path, report(trained).encode())
    return path


def report(trained: Trained) -> str:
    """The page."""
    run = trained.run
    part, score, missing = _measured(trained)
    events = read_log(run.log)
    sections = [
        Section("Result", _result(trained, events, part, score, missing)),
        Section("Data", _data(trained)),
        Section("Learning curve", "".join(curves(events))),
        *(() if missing or part is None else trained.sections(trained.prepared.part(part))),
        *(() if missing else _inside(trained)),
        Section("Network", _network(trained)),
        Section("Settings", _settings(trained)),
    ]
    made = f"{run.manifest.get('created', '')[:10]}, Elman {run.manifest.get('elman', '?')}"
    words = (
        f"Made by Elman {elman.__version__} from the run folder {run.path.name}; this file needs no network."
    )
    return document(run.path.name, [f"{run.entry('task')}, {made}"], sections, words)


def _measured(trained: Trained) -> tuple[str | None, Score | None, str]:
    """The part that is shown, the measure on it, and why the data are not at hand."""
    kept = trained.scores()
    try:
        prepared = trained.prepared
    except UserError as error:
        part = next((name for name in ("test", "valid") if name in kept), None)
        return part, kept.get(part) if part else None, str(error)
    part = next((name for name in ("test", "valid") if prepared.part(name) is not None), None)
    if part is None:
        return None, None, ""
    return part, kept[part] if part in kept else trained.evaluate(part=part), ""


def _result(
    trained: Trained, events: list[dict[str, Any]], part: str | None, score: Score | None, missing: str
) -> str:
    beside = [known for known in trained.baselines() if known.part == part]
    pieces = [facts(_headline(trained, events, score))]
    if score is not None:
        pieces.append(_table(score, beside))
        pieces += [paragraph(line, kind="warning") for line in _beaten(score, beside)]
        if part == "valid":
            pieces.append(paragraph(f"{CHOSEN_ON[0].upper()}{CHOSEN_ON[1:]}.", kind="warning"))
    if missing:
        pieces.append(paragraph(f"The numbers are those of the training, because {missing}.", kind="warning"))
    return "".join(pieces)


def _headline(trained: Trained, events: list[dict[str, Any]], score: Score | None) -> dict[str, object]:
    found: dict[str, object] = {}
    if score is not None:
        found[score.name] = score._replace(interval=None).number
    size = sum(parameter.numel() for parameter in trained.model.parameters())
    last = events[-1] if events else {}
    seconds = float(last.get("seconds", 0.0))
    time = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else ""
    found["parameters"] = size
    found["steps"] = int(last.get("step", 0))
    found["of training"] = time or f"{seconds / 3600:.1f} h"
    return found


def _table(score: Score, beside: list[Baseline]) -> str:
    rows = [("this network", score), *((known.name, known.score) for known in beside)]
    shown = [
        (name, found._replace(interval=None).number, found.number[found.number.find("(") :].strip("()"))
        if found.interval
        else (name, found.number, "")
        for name, found in rows
    ]
    better = "more" if score.higher else "less"
    return table(["", f"{score.name} ({better} is better)", "95 % interval"], shown, strong=0)


def _beaten(score: Score, beside: Iterable[Baseline]) -> list[str]:
    return [f"The network does not beat {known.name}." for known in beside if known.score.reaches(score)]


def _data(trained: Trained) -> str:
    lines = trained.run.manifest.get("account", [])
    said = "".join(paragraph(line, kind="warning" if line.startswith("warning") else "") for line in lines)
    return said + "".join(_places(trained))


def _places(trained: Trained) -> Iterator[str]:
    """What was left out, set aside or remarked on, with the places, where a task keeps its accounts."""
    if not (trained.run.path / ACCOUNT).is_file():
        return
    for name, saved in trained.run.read_json(ACCOUNT).items():
        account = Account.from_json(saved)
        kinds = {"left out": account.faults, "set aside": account.aside, "used, but": account.remarks}
        rows = [
            (kind, reason, len(places), listed(places, MOST_PLACES))
            for kind, reasons in kinds.items()
            for reason, places in reasons.items()
        ]
        if rows:
            counted = table(["", "reason", account.unit, "where"], rows)
            yield details(f"{name}: each reason with its places", counted)


def curves(events: list[dict[str, Any]]) -> Iterator[str]:
    """The loss over the steps, and the measure by which the best model was chosen where that is another one."""
    measure = next((event["measure"] for event in events if "measure" in event), "loss")
    measured = [event for event in events if event.get("event") == "valid"]
    scored = [event for event in measured if isinstance(event.get("score"), float)]
    best = max(
        (event for event in scored if event.get("best")), key=lambda event: int(event["step"]), default=None
    )
    words = f"The model at step {best['step']:,} is kept as the best one." if best else ""
    one = bool(scored) and scored[0]["metric"] == measure
    ring = (best["step"], best["score"]) if best else None
    lines = [*_training(events, measure), *_validation(measured, measure, ring if one else None)]
    chart = line_chart(lines, "step", "loss, nats" if measure == "loss" else measure)
    if chart:
        yield figure(chart, words if one else "")
    if scored and not one:
        points = [(event["step"], event["score"]) for event in scored]
        line = Line("validation", points, RED, dots=len(points) <= 40, ring=ring)
        yield figure(line_chart([line], "step", f"{scored[0]['metric']}, validation"), words)


def _training(events: list[dict[str, Any]], measure: str) -> list[Line]:
    kept = [e for e in events if e.get("event") == "train" and isinstance(e.get("loss"), float)]
    points = [(e["step"], in_measure(e["loss"], measure)) for e in kept]
    if len(points) <= MANY:
        return [Line("training", points, BLUE)] if points else []
    return [Line("", points, BLUE, faint=True), Line("training", smoothed(points), BLUE)]


def _validation(events: list[dict[str, Any]], measure: str, ring: tuple[float, float] | None) -> list[Line]:
    lost = [e for e in events if isinstance(e.get("loss"), float)]
    points = [(e["step"], in_measure(e["loss"], measure)) for e in lost]
    return [Line("validation", points, RED, dots=len(points) <= 40, ring=ring)] if points else []


def smoothed(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Each value as the mean of its neighbours, 3 % of all points wide; narrower at both ends."""
    reach = max(1, round(len(points) * 0.015))
    found = []
    for place, (step, _) in enumerate(points):
        near = min(reach, place, len(points) - 1 - place)
        window = [value for _, value in points[place - near : place + near + 1]]
        found.append((step, sum(window) / len(window)))
    return found


def _inside(trained: Trained) -> list[Section]:
    """What goes on inside the network, in short. Whatever goes wrong there is said, and costs nothing else."""
    from elman.tasks.inspection import SHORT, look, sections_of

    inside = trained.inside()
    if isinstance(inside, str):
        return []
    try:
        return list(sections_of(look(trained, inside, effort=SHORT), inside, short=True))
    except Exception as error:  # noqa: BLE001 - a cell of the user's own may raise anything; the run must not be lost
        reason = f"{type(error).__name__}: {error}"
        return [
            Section("Inside", paragraph(f"The network could not be looked into: {reason}", kind="warning"))
        ]


def _network(trained: Trained) -> str:
    from elman.plots.model import pictures

    drawn = pictures(trained.task.describe(trained, steps=4))
    return "".join(figure(inline(svg, name)) for name, svg in drawn.items())


def _settings(trained: Trained) -> str:
    groups: dict[str, list[tuple[str, object]]] = {}
    other: list[tuple[str, object]] = []
    for entry in options(type(trained.config)):
        value = getattr(getattr(trained.config, entry.section), entry.name)
        shown = ", ".join(map(str, value)) if isinstance(value, tuple) else value
        shown = ("on" if shown else "off") if isinstance(shown, bool) else str(shown)
        groups.setdefault(entry.section, []).append((entry.flag, shown))
        if value != entry.default:
            other.append((entry.flag, shown))
    changed = (
        table(["not as by default", ""], other) if other else paragraph("All settings are as by default.")
    )
    whole = columns(*(table([f"[{section}]", ""], rows) for section, rows in groups.items()))
    return changed + details("all settings", whole)
