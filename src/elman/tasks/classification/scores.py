"""Metrics: how good answers are, and what simple rules reach beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from elman import metrics
from elman.data.labels import Labels, steady_thresholds
from elman.tasks.base import Baseline
from elman.tasks.classification.texts import Part, Texts
from elman.training.score import Score

__all__ = ["bag_baselines", "metric_of", "score_of", "with_interval"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def metric_of(word: str, labels: Labels) -> str:
    """The measure by which a model is chosen."""
    return word if word != "auto" else "macro F1" if labels.several else "accuracy"


def _measure(metric: str, classes: int) -> Callable[..., float]:
    if metric == "accuracy":
        return metrics.accuracy
    rule = metrics.macro_f1 if metric == "macro F1" else metrics.micro_f1
    return lambda truth, answers: rule(truth, answers, classes)


def score_of(metric: str, labels: Labels, truth: Ints, p: Floats, thresholds: Floats) -> Score:
    """The measure of probabilities `(N, K)`, with all other measures as figures."""
    K = len(labels.names)
    answers = labels.decide(p, thresholds)
    figures: dict[str, Any] = {
        name: _measure(name, K)(truth, answers) for name in ("accuracy", "macro F1", "micro F1")
    }
    figures = {name.replace(" ", "_"): value for name, value in figures.items() if name != metric}
    sure, right = certainty(labels, truth, p)
    figures |= {
        "loss": metrics.log_loss(truth, p),
        "calibration_error": metrics.calibration(sure, right).error,
        "texts": len(truth),
    }
    return Score(metric, _measure(metric, K)(truth, answers), higher=True, figures=figures)


def with_interval(score: Score, labels: Labels, truth: Ints, p: Floats, thresholds: Floats) -> Score:
    """The same with its 95 % interval, texts drawn anew 1,000 times, and the measures of each label."""
    K = len(labels.names)
    answers = labels.decide(p, thresholds)
    found = metrics.per_class(truth, answers, K)
    rows = {
        name: {"precision": float(a), "recall": float(b), "f1": float(c), "texts": int(n)}
        for name, a, b, c, n in zip(labels.names, *found, strict=True)
    }
    interval = metrics.bootstrap(_measure(score.name, K), (truth, answers))
    return score._replace(interval=interval, figures={**score.figures, "labels": rows})


def certainty(labels: Labels, truth: Ints, p: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """How sure each answer is, and whether it is right; with several labels each of them is an answer."""
    if labels.several:
        return p.ravel(), truth.ravel().astype(bool)
    return p.max(axis=1), np.asarray(p.argmax(axis=1) == truth)


def bag_baselines(metric: str, prepared: Texts) -> Iterator[Baseline]:
    """The commonest answer, and the better of two linear models of the words, chosen on the validation data.

    With several labels their thresholds are tuned on the validation data, as the network's are. Without validation
    data the model of words alone is taken, and each threshold is 1/2.
    """
    from elman.baselines import BagOfWords, majority

    labels, train, valid = prepared.codec.labels, prepared.parts["train"], prepared.part("valid")
    bags = [
        BagOfWords.fit(train.texts, train.truth, len(labels.names), pairs=pairs)
        for pairs in ((False, True) if valid else (False,))
    ]
    bag = max(bags, key=lambda bag: _on_valid(metric, labels, valid, bag.probabilities)) if valid else bags[0]
    rules: dict[str, Callable[[Sequence[str]], Floats]] = {
        "majority": lambda texts: majority(train.truth, len(texts)),
        f"linear bag of words{' and pairs' if bag.pairs else ''}": bag.probabilities,
    }
    for name, rule in rules.items():
        tuned = _tuned(labels, valid, rule(valid.texts)) if valid else _even(labels)
        for part in prepared.parts.values():
            if part.name != "train":
                yield Baseline(name, part.name, score_of(metric, labels, part.truth, rule(part.texts), tuned))


def _on_valid(metric: str, labels: Labels, valid: Part, rule: Callable[[Sequence[str]], Floats]) -> float:
    p = rule(valid.texts)
    return score_of(metric, labels, valid.truth, p, _tuned(labels, valid, p)).value


def _even(labels: Labels) -> Floats:
    return np.full(len(labels.names), 0.5)


def _tuned(labels: Labels, valid: Part, p: Floats) -> Floats:
    return steady_thresholds(p, valid.truth) if labels.several else _even(labels)
