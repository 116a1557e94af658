"""Metrics: how good forecasts and marks are, and what simple rules reach beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from elman import metrics
from elman.tasks.base import Baseline
from elman.tasks.series.learning import Origins, origins_of
from elman.tasks.series.maps import seasonal_naive, targets_of, windows_of
from elman.tasks.series.panel import Codec, Panel, Part
from elman.training.score import Score

__all__ = ["LEVELS", "MEDIAN", "forecast_baselines", "forecast_score", "naive_of", "score_marks"]

Floats = npt.NDArray[np.float64]
Marks = npt.NDArray[np.bool_]
LEVELS = tuple(round(0.05 * number, 2) for number in range(1, 20))
MEDIAN = 9
# Quantiles between which 80 % and 90 % of the values should lie.
INSIDE = {"coverage_80": (1, 17), "coverage_90": (0, 18)}


def naive_of(codec: Codec, part: Part) -> Floats:
    """What MASE is measured in, for each frame and target `(S, M)`: of a series that is not known, the mean of all.

    Where no season in training differs from the one before, as in a constant series, it is 1: MASE is the MAE there.
    """
    known = np.array(list(codec.naive.values()))
    with np.errstate(invalid="ignore"):
        usual = np.array([metrics.mean_of_known(np.where(column > 0, column, np.nan)) for column in known.T])
    found = np.array([codec.naive.get(frame.name, usual) for frame in part.frames])
    return np.where(found > 0, found, np.where(usual > 0, usual, 1.0))


def forecast_score(
    codec: Codec, part: Part, found: Origins, *, interval: bool = False, spread: bool = True
) -> Score:
    """MASE, the mean of |y - median| over the seasonal naive error in training (Hyndman & Koehler 2006), and others.

    interval: at 95 %, blocks of as many origins as rows ahead drawn anew. spread: whether the quantiles say something.
    """
    point = found.q[..., MEDIAN]
    naive = naive_of(codec, part)[found.series]
    errors = np.abs(found.truth - point)
    scaled = errors / naive[:, None, :]
    with np.errstate(invalid="ignore"):
        figures: dict[str, Any] = {
            "sMAPE": metrics.smape(found.truth, point),
            "MSE": metrics.mean_of_known(errors**2),
            "MAE": metrics.mean_of_known(errors),
        }
    if spread:
        figures["CRPS"] = metrics.mean_of_known(metrics.pinball(found.truth, found.q, LEVELS))
        figures |= {
            name: metrics.coverage(found.truth, found.q[..., a], found.q[..., b])
            for name, (a, b) in INSIDE.items()
        }
    figures["origins"] = len(found.row)
    if interval:
        figures["rows_ahead"] = [metrics.mean_of_known(scaled[:, k]) for k in range(scaled.shape[1])]
    limits = (
        _interval(scaled, found) if interval and len(found.row) > 1 and np.isfinite(scaled).any() else None
    )
    return Score("MASE", metrics.mean_of_known(scaled), higher=False, figures=figures, interval=limits)


def _interval(scaled: Floats, found: Origins) -> tuple[float, float]:
    blocks = np.unique(np.stack([found.series, found.row // scaled.shape[1]]), axis=1, return_inverse=True)[
        1
    ].ravel()
    known = np.isfinite(scaled)
    sums = np.bincount(blocks, weights=np.where(known, scaled, 0.0).sum(axis=(1, 2)))
    counts = np.bincount(blocks, weights=known.sum(axis=(1, 2)))
    return metrics.bootstrap(lambda a, b: float(a.sum() / max(b.sum(), 1)), (sums, counts))


def forecast_baselines(prepared: Panel, stride: int) -> Iterator[Baseline]:
    """The value of a season before, and the ridge map of the last values, from the same origins."""
    codec = prepared.codec
    for part in prepared.parts.values():
        if part.name == "train":
            continue
        origins = origins_of(part, codec.horizon, stride)
        for name, values in _rules(codec, part, origins):
            found = _as_origins(codec, part, origins, values)
            yield Baseline(name, part.name, forecast_score(codec, part, found, spread=False))


def _rules(
    codec: Codec, part: Part, origins: Sequence[npt.NDArray[np.int64]]
) -> Iterator[tuple[str, list[Floats]]]:
    M = codec.targets
    values = [frame.values[:end, :M] for frame, end in zip(part.frames, part.ends, strict=True)]
    naive = f"seasonal naive, {codec.season} rows before" if codec.season > 1 else "naive, the last value"
    yield (
        naive,
        [
            seasonal_naive(v, codec.season, codec.horizon, rows)
            for v, rows in zip(values, origins, strict=True)
        ],
    )
    mapped = []
    for frame, own, rows in zip(part.frames, values, origins, strict=True):
        scale = codec.scale(frame.name)
        mapped.append(scale.up(codec.map(windows_of(scale.down(own), codec.lags, rows))))
    if np.any(codec.map.weight):
        yield f"ridge map of the last {codec.lags} values", mapped


def _as_origins(
    codec: Codec, part: Part, origins: Sequence[npt.NDArray[np.int64]], values: Sequence[Floats]
) -> Origins:
    truth = [
        targets_of(frame.values[:end, : codec.targets], codec.horizon, rows)
        for frame, end, rows in zip(part.frames, part.ends, origins, strict=True)
    ]
    series = np.concatenate([np.full(len(rows), number) for number, rows in enumerate(origins)])
    q = np.repeat(np.concatenate(list(values))[..., None], len(LEVELS), axis=-1)
    return Origins(series, np.concatenate(list(origins)), q, np.concatenate(truth))


def score_marks(truth: Sequence[Marks], answers: Sequence[Marks], size: int, **figures: Any) -> Score:
    """The F1 of windows that hold a marked row, and that of rows; truth and answers: of each series."""
    windows = [
        np.concatenate([metrics.windows_marked(own, size) for own in marks]) for marks in (truth, answers)
    ]
    rows = [np.concatenate(list(marks)) for marks in (truth, answers)]
    others = {
        "point_F1": metrics.f1_of_marks(rows[0], rows[1]),
        "precision": float(windows[0][windows[1]].mean()) if windows[1].any() else 0.0,
        "recall": float(windows[1][windows[0]].mean()) if windows[0].any() else 0.0,
        "flagged": float(rows[1].mean()),
        "windows": len(windows[0]),
    }
    interval = metrics.bootstrap(metrics.f1_of_marks, windows)
    value = metrics.f1_of_marks(windows[0], windows[1])
    return Score("window F1", value, higher=True, figures={**others, **figures}, interval=interval)
