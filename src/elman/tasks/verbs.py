"""What `elman VERB RUN` does with a trained model, the same for every task; a task adds its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from elman.config import Count, Flag, UserError, option
from elman.data.inputs import check_inputs
from elman.tasks.replacing import check_page_replaced, check_replaced

if TYPE_CHECKING:
    from elman.tasks.base import Trained

__all__ = [
    "EXPORTS",
    "Answer",
    "Draw",
    "Evaluate",
    "Export",
    "Predict",
    "Report",
    "Verb",
    "draw",
    "evaluate",
    "export",
    "predict",
    "report",
]

CHECKPOINT = "the model at its best validation, or the last one"


class Verb(NamedTuple):
    """What `elman VERB RUN ...` does.

    settings: a settings class of one section, from which the flags are made; its field `checkpoint` says which model is
    loaded, and its method `check`, where it has one, raises UserError before that for what can be seen without a model.
    summary: a line of help. act: (trained model, settings) -> what is printed, piece by piece.
    """

    settings: type
    summary: str
    act: Callable[[Any, Any], Iterable[str]]


@dataclass(frozen=True)
class Draw:
    """Flags of `elman draw`, the same for all tasks."""

    steps: Count = option(4, "steps over which the network is unfolded", unit="STEPS")
    to: str = option("", "folder for the pictures (empty: the run's own)", unit="FOLDER")
    checkpoint: Literal["best", "last"] = option("best", CHECKPOINT)


def draw(trained: Trained, settings: Draw) -> Iterator[str]:
    """Draw a model into a folder; gives the pictures' paths, a line each."""
    from elman.plots import draw_model

    folder = Path(settings.to) if settings.to else trained.run.path
    for path in draw_model(trained.task.describe(trained, steps=settings.steps), folder):
        yield f"{path}\n"


@dataclass(frozen=True)
class Evaluate:
    """Flags of `elman evaluate`; a task may add to them."""

    data: tuple[str, ...] = option((), "data to measure on (none: the run's own)", unit="PATH")
    part: Literal["test", "valid", "train"] = option(
        "test", "which part of the run's own data", needs={"data": False}
    )
    checkpoint: Literal["best", "last"] = option("best", CHECKPOINT)
    json: Flag = option(False, "print one JSON object")


def evaluate(trained: Trained, settings: Evaluate) -> Iterator[str]:
    """Measure a model: a line with the baselines beside it, or one JSON object. Standard error: what was left out."""
    score = trained.measured(settings)
    if trained.account is not None and trained.account.read:
        sys.stderr.writelines(f"{line}\n" for line in trained.account.lines())
    beside = [] if settings.data else [known for known in trained.baselines() if known.part == settings.part]
    if settings.json:
        found = score.to_json()
        metric = {"metric": found.pop("name"), **found}
        others = {"baselines": [known.to_json() for known in beside]}
        yield json.dumps({**metric.pop("figures"), **metric, **others, **trained.where}) + "\n"
        return
    subject = ", ".join(settings.data) or f"{settings.part} data"
    yield f"{subject}: {trained.in_words(score)}\n"
    yield from (f"{line}\n" for line in verdict(score, beside))


def verdict(score: Any, beside: Iterable[Any]) -> list[str]:
    """The baselines on the same data, a line each, and the plain truth where the network does not beat them."""
    lines = []
    for known in beside:
        lines.append(f"beside it, {known.name}: {known.score}")
        if known.score.reaches(score):
            lines.append(f"the network does not beat this: {score.number}, {known.name} {known.score.number}")
    return lines


@dataclass(frozen=True)
class Report:
    """Flags of `elman report`, the same for all tasks."""

    to: str = option("", "the file (empty: report.html in the run's own folder)", unit="FILE")
    checkpoint: Literal["best", "last"] = option("best", CHECKPOINT)


def report(trained: Trained, settings: Report) -> Iterator[str]:
    """Write the report of a run; gives its path. An earlier page is replaced; UserError for any other file."""
    from elman.tasks.report import write_report

    path = Path(settings.to) if settings.to else trained.run.path / "report.html"
    check_page_replaced(path)
    try:
        yield f"{write_report(trained, path)}\n"
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error


class Exported(NamedTuple):
    """A form that a model can leave in. ending: of its file, or folder. write: (trained model, path) writes it; int8:
    the same with weights in eight bits."""

    ending: str
    write: Callable[[Trained, Path], None]
    int8: Callable[[Trained, Path], None]


