"""What `elman VERB RUN` does with a trained model, the same for every task; a task adds its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from elman.config import Count, Flag, option

if TYPE_CHECKING:
    from elman.tasks.base import Trained

__all__ = ["Draw", "Evaluate", "Verb", "draw", "evaluate"]

CHECKPOINT = "the model at its best validation, or the last one"


class Verb(NamedTuple):
    """What `elman VERB RUN ...` does.

    settings: a settings class of one section, from which the flags are made; its field `checkpoint` says which model is
    loaded. summary: a line of help. act: (trained model, settings) -> what is printed, piece by piece.
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
    part: Literal["test", "valid", "train"] = option("test", "which part of the run's own data")
    checkpoint: Literal["best", "last"] = option("best", CHECKPOINT)
    json: Flag = option(False, "print one JSON object")


def evaluate(trained: Trained, settings: Evaluate) -> Iterator[str]:
    """Measure a model; one line, or one JSON object."""
    score = trained.measured(settings)
    if settings.json:
        found = score.to_json()
        metric = {"metric": found.pop("name"), **found}
        yield json.dumps({**metric.pop("figures"), **metric, **trained.where}) + "\n"
        return
    subject = ", ".join(settings.data) or f"{settings.part} data"
    yield f"{subject}: {trained.in_words(score)}\n"
