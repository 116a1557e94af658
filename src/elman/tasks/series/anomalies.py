"""Anomalies: how far each value lies from the latest forecasts that were made for it, before it came."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from elman.data.series import Frame
from elman.runtime.following import HIGH, LOW, MEDIAN, Trust, largest, nearest, surprise
from elman.tasks.base import Baseline
from elman.tasks.series.learning import run_over
from elman.tasks.series.panel import Codec, Panel, Part, encode
from elman.tasks.series.scores import score_marks
from elman.training.parallel import each

if TYPE_CHECKING:
    from elman.nn import Forecaster

__all__ = ["marked", "marks_baselines", "marks_of", "row_scores", "threshold_of"]

Floats = npt.NDArray[np.float64]
# With fewer rows than so many to be flagged, a quantile is drawn from a tail through the upper part of the rows.
ENOUGH, UPPER = 10, 0.1
# Rows that the z-scores beside it look back.
WINDOWS_OF_Z = (20, 50, 200)


def row_scores(model: Forecaster, codec: Codec, frame: Frame, threshold: float = np.inf) -> Floats:
    """The score of each row `(T,)`: NaN where nothing was seen, or nothing had been forecast.

        score_t = max over targets of the mean over some k of |x_t - q_.5| / σ, both forecast at t - k

    The k are the `recent` smallest of 1 .. h whose forecasts are trusted (see `Trust`): with a threshold, rows above
    it are flagged as they come. Only forecasts from rows before t speak of t.
    """
    trust = Trust(codec, threshold)
    found = [_followed(z, trust) for z in _surprises(model, codec, frame)]
    return np.concatenate([np.zeros(0), *found])


def _surprises(model: Forecaster, codec: Codec, frame: Frame) -> Iterator[Floats]:
    """z of pieces of the rows in order, `(T, h, M)`, by the age of the forecasts."""
    numbers = encode(frame, codec)
    h, M = codec.horizon, codec.targets
    ages = np.arange(h)
    median = np.full((h, h, M), np.nan)
    width = median.copy()
    for first, prospect, _, _ in run_over(model, numbers, codec.scale(frame.name).deviation[:M]):
        q = model.outlook.quantiles(prospect)[:, 0].detach().double().cpu().numpy()
        q = q.reshape(len(q), h, M, -1)
        median = np.concatenate([median[-h:], q[..., MEDIAN]])
        width = np.concatenate([width[-h:], q[..., HIGH] - q[..., LOW]])
        origins = np.arange(h, h + len(q))[:, None] - 1 - ages
        x = numbers.x[first : first + len(q), None, :M]
        yield surprise(x, median[origins, ages], width[origins, ages])


def _followed(z: Floats, trust: Trust) -> Floats:
    """The scores of rows that follow, `(T,)`: one by one only while some forecasts are not trusted."""
    scores = largest(nearest(z, np.ones(z.shape, dtype=bool), trust.recent))
    row = 0
    while row < len(z):
        if trust.rows.all():
            flagged = np.flatnonzero(scores[row:] > trust.threshold)
            if not len(flagged):
                break
            row += int(flagged[0])
        scores[row] = trust.score(z[row])
        row += 1
    return scores


def threshold_of(scores: Sequence[Floats], false_alarms: float) -> float:
    """From where on a row is flagged: so that this share of clean rows would be; infinite without any.

    Of few rows the quantile is not known: it is at least that of an exponential tail through their upper tenth.
    """
    clean = np.concatenate([own[np.isfinite(own)] for own in scores]) if scores else np.zeros(0)
    if not len(clean):
        return float(np.inf)
    quantile = float(np.quantile(clean, 1 - false_alarms))
    if not 0 < false_alarms < UPPER or len(clean) * false_alarms >= ENOUGH:
        return quantile
    start = float(np.quantile(clean, 1 - UPPER))
    above = clean[clean > start] - start
    return max(
        quantile, start + float(above.mean()) * float(np.log(UPPER / false_alarms)) if len(above) else 0.0
    )


def clean_threshold(scores: Sequence[Floats], part: Part, lags: int, false_alarms: float) -> float:
    """The threshold from the unmarked rows of a part and those before it, which were learnt: the larger of the two.

    scores: of all rows of the part's frames up to its end; the first `lags` only lead in.
    """
    before, own = [], []
    for found, frame, start in zip(scores, part.frames, part.starts, strict=True):
        clean = found if frame.labels is None else np.where(frame.labels[: len(found)] == 1, np.nan, found)
        before.append(clean[lags:start])
        own.append(clean[start:])
    known = [threshold_of(rows, false_alarms) for rows in (before, own)]
    return max((one for one in known if np.isfinite(one)), default=float(np.inf))


def frame_scores(
    model: Forecaster, codec: Codec, part: Part, threshold: float = float(np.inf)
) -> list[Floats]:
    """The scores of all rows of the frames of a part, up to its end."""
    pieces = [frame.part(0, end) for frame, end in zip(part.frames, part.ends, strict=True)]
    return each(pieces, lambda frame: row_scores(model, codec, frame, threshold))


def part_scores(model: Forecaster, codec: Codec, part: Part) -> list[Floats]:
    """The scores of the rows of a part, with the model's threshold."""
    found = frame_scores(model, codec, part, float(model.get_buffer("threshold")))
    return [scores[start:] for scores, start in zip(found, part.starts, strict=True)]


