"""Anomalies: how far each value lies from all the forecasts that were made for it, before it came."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from elman.data.series import Frame
from elman.runtime.following import HIGH, LOW, MEDIAN, largest, surprise
from elman.tasks.base import Baseline
from elman.tasks.series.learning import run_over
from elman.tasks.series.panel import Codec, Panel, Part, encode
from elman.tasks.series.scores import score_marks
from elman.training.parallel import each

if TYPE_CHECKING:
    from elman.nn import Forecaster

__all__ = ["marked", "marks_baselines", "marks_of", "row_scores", "threshold_of"]

Floats = npt.NDArray[np.float64]
# Rows that the z-scores beside it look back.
WINDOWS_OF_Z = (20, 50, 200)


def row_scores(model: Forecaster, codec: Codec, frame: Frame) -> Floats:
    """The score of each row `(T,)`: NaN where nothing was seen, or nothing had been forecast.

        score_t = max over targets of the mean over k = 1 .. h of |x_t - q_.5| / σ, both forecast at t - k

    Only forecasts from rows before t speak of t.
    """
    numbers = encode(frame, codec)
    h, M, T = codec.horizon, codec.targets, len(frame)
    total, count = np.zeros((T + h, M)), np.zeros((T + h, M))
    padded = np.concatenate([numbers.x[:, :M], np.full((h, M), np.nan)])
    for first, prospect, _, _ in run_over(model, numbers, codec.scale(frame.name).deviation[:M]):
        q = model.outlook.quantiles(prospect)[:, 0].detach().double().cpu().numpy()
        q = q.reshape(len(q), h, M, -1)
        for k in range(1, h + 1):
            rows = slice(first + k, first + k + len(q))
            z = surprise(padded[rows], q[:, k - 1, :, MEDIAN], q[:, k - 1, :, HIGH] - q[:, k - 1, :, LOW])
            known = np.isfinite(z)
            total[rows] += np.where(known, z, 0.0)
            count[rows] += known
    mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)[:T]
    return largest(mean)


def threshold_of(scores: Sequence[Floats], false_alarms: float) -> float:
    """From where on a row is flagged: so that this share of clean rows would be; infinite without any."""
    clean = np.concatenate([own[np.isfinite(own)] for own in scores]) if scores else np.zeros(0)
    return float(np.quantile(clean, 1 - false_alarms)) if len(clean) else np.inf


def part_scores(model: Forecaster, codec: Codec, part: Part) -> list[Floats]:
    """The scores of the rows of a part."""

    def of(piece: tuple[Frame, int, int]) -> Floats:
        frame, start, end = piece
        return row_scores(model, codec, frame.part(0, end))[start:end]

    return each(list(zip(part.frames, part.starts, part.ends, strict=True)), of)


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


def clean_scores(scores: Sequence[Floats], part: Part) -> list[Floats]:
    """The scores of rows that are not marked, nor read when a marked one had just been."""
    marks = marks_of(part)
    return list(scores) if marks is None else [own[~mark] for own, mark in zip(scores, marks, strict=True)]


def marks_baselines(prepared: Panel, size: int, false_alarms: float) -> Iterator[Baseline]:
    """Moving z-scores, |x - mean| / deviation of the rows before, their thresholds from the same clean rows."""
    codec, valid = prepared.codec, prepared.part("valid")
    test = prepared.part("test")
    truth = None if test is None else marks_of(test)
    if test is None or truth is None or valid is None:
        return
    for rows in WINDOWS_OF_Z:
        threshold = threshold_of(clean_scores(_moving(codec, valid, rows), valid), false_alarms)
        answers = marked(_moving(codec, test, rows), threshold)
        yield Baseline(f"moving z-score of {rows} rows", "test", score_marks(truth, answers, size))


def _moving(codec: Codec, part: Part, rows: int) -> list[Floats]:
    found = []
    for frame, start, end in zip(part.frames, part.starts, part.ends, strict=True):
        x = frame.values[:end, : codec.targets]
        scores = np.full(x.shape, np.nan)
        for t in range(max(start, 2), end):
            before = x[max(0, t - rows) : t]
            known = (~np.isnan(before)).sum(axis=0) > 1
            scores[t] = np.where(known, _z(x[t], before), np.nan)
        found.append(largest(scores)[start:end])
    return found


def _z(x: Floats, before: Floats) -> Floats:
    known = ~np.isnan(before)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, before, 0.0).sum(axis=0) / count
    deviation = np.sqrt(np.where(known, (before - mean) ** 2, 0.0).sum(axis=0) / count)
    return np.asarray(np.abs(x - mean) / np.maximum(deviation, 1e-9))
