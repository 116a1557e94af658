"""Metrics: accuracy of classes, mean average precision of tags, and what simple rules reach beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from elman import metrics
from elman.data.labels import Labels
from elman.tasks.base import Baseline
from elman.tasks.video_tagging.footage import Footage, Part
from elman.training.score import Score

__all__ = ["baselines_of", "score_of", "thresholds_of", "truth_of"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# Clips whose tags the nearest-clip rule mixes, where there may be several.
NEAR = 10


def truth_of(part: Part) -> Ints:
    """A class each `(N,)`, or zeros and ones of clips `(N, K)`, or of all steps `(sum of T, K)`."""
    return np.concatenate(part.of_steps) if part.of_steps else part.truth


def score_of(
    labels: Labels,
    truth: Ints,
    p: Floats,
    thresholds: Floats,
    *,
    clips: Ints | None = None,
    interval: bool = False,
) -> Score:
    """Accuracy, or the mean of the tags' average precision, of p `(N, K)`, with all else as figures.

    clips: of steps the clip of each; the interval is over clips drawn anew, 1,000 times.
    """
    found = _of_tags(labels, truth, p, thresholds) if labels.several else _of_classes(labels, truth, p)
    figures = {**found.figures, "loss": metrics.log_loss(truth, p)}
    figures["steps" if clips is not None else "clips"] = len(truth)
    found = found._replace(figures=figures)
    if not interval:
        return found
    if not labels.several:
        return found._replace(interval=metrics.bootstrap(metrics.accuracy, (truth, p.argmax(axis=1))))
    own = np.arange(len(truth)) if clips is None else clips
    return found._replace(interval=_interval(truth, p, own))


def _interval(truth: Ints, p: Floats, clips: Ints) -> tuple[float, float]:
    """Of the mean average precision, clips drawn anew."""
    rows = [np.flatnonzero(clips == clip) for clip in np.unique(clips)]

    def measure(drawn: Ints) -> float:
        at = np.concatenate([rows[i] for i in drawn])
        return metrics.mean_average_precision(truth[at], p[at])

    draws = 1000 if len(truth) < 20_000 else 200
    return metrics.bootstrap(measure, (np.arange(len(rows)),), draws=draws)


def _of_classes(labels: Labels, truth: Ints, p: Floats) -> Score:
    answers, K = p.argmax(axis=1), len(labels.names)
    figures = {"macro_F1": metrics.macro_f1(truth, answers, K), "tags": _each(labels, truth, p, answers)}
    return Score("accuracy", metrics.accuracy(truth, answers), higher=True, figures=figures)


def _of_tags(labels: Labels, truth: Ints, p: Floats, thresholds: Floats) -> Score:
    answers, K = labels.decide(p, thresholds), len(labels.names)
    figures: dict[str, Any] = {
        "macro_F1": metrics.macro_f1(truth, answers, K),
        "micro_F1": metrics.micro_f1(truth, answers, K),
        "all_right": metrics.accuracy(truth, answers),
        "tags": _each(labels, truth, p, answers),
    }
    return Score("mAP", metrics.mean_average_precision(truth, p), higher=True, figures=figures)


def _each(labels: Labels, truth: Ints, p: Floats, answers: Ints) -> dict[str, dict[str, float | int]]:
    """Precision, recall, F1 and average precision of each tag."""
    K = len(labels.names)
    marks = truth if truth.ndim == 2 else np.eye(K, dtype=np.int64)[truth]
    found = metrics.per_class(truth, answers, K)
    return {
        name: {
            "precision": float(found.precision[k]),
            "recall": float(found.recall[k]),
            "f1": float(found.f1[k]),
            "AP": metrics.average_precision(marks[:, k], p[:, k]),
            "count": int(found.support[k]),
        }
        for k, name in enumerate(labels.names)
    }


def thresholds_of(model: Any, labels: Labels) -> Floats:
    """At which each tag is given."""
    if not labels.several:
        return np.full(len(labels.names), 0.5)
    return np.asarray(model.thresholds.double().cpu().numpy())


def clips_of(part: Part) -> Ints | None:
    """The clip of each step; None where clips are told as a whole."""
    if not part.of_steps:
        return None
    return np.repeat(np.arange(len(part.clips)), [len(rows) for rows in part.of_steps])


# Baselines


def baselines_of(prepared: Footage) -> Iterator[Baseline]:
    """The commonest answer; of whole clips also that of the training clips whose mean frames are nearest."""
    codec, train = prepared.codec, prepared.parts["train"]
    labels, truth = codec.labels, truth_of(train)
    K = len(labels.names)
    marks = truth.astype(np.float64) if truth.ndim == 2 else np.eye(K)[truth]
    known = None if codec.steps else _means(train)
    for name, part in prepared.parts.items():
        if name == "train":
            continue
        own = truth_of(part)
        rules = {"the commonest answer": np.tile(marks.mean(axis=0), (len(own), 1))}
        if known is not None:
            near = NEAR if labels.several else 1
            word = f"mean of the {NEAR} nearest clips" if labels.several else "nearest clip"
            rules[f"{word}, by the mean frame"] = _nearest(_means(part), known, marks, near)
        for rule, p in rules.items():
            usual = np.full(K, 0.5)
            yield Baseline(rule, name, score_of(labels, own, p, usual, clips=clips_of(part)))


def _means(part: Part) -> Floats:
    """The mean frame of each clip, `(N, F)`; pictures as the means of 8 x 8 places."""
    rows = []
    for i in range(len(part.clips)):
        raw = part.frames.decoded(i)
        if part.frames.clips[i].values is None:
            rows.append(_small(raw.mean(axis=0)))
        else:
            rows.append(part.frames.whole(i).mean(axis=0))
    return np.array(rows, dtype=np.float64)


def _small(picture: Floats, places: int = 8) -> Floats:
    edges = [np.array_split(np.arange(size), places) for size in picture.shape[:2]]
    cells = [picture[np.ix_(a, b)].mean(axis=(0, 1)) for a in edges[0] for b in edges[1] if len(a) and len(b)]
    return np.concatenate(cells) / 255


def _nearest(rows: Floats, known: Floats, marks: Floats, near: int) -> Floats:
    found = []
    for block in np.array_split(rows, max(1, len(rows) // 256)):
        distances = (known**2).sum(axis=1) - 2 * block @ known.T
        picks = np.argsort(distances, axis=1, kind="stable")[:, :near]
        found.append(marks[picks].mean(axis=1))
    return np.concatenate(found)


def probabilities_as_rows(p: Sequence[Floats]) -> Floats:
    """Of clips `(N, K)`, or of all steps one behind the other."""
    return np.concatenate(p) if p[0].ndim == 2 else np.stack(p)
