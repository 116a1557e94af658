"""What a forecast is held against: the seasonal naive rule and a ridge map, with which the network starts.

All values are scaled. p lags, h rows ahead, M targets; windows are oldest first, with gaps filled by the value before.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from elman.data.series.encoded import filled
from elman.data.series.scaled import RidgeMap

__all__ = ["RidgeMap", "filled", "fit_ridge", "seasonal_error", "seasonal_naive", "windows_of"]

Floats = npt.NDArray[np.float64]
STRENGTHS = tuple(10.0**power for power in range(-3, 5))


def windows_of(values: Floats, lags: int, origins: npt.NDArray[np.int64]) -> Floats:
    """The last `lags` values up to each origin, `(N, M, p)`; of what lies before the first value, that one.

    values: `(T, M)`, NaN where missing. Only rows up to the origin are read.
    """
    found = np.zeros((len(origins), values.shape[1], lags))
    at = np.arange(len(values))
    for m, column in enumerate(values.T):
        seen = ~np.isnan(column)
        last = np.maximum.accumulate(np.where(seen, at, -1))
        first = int(np.argmax(seen)) if seen.any() else len(values)
        for n, origin in enumerate(origins):
            if first > origin:
                continue
            rows = np.clip(np.arange(origin - lags + 1, origin + 1), first, None)
            found[n, m] = column[last[rows]]
    return found


def targets_of(values: Floats, horizon: int, origins: npt.NDArray[np.int64]) -> Floats:
    """The next rows behind each origin, `(N, h, M)`; NaN where missing and behind the end."""
    padded = np.concatenate([values, np.full((horizon, values.shape[1]), np.nan)])
    return np.asarray(padded[origins[:, None] + np.arange(1, horizon + 1)])


def fit_ridge(
    train: Sequence[Floats],
    valid: Sequence[tuple[Floats, int]],
    lags: int,
    horizon: int,
    *,
    relative: bool | None,
) -> RidgeMap:
    """The ridge map of training series `(T, M)` whose penalty does best on the validation rows.

    valid: series, and from which row on they are measured; without any, the penalty is 1. relative: None tries both.
    """
    pairs = [_pairs(values, lags, horizon) for values in train]
    x, y = np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])
    checks = [_pairs(values, lags, horizon, start - 1) for values, start in valid]
    tried = (False, True) if relative is None else (relative,)
    maps = [_fit(x, y, strength, own) for own in tried for strength in (STRENGTHS if checks else (1.0,))]
    if not checks:
        return maps[-1]
    return min(maps, key=lambda found: _error(found, checks))


def _pairs(values: Floats, lags: int, horizon: int, start: int | None = None) -> tuple[Floats, Floats]:
    begin = min(lags, max(len(values) // 4, 1)) - 1 if start is None else max(start, 0)
    origins = np.arange(begin, len(values) - 1)
    return windows_of(values, lags, origins), targets_of(values, horizon, origins)


def _error(found: RidgeMap, checks: Sequence[tuple[Floats, Floats]]) -> float:
    errors = np.concatenate([np.abs(found(x) - y).ravel() for x, y in checks])
    return float(np.nanmean(errors)) if np.isfinite(errors).any() else np.inf


def _fit(x: Floats, y: Floats, strength: float, relative: bool) -> RidgeMap:
    """Each target and row ahead by itself, on the rows where it was observed."""
    N, M, p = x.shape
    h = y.shape[1]
    anchor = x[..., -1:] if relative else np.zeros((N, M, 1))
    inputs = np.concatenate([x - anchor, np.ones((N, M, 1))], axis=2)
    aims = np.swapaxes(y, 1, 2) - anchor  # (N, M, h)
    penalty = strength * np.eye(p + 1)
    penalty[-1, -1] = 1e-9
    weight, spread = np.zeros((M, h, p + 1)), np.ones((M, h))
    for m in range(M):
        for k in range(h):
            seen = ~np.isnan(aims[:, m, k])
            if not seen.any():
                continue
            a, b = inputs[seen, m], aims[seen, m, k]
            weight[m, k] = np.linalg.solve(a.T @ a + penalty, a.T @ b)
            spread[m, k] = max(float(np.sqrt(np.mean((a @ weight[m, k] - b) ** 2))), 1e-3)
    return RidgeMap(weight[..., :-1], weight[..., -1], spread, relative, strength)


def seasonal_naive(values: Floats, season: int, horizon: int, origins: npt.NDArray[np.int64]) -> Floats:
    """The value of a season before, `(N, h, M)`; gaps are filled by the value before, within what was seen."""
    found = np.zeros((len(origins), horizon, values.shape[1]))
    for n, origin in enumerate(origins):
        own = filled(values[max(0, origin + 1 - 4 * season - horizon) : origin + 1])
        rows = np.array([len(own) - 1 + k - season * -(-k // season) for k in range(1, horizon + 1)])
        found[n] = own[np.maximum(rows, 0)]
    return found


def seasonal_error(values: Floats, season: int) -> Floats:
    """The mean of |y_t - y_{t-season}| of each target in training `(M,)`, the unit of MASE; NaN where unknown."""
    if len(values) <= season:
        return np.full(values.shape[1], np.nan)
    errors = np.abs(values[season:] - values[:-season])
    known = ~np.isnan(errors)
    sums = np.where(known, errors, 0.0).sum(axis=0)
    counts = known.sum(axis=0)
    return np.asarray(np.divide(sums, counts, out=np.full(values.shape[1], np.nan), where=counts > 0))
