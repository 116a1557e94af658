"""The task's own part of a report: each tag, confusion, the waiting for data, clips with their chances over time."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from elman import metrics
from elman.page import Html, Section, figure, matrix, paragraph, table
from elman.tasks.video_tagging import learning, scores
from elman.tasks.video_tagging.footage import Part
from elman.tasks.video_tagging.sheet import Shown, sheet

if TYPE_CHECKING:
    from elman.tasks.video_tagging.task import TrainedVideoTagger

__all__ = ["sections_of", "shown_of"]

Floats = npt.NDArray[np.float64]
WORST = 20


def sections_of(trained: TrainedVideoTagger, part: Part) -> Iterator[Section]:
    """The sections for a part of the data."""
    labels, each = trained.codec.labels, learning.probabilities(trained.model, trained.codec, part)
    truth, p = scores.truth_of(part), scores.probabilities_as_rows(each)
    found = scores.score_of(labels, truth, p, trained.thresholds).figures["tags"]
    columns = ("precision", "recall", "f1", "AP", "count")
    rows = [(name, *(one[column] for column in columns)) for name, one in found.items()]
    words = [
        "tag",
        "precision",
        "recall",
        "F1",
        "average precision",
        "steps" if trained.codec.steps else "clips",
    ]
    yield Section("Tags", table(words, rows))
    if not labels.several:
        counts = metrics.confusion(truth, p.argmax(axis=1), len(labels.names)).tolist()
        yield Section("Confusion", matrix(labels.names, labels.names, counts, "truth \\ answer"))
    cost = _costs(part, each, several=labels.several)
    yield Section("Clips", _sheets(trained, part, cost))
    yield Section("Worst errors", _errors(trained, part, each, cost))


def _costs(part: Part, each: Sequence[Floats], *, several: bool) -> Floats:
    """−log p(truth) of each clip; of several tags their mean over the steps."""
    found = []
    for i, p in enumerate(each):
        truth = part.of_steps[i] if part.of_steps else part.truth[i : i + 1]
        found.append(metrics.log_loss(truth, p if p.ndim == 2 else p[None]))
    return np.array(found)


def shown_of(trained: TrainedVideoTagger, part: Part, i: int, title: str) -> Shown:
    """A clip of a part as `sheet` draws it."""
    one, codec = part.frames.clips[i], trained.codec
    return Shown(
        title,
        part.frames.decoded(i),
        learning.over_time(trained.model, codec, part.frames.whole(i)),
        codec.labels.names,
        one.rate,
        part.clips[i].labels,
        part.of_steps[i] if part.of_steps else None,
        trained.config.frames.skeleton(),
    )


def _sheets(trained: TrainedVideoTagger, part: Part, cost: Floats) -> str:
    order = np.argsort(cost, kind="stable")
    chosen = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    pieces = []
    for word, i in chosen.items():
        clip = part.clips[int(i)]
        words = f"The {word} clip, {clip.name}: {', '.join(clip.labels) or 'no tag'}."
        pieces.append(figure(picture(sheet(shown_of(trained, part, int(i), clip.name))), words))
    told = (
        "of each moment; bars below show where they are" if trained.codec.steps else "of the clip up to then"
    )
    if trained.config.model.bidirectional and not trained.codec.steps:
        told += ", each read anew from both ends"
    note = f"Under the frames the chances {told}; tags that are in the clip are drawn through, others dotted."
    return paragraph(note, kind="quiet") + "".join(pieces)


def picture(png: bytes) -> Html:
    """A PNG file within the page."""
    data = base64.b64encode(png).decode()
    return Html(
        f'<img alt="frames and chances over time" style="max-width: 100%" src="data:image/png;base64,{data}">'
    )


def _errors(trained: TrainedVideoTagger, part: Part, each: Sequence[Floats], cost: Floats) -> str:
    labels = trained.codec.labels
    rows = []
    for i in np.argsort(-cost, kind="stable").tolist():
        clip, p = part.clips[i], each[i]
        p = p.max(axis=0) if p.ndim == 2 else p
        said = (
            np.flatnonzero(labels.decide(p[None], trained.thresholds)[0])
            if labels.several
            else [int(p.argmax())]
        )
        answer = [labels.names[k] for k in said]
        if set(answer) != set(clip.labels):
            chances = ", ".join(f"{labels.names[k]} {p[k]:.2f}" for k in said) or "none"
            rows.append((clip.name, ", ".join(clip.labels) or "none", chances, float(cost[i])))
    if not rows:
        return paragraph("There are none.")
    return table(["clip", "truth", "answer", "−log p(truth)"], rows[:WORST])
