"""Measures of a model, in numpy: of a loss, of classes and labels beside the truth, of forecasts, of marked rows.

For classes: N items, K classes or labels. The truth and the answers are class numbers `(N,)`, or zeros and ones
`(N, K)` where an item may have several labels. Where a quotient has no denominator it is 0, as scikit-learn has it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "Calibration",
    "Classes",
    "Likelihood",
    "accuracy",
    "average_precision",
    "bits",
    "bootstrap",
    "calibration",
    "confusion",
    "coverage",
    "f1",
    "f1_of_marks",
    "log_loss",
    "macro_f1",
    "mean_average_precision",
    "mean_of_known",
    "micro_f1",
    "per_class",
    "perplexity",
    "pinball",
    "smape",
    "span_counts",
    "span_f1",
    "windows_marked",
]

Ints = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.floating[Any]]


def perplexity(nats: float) -> float:
    """exp of the mean loss: as uncertain as a free choice among so many. `nats`: mean negative log likelihood."""
    return math.exp(nats) if nats < 700 else math.inf


def bits(nats: float) -> float:
    """The mean loss in bits: what a coder would need for each token. `nats`: mean negative log likelihood."""
    return nats / math.log(2)


class Likelihood(NamedTuple):
    """How well a model predicts a text.

    nats: -sum log p over all predictions. tokens: how many were predicted. characters: how many those are (bytes,
    where tokens are bytes), None where that has no meaning. unknown: share of the text's tokens that it did not know.
    """

    nats: float
    tokens: int
    characters: float | None = None
    unknown: float = 0.0

    @property
    def loss(self) -> float:
        """Mean negative log likelihood of a token, in nats."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return perplexity(self.loss)

    @property
    def bits_per_character(self) -> float | None:
        """What a coder would need for each character."""
        return bits(self.nats) / self.characters if self.characters else None

    def figures(self) -> dict[str, Any]:
        """All of it by name."""
        own = {
            "loss": self.loss,
            "perplexity": self.perplexity,
            "bits_per_character": self.bits_per_character,
        }
        return {**own, "tokens": self.tokens, "unknown": self.unknown}


class Classes(NamedTuple):
    """For each class, `(K,)`: TP / predicted, TP / actual, 2 TP / (predicted + actual), and how often it occurs."""

    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]
    f1: npt.NDArray[np.float64]
    support: npt.NDArray[np.int64]


def accuracy(truth: Ints, answers: Ints) -> float:
    """The share of items that are right; of several labels, all of an item's must be."""
    right = truth == answers
    return float(right.all(axis=1).mean() if right.ndim == 2 else right.mean()) if len(truth) else np.nan