def _bytes(trained: Trained, *, int8: bool) -> bytes:
    from elman.frozen import frozen_bytes
    from elman.tasks.leaving import frozen_int8

    texts = trained.task.leaves(trained)
    if int8:
        return frozen_int8(trained, texts)
    return frozen_bytes(trained.model, texts=texts, example=trained.task.example(trained))


def _frozen(trained: Trained, path: Path, *, int8: bool = False) -> None:
    from elman.files import write_bytes

    write_bytes(path, _bytes(trained, int8=int8))


def _onnx(trained: Trained, path: Path) -> None:
    from elman.tasks.leaving import write_onnx

    write_onnx(trained, path)


def _onnx_int8(trained: Trained, path: Path) -> None:
    from elman.tasks.leaving import write_int8

    write_int8(trained, path)


def _html(trained: Trained, path: Path, *, int8: bool = False) -> None:
    from elman import __version__
    from elman.files import write_bytes
    from elman.web import page

    # An installation without the core for browsers says so before any work.
    task = trained.task.leaves(trained)["task"]
    made = page(task, title=trained.run.path.resolve().name, version=__version__)
    write_bytes(path, made(_bytes(trained, int8=int8)).encode())


def _program(trained: Trained, path: Path, *, int8: bool = False) -> None:
    from elman.frozen.program import write_program

    write_program(path, lambda model: _frozen(trained, model, int8=int8))


EXPORTS: dict[str, Exported] = {
    "frozen": Exported(".elman", _frozen, partial(_frozen, int8=True)),
    "html": Exported(".html", _html, partial(_html, int8=True)),
    "c": Exported("-c", _program, partial(_program, int8=True)),
    "onnx": Exported(".onnx", _onnx, _onnx_int8),
}


@dataclass(frozen=True)
class Export:
    """Flags of `elman export`, the same for all tasks."""

    to: Literal["frozen", "c", "html", "onnx"] = option(
        "frozen",
        "the form: frozen, one file for C, C++ and elman.runtime; c, a folder with it and a program in C; html, a page "
        "that runs the model in a browser; onnx, for any runtime that reads ONNX",
    )
    int8: Flag = option(
        False,
        "weights in eight bits, judged by what the task measures on the validation data",
    )
    file: str = option("", "the file (empty: named as the run, in the run's own folder)", unit="FILE")
    checkpoint: Literal["best", "last"] = option("best", CHECKPOINT)


def export(trained: Trained, settings: Export) -> Iterator[str]:
    """Write the model of a run so that it runs without torch; gives the file's path. An earlier export of that form is
    replaced; UserError for any other file of that name."""
    form = EXPORTS[settings.to]
    own = trained.run.path.resolve()
    path = Path(settings.file) if settings.file else own / f"{own.name}{form.ending}"
    check_replaced(settings.to, path)
    try:
        (form.int8 if settings.int8 else form.write)(trained, path)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{trained.run.path} cannot be exported: {error}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    yield f"{path}\n"


class Answer(NamedTuple):
    """What a model says to one input. text: one line for a person. data: the same and more, fit for JSON."""

    text: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Predict:
    """Flags of `elman predict`; a task may add to them."""

    inputs: tuple[str, ...] = option(
        (), "what to answer; - is standard input", unit="FILE|FOLDER|-", positional=True
    )
    json: Flag = option(False, "print a JSON object a line")
    together: Count = option(64, "inputs that are answered at once, at most", unit="COUNT")
    checkpoint: Literal["best", "last"] = option("best", CHECKPOINT)

    def check(self) -> None:
        """Raise UserError for an input that is not there."""
        check_inputs(self.inputs)


def predict(trained: Trained, settings: Predict) -> Iterator[str]:
    """Answer each input with one line, in order. What could not be read or answered is an empty line, or an object
    with an "error"; on standard error stands how many these were.
    """
    faults: dict[str, list[str]] = {}
    count = 0
    for items in trained.inputs(settings):
        count += len(items)
        for item, answer in zip(items, trained.answers(items, settings), strict=True):
            if isinstance(answer, str):
                faults.setdefault(answer, []).append(item.place)
                found = {"place": item.place, "error": answer}
                yield json.dumps(found, ensure_ascii=False) + "\n" if settings.json else "\n"
            elif settings.json:
                yield json.dumps({"place": item.place, **answer.data}, ensure_ascii=False) + "\n"
            else:
                yield answer.text + "\n"
    for fault, places in faults.items():
        more = ", ..." if len(places) > 3 else ""
        sys.stderr.write(f"{len(places):,} not answered, {fault}: {', '.join(places[:3])}{more}\n")
    if not count:
        sys.stderr.write(f"nothing was asked: {', '.join(settings.inputs)} has no input\n")
