"""The classifier's own part of a report: each label, confusion, calibration, worst errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from elman import metrics
from elman.data.labels import Labels
from elman.page import Line, Section, figure, line_chart, matrix, paragraph, table
from elman.page.chart import COLOURS
from elman.tasks.classification.answers import Explained, highlighted
from elman.tasks.classification.scores import certainty
from elman.tasks.classification.texts import Part

__all__ = ["sections_of"]

Floats = npt.NDArray[np.float64]
WORST = 20


def sections_of(
    labels: Labels,
    part: Part,
    p: Floats,
    thresholds: Floats,
    explain: Callable[[Sequence[int], Sequence[Sequence[int]]], list[Explained]],
) -> Iterator[Section]:
    """explain: the texts of these numbers, with how much each word weighs for the answers that are given."""
    answers = labels.decide(p, thresholds)
    yield Section("Labels", _labels(labels, part, answers, thresholds))
    if not labels.several:
        counts = metrics.confusion(part.truth, answers, len(labels.names)).tolist()
        yield Section("Confusion", matrix(labels.names, labels.names, counts, "truth \\ answer"))
    yield Section("Calibration", _calibration(labels, part, p))
    yield Section("Worst errors", _errors(labels, part, p, answers, explain))


def _labels(labels: Labels, part: Part, answers: npt.NDArray[np.int64], thresholds: Floats) -> str:
    found = metrics.per_class(part.truth, answers, len(labels.names))
    columns = [labels.names, *(column.tolist() for column in found)]
    header = ["label", "precision", "recall", "F1", "texts"]
    if labels.several:
        columns.append([round(float(value), 3) for value in thresholds])
        header.append("threshold")
    return table(header, list(zip(*columns, strict=True)))


def _calibration(labels: Labels, part: Part, p: Floats) -> str:
    found = metrics.calibration(*certainty(labels, part.truth, p))
    points = list(zip(found.confidence, found.accuracy, strict=True))
    diagonal = Line("as sure as right", [(0.0, 0.0), (1.0, 1.0)], COLOURS[5], faint=True)
    chart = line_chart([diagonal, Line("answers", points, dots=True)], "probability", "share that is right")
    words = f"Expected calibration error {found.error:.3f}: how far, in the mean, probability and truth lie apart."
    return figure(chart, words)


def _errors(
    labels: Labels,
    part: Part,
    p: Floats,
    answers: npt.NDArray[np.int64],
    explain: Callable[[Sequence[int], Sequence[Sequence[int]]], list[Explained]],
) -> str:
    cost = _cost(labels, part.truth, p)
    wrong = (answers != part.truth).any(axis=1) if labels.several else answers != part.truth
    worst = [int(i) for i in np.argsort(-cost, kind="stable") if wrong[i]][:WORST]
    if not worst:
        return paragraph("There are none.")
    given = [_numbers(labels, answers[i]) for i in worst]
    rows = [
        (
            highlighted(found),
            ", ".join(part.examples[i].labels) or "none",
            ", ".join(f"{labels.names[k]} {p[i, k]:.2f}" for k in own) or "none",
            str(part.examples[i].place).rsplit("/", 1)[-1],
        )
        for i, own, found in zip(worst, given, explain(worst, given), strict=True)
    ]
    words = paragraph("Green words speak for the answer, red ones against it.", kind="quiet")
    return words + table(["text", "truth", "answer", "place"], rows)


def _cost(labels: Labels, truth: npt.NDArray[np.int64], p: Floats) -> Floats:
    """-log p(truth) of each text."""
    sure = np.clip(p, 1e-12, 1 - 1e-12)
    if not labels.several:
        return np.asarray(-np.log(sure[np.arange(len(truth)), truth]))
    return np.asarray(-(truth * np.log(sure) + (1 - truth) * np.log1p(-sure)).sum(axis=1))


def _numbers(labels: Labels, answer: npt.NDArray[np.int64]) -> list[int]:
    return np.flatnonzero(answer).tolist() if labels.several else [int(answer)]