def confusion(truth: Ints, answers: Ints, classes: int) -> npt.NDArray[np.int64]:
    """How often class i was taken for class j, `(K, K)`: rows are the truth."""
    counts = np.bincount(truth * classes + answers, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def _counts(truth: Ints, answers: Ints, classes: int) -> tuple[npt.NDArray[np.int64], ...]:
    """True positives, predicted, actual, each `(K,)`."""
    if truth.ndim == 2:
        return (truth * answers).sum(axis=0), answers.sum(axis=0), truth.sum(axis=0)
    hits = truth[truth == answers]
    return tuple(np.bincount(row, minlength=classes).astype(np.int64) for row in (hits, answers, truth))


def _quotient(above: npt.NDArray[np.int64], below: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.divide(above, below, out=np.zeros(np.shape(above)), where=below > 0)


def per_class(truth: Ints, answers: Ints, classes: int) -> Classes:
    """Precision, recall and F1 of each class."""
    hits, predicted, actual = _counts(truth, answers, classes)
    f1 = _quotient(2 * hits, predicted + actual)
    return Classes(_quotient(hits, predicted), _quotient(hits, actual), f1, actual)


def macro_f1(truth: Ints, answers: Ints, classes: int) -> float:
    """The mean of the classes' F1, each class counting the same; all K of them, whether they occur or not."""
    return float(per_class(truth, answers, classes).f1.mean())


def micro_f1(truth: Ints, answers: Ints, classes: int) -> float:
    """2 TP / (predicted + actual) over all classes together; of one class each it is the accuracy."""
    hits, predicted, actual = (counts.sum(keepdims=True) for counts in _counts(truth, answers, classes))
    return float(_quotient(2 * hits, predicted + actual)[0])


def average_precision(truth: Ints, scores: Floats) -> float:
    """Sum over n of (R_n - R_{n-1}) P_n, over thresholds that fall through the scores `(N,)`; equal ones fall at once.

    truth: zeros and ones `(N,)`. Without a one in them it is 0, as scikit-learn has it.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], truth[order].cumsum()
    if not len(hits) or hits[-1] == 0:
        return 0.0
    last = np.append(ranked[1:] != ranked[:-1], True)
    found = hits[last]
    precision = found / (np.flatnonzero(last) + 1)
    return float((np.diff(found, prepend=0) * precision).sum() / hits[-1])


def mean_average_precision(truth: Ints, scores: Floats) -> float:
    """The mean of `average_precision` over the columns of `(N, K)` that have a one; NaN where none has."""
    known = np.flatnonzero(truth.any(axis=0))
    values = [average_precision(truth[:, k], scores[:, k]) for k in known]
    return float(np.mean(values)) if values else math.nan


def log_loss(truth: Ints, probabilities: Floats) -> float:
    """The mean of -log p(truth) in nats; of several labels, summed over them. p is kept 1e-15 from 0 and 1."""
    p = np.clip(probabilities.astype(np.float64), 1e-15, 1 - 1e-15)
    if truth.ndim == 1:
        return float(-np.log(p[np.arange(len(truth)), truth]).mean())
    return float(-(truth * np.log(p) + (1 - truth) * np.log1p(-p)).sum(axis=1).mean())


class Calibration(NamedTuple):
    """How sure answers were, and how often they were right, by bins of equal width; empty bins are left out.

    error: the expected calibration error, sum over bins of n_b / N |accuracy_b - confidence_b| (Guo et al. 2017,
    arXiv 1706.04599, eq. 3).
    """

    confidence: list[float]
    accuracy: list[float]
    counts: list[int]
    error: float


def calibration(confidence: Floats, right: npt.NDArray[np.bool_], bins: int = 10) -> Calibration:
    """The reliability of answers: `confidence` `(N,)` in [0, 1] beside whether they were right."""
    number = np.clip(np.ceil(confidence * bins) - 1, 0, bins - 1).astype(np.int64)
    count = np.bincount(number, minlength=bins)
    sure = np.bincount(number, weights=confidence, minlength=bins)
    good = np.bincount(number, weights=right.astype(np.float64), minlength=bins)
    held = count > 0
    error = float(np.abs(good - sure).sum() / max(len(confidence), 1))
    return Calibration(
        (sure[held] / count[held]).tolist(), (good[held] / count[held]).tolist(), count[held].tolist(), error
    )


def bootstrap(
    measure: Callable[..., float], rows: Sequence[npt.NDArray[Any]], *, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The 95 % interval of `measure(*rows)`: its 2.5 % and 97.5 % quantiles over items drawn with replacement."""
    count = len(rows[0])
    if not count:
        return np.nan, np.nan
    generator = np.random.default_rng(seed)
    picks = (generator.integers(count, size=count) for _ in range(draws))
    values = [measure(*(row[pick] for row in rows)) for pick in picks]
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def f1(hits: float, predicted: float, actual: float) -> float:
    """2 TP / (predicted + actual); 0 where there is neither."""
    return 2 * hits / (predicted + actual) if predicted + actual else 0.0


def span_counts(
    truth: Sequence[Iterable[Hashable]], answers: Sequence[Iterable[Hashable]]
) -> npt.NDArray[np.int64]:
    """Right, predicted and actual spans of each item, `(N, 3)`. A span is right if all of it is: (start, end, kind)."""
    sets = ((set(own), set(said)) for own, said in zip(truth, answers, strict=True))
    rows = [(len(own & said), len(said), len(own)) for own, said in sets]
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def span_f1(counts: npt.NDArray[np.int64]) -> float:
    """The micro F1 of spans over all items, from `span_counts` (the measure of CoNLL-2003)."""
    return f1(*counts.sum(axis=0).tolist())


# Forecasts: what is not known is NaN, and does not count.


def mean_of_known(values: Floats) -> float:
    """The mean of what is not NaN; NaN where nothing is."""
    known = np.isfinite(values)
    return float(values[known].mean()) if known.any() else math.nan


def smape(truth: Floats, point: Floats) -> float:
    """Symmetric mean absolute percentage error: the mean of 200 |y - f| / (|y| + |f|); 0 where both are 0.

    Makridakis 1993, as in the M4 competition; from 0 to 200.
    """
    sizes = np.abs(truth) + np.abs(point)
    errors = 200 * np.abs(truth - point)
    return mean_of_known(
        np.divide(errors, sizes, out=np.where(np.isnan(sizes), np.nan, 0.0), where=sizes > 0)
    )


def pinball(truth: Floats, quantiles: Floats, levels: Sequence[float]) -> Floats:
    """The pinball losses of quantiles `(..., Q)` of evenly spaced levels i / (Q + 1), as the CRPS, `(...)`.

    2 / (Q + 1) sum over i of max(t_i (y - q_i), (t_i - 1) (y - q_i)): the integral over all levels by the trapezoid
    rule (Gneiting & Ranjan 2011, eq. 17).
    """
    error = truth[..., None] - quantiles
    level = np.asarray(levels)
    losses = np.maximum(level * error, (level - 1) * error).sum(axis=-1)
    return np.asarray(2 * losses / (len(level) + 1))


def coverage(truth: Floats, low: Floats, high: Floats) -> float:
    """The share of known values from `low` to `high`."""
    known = np.isfinite(truth)
    return float(((truth >= low) & (truth <= high))[known].mean()) if known.any() else math.nan


# Rows that are marked as out of the ordinary


def f1_of_marks(truth: npt.NDArray[np.bool_], answers: npt.NDArray[np.bool_]) -> float:
    """2 TP / (predicted + actual); 0 where nothing is either."""
    return f1(int((truth & answers).sum()), int(answers.sum()), int(truth.sum()))


def windows_marked(marks: npt.NDArray[np.bool_], size: int) -> npt.NDArray[np.bool_]:
    """Which windows of `size` rows, one behind the other, hold a mark; the last one may be shorter."""
    return np.array([bool(marks[a : a + size].any()) for a in range(0, len(marks), size)], dtype=bool)