def marks_of(part: Part) -> list[npt.NDArray[np.bool_]] | None:
    """Which rows of a part are marked; None where none is, or nobody has said."""
    found = [
        np.zeros(end - start, dtype=bool) if frame.labels is None else frame.labels[start:end] == 1
        for frame, start, end in zip(part.frames, part.starts, part.ends, strict=True)
    ]
    return found if any(own.any() for own in found) else None


def marked(scores: Sequence[Floats], threshold: float) -> list[npt.NDArray[np.bool_]]:
    """The rows whose score lies above the threshold."""
    return [np.nan_to_num(own, nan=-np.inf) > threshold for own in scores]


def marks_baselines(prepared: Panel, size: int, false_alarms: float) -> Iterator[Baseline]:
    """Moving z-scores, |x - mean| / deviation of the rows before, their thresholds from the same clean rows alike."""
    codec, valid = prepared.codec, prepared.part("valid")
    test = prepared.part("test")
    truth = None if test is None else marks_of(test)
    if test is None or truth is None or valid is None:
        return
    for rows in WINDOWS_OF_Z:
        threshold = clean_threshold(_moving(codec, valid, rows), valid, codec.lags, false_alarms)
        found = _moving(codec, test, rows)
        answers = marked([own[start:] for own, start in zip(found, test.starts, strict=True)], threshold)
        yield Baseline(f"moving z-score of {rows} rows", "test", score_marks(truth, answers, size))


def _moving(codec: Codec, part: Part, rows: int) -> list[Floats]:
    """Of all rows of the frames of a part, up to its end."""
    found = []
    for frame, end in zip(part.frames, part.ends, strict=True):
        x = frame.values[:end, : codec.targets]
        scores = np.full(x.shape, np.nan)
        for t in range(2, end):
            before = x[max(0, t - rows) : t]
            known = (~np.isnan(before)).sum(axis=0) > 1
            scores[t] = np.where(known, _z(x[t], before), np.nan)
        found.append(largest(scores))
    return found


def _z(x: Floats, before: Floats) -> Floats:
    known = ~np.isnan(before)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, before, 0.0).sum(axis=0) / count
    deviation = np.sqrt(np.where(known, (before - mean) ** 2, 0.0).sum(axis=0) / count)
    return np.asarray(np.abs(x - mean) / np.maximum(deviation, 1e-9))
