"""A series as it comes, whoever computes: what is kept of the rows before, and what is answered.

A run and a frozen model of one have this in common; each says how a step is taken.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from elman.data.series.rows import BadRowError, Row, plain_static
from elman.data.series.scaled import Codec, static_features
from elman.data.series.stamps import calendar, written

__all__ = [
    "HIGH",
    "INTERVALS",
    "LOW",
    "MEDIAN",
    "NORMAL",
    "Following",
    "Past",
    "Trust",
    "forecast_of",
    "largest",
    "nearest",
    "score_of",
    "surprise",
]

Floats = npt.NDArray[np.float64]
# A gap of more rows than this begins the stream anew.
LONGEST_GAP = 10_000
MEDIAN = 9
# The quantiles of an interval of so many percent.
INTERVALS = {"90": (0, 18), "80": (1, 17), "50": (4, 14)}
# The quantiles on either side that say how wide a forecast is; and their distance in a normal one.
LOW, HIGH, NORMAL = 2, 16, 2 * 1.0364333894937898


class Following(ABC):
    """The stream of one series; where anomalies are looked for, with the forecasts that were made for rows to come."""

    def __init__(self, codec: Codec, name: str, static: Mapping[str, Any], threshold: float) -> None:
        """Nothing has come. threshold: of the score of a row from which on it is flagged."""
        self.codec, self.name, self.threshold = codec, name, threshold
        self.scale = codec.scale(name)
        self.static = static_features(plain_static(static, codec), codec, 1)
        self._begin()

    @abstractmethod
    def restart(self) -> None:
        """Forget the network's state."""

    @abstractmethod
    def advance(self, x: Floats, since: Floats, known: Floats) -> None:
        """One step of the network: x, since `(C,)`, x NaN where missing; known `(K,)`."""

    @abstractmethod
    def quantiles(self) -> Floats:
        """Of the rows ahead, scaled `(h, M, Q)`; the network forecasts all at once."""

    def _begin(self) -> None:
        self.restart()
        self.past = Past(self.codec, self.threshold) if self.codec.target == "anomalies" else None
        self.since = np.zeros(self.codec.channels)
        self.seen = np.ones(self.codec.channels, dtype=bool)
        self.time: float | None = None
        self.rows = 0

    def gap_to(self, time: float | None) -> float:
        """Steps from the last row to this one. Raises BadRowError where it does not lie behind."""
        if time is None or self.time is None:
            return 1.0
        step = self.codec.step
        if time <= self.time:
            raise BadRowError("its time does not lie behind that of the row before")
        if step.kind == "irregular":
            return (time - self.time) / step.size
        numbers = step.places(np.array([self.time, time]))
        return float(max(1, numbers[1] - numbers[0]))

    def take(self, row: Row) -> float:
        """Read a row, and empty ones in the gap before it; the row's score, NaN where none is asked for or known.

        A row of a gap is a row like others: forecasts are made from it, and those made before it grow older by it.
        """
        gap = self.gap_to(row.time)
        if self.codec.step.kind != "irregular":
            if gap > LONGEST_GAP:
                self._begin()
                gap = 1.0
            for _ in range(1, int(gap)):
                time = None if self.time is None else self.codec.step.after(self.time, 1)
                self._step(np.full(len(row.values), np.nan), time, 1.0)
            gap = 1.0
        return self._step(row.values, row.time, gap)

    def _step(self, values: Floats, time: float | None, gap: float) -> float:
        codec, C = self.codec, self.codec.channels
        scaled = self.scale.down(values)
        x = scaled[:C]
        self.since = np.where(self.seen, gap, gap + self.since) if self.rows else np.zeros(C)
        self.seen = ~np.isnan(x)
        self.time, self.rows = time, self.rows + 1
        self.advance(x, self.since, self._known(scaled[C:], time, gap))
        if self.past is None:
            return float(np.nan)
        score = self.past.score(x[: codec.targets])
        self.past.add(self.quantiles())
        return score

    def _known(self, future: Floats, time: float | None, gap: float) -> Floats:
        codec = self.codec
        pieces = [np.nan_to_num(future, nan=0.0), self.static[0]]
        if codec.calendar:
            following = codec.step.after(0.0 if time is None else time, 1)
            pieces.insert(0, calendar(np.array([following]), codec.step, codec.clock)[1][0])
        if codec.step.kind == "irregular":
            pieces.append(np.log1p([gap]))
        return np.concatenate(pieces)

    def ahead(self) -> Floats:
        """What is known with each row ahead `(h, K)`."""
        codec = self.codec
        h = codec.horizon
        times = [codec.step.after(self.time or 0.0, 2 + k) for k in range(h)]
        pieces = [np.zeros((h, len(codec.layout.future))), np.tile(self.static, (h, 1))]
        if codec.calendar:
            pieces.insert(0, calendar(np.array(times), codec.step, codec.clock)[1])
        if codec.step.kind == "irregular":
            pieces.append(np.full((h, 1), np.log1p(1.0)))
        return np.concatenate(pieces, axis=1)

    def forecast(self, q: Floats) -> Floats:
        """Scaled quantiles `(h, M, Q)` in the values' own units."""
        M = self.codec.targets
        up = q * self.scale.deviation[:M, None] + self.scale.mean[:M, None]
        return np.asarray(np.maximum(up, 0.0) if self.codec.counts else up)


def forecast_of(
    codec: Codec, name: str, last: float | None, q: Floats, clock: Any, interval: str
) -> dict[str, Any]:
    """A forecast `(h, M, Q)` in the values' own units, behind a row at the time `last`, as JSON."""
    a, b = INTERVALS[interval]
    targets = codec.layout.channels[: codec.targets]
    ahead: dict[str, list[dict[str, Any]]] = {target: [] for target in targets}
    for k in range(len(q)):
        time = None if last is None else written(codec.step.after(last, k + 1), clock)
        for m, target in enumerate(targets):
            values = {"median": q[k, m, MEDIAN], "low": q[k, m, a], "high": q[k, m, b]}
            rounded = {word: float(f"{value:.7g}") for word, value in values.items()}
            ahead[target].append(({"time": time} if time is not None else {}) | rounded)
    data: dict[str, Any] = {"series": name} if name else {}
    if last is not None:
        data["after"] = written(last, clock)
    data["forecast"] = ahead
    return data


def score_of(score: float, threshold: float, row: Sequence[float], names: Sequence[str]) -> dict[str, Any]:
    """The score of a row, and whether it is out of the ordinary, as JSON."""
    if np.isnan(score):
        return {"score": None, "anomaly": False}
    values = {name: (None if np.isnan(v) else float(v)) for name, v in zip(names, row, strict=True)}
    return {"score": round(score, 6), "anomaly": score > threshold, "values": values}


def surprise(x: Floats, median: Floats, width: Floats) -> Floats:
    """|x - median| over the deviation that the forecast had, `(..., M)`; NaN where x is missing."""
    return np.asarray(np.abs(x - median) / np.maximum(width / NORMAL, 1e-6))


def largest(scores: Floats) -> Floats:
    """The largest over targets `(..., M)`; NaN where all are."""
    largest = np.where(np.isnan(scores), -np.inf, scores).max(axis=-1)
    return np.asarray(np.where(np.isinf(largest), np.nan, largest))


def nearest(z: Floats, use: npt.NDArray[np.bool_], most: int) -> Floats:
    """The mean of the first `most` of h that are used and known: z, use `(..., h, M)` -> `(..., M)`; NaN of none."""
    total, count = np.zeros(z[..., 0, :].shape), np.zeros(z[..., 0, :].shape)
    for k in range(z.shape[-2]):
        own = use[..., k, :] & np.isfinite(z[..., k, :]) & (count < most)
        total += np.where(own, z[..., k, :], 0.0)
        count += own
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))


class Trust:
    """Whether forecasts made from the last h rows are trusted, `rows` `(h,)`, the latest first.

    One that is made from a flagged row, or from one of the `lags` behind it, has just read what is out of the
    ordinary: it counts only where no other forecast of a row was made.
    """

    def __init__(self, codec: Codec, threshold: float) -> None:
        """No row has been flagged."""
        self.rows = np.ones(codec.horizon, dtype=bool)
        self.threshold, self.lags, self.recent = threshold, codec.lags, codec.recent
        self.quiet = codec.lags

    def score(self, z: Floats) -> float:
        """Of a row, z `(h, M)` by the age of the forecasts; NaN where there is none."""
        known = np.isfinite(z)
        trusted = known & self.rows[:, None]
        use = np.where(trusted.any(axis=0), trusted, known)
        score = float(largest(nearest(z, use, self.recent)))
        self.quiet = 0 if score > self.threshold else self.quiet + 1
        self.rows = np.append(self.quiet >= self.lags, self.rows[:-1])
        return score


class Past:
    """The forecasts that were made for rows to come, as rows come one by one: the same scores as `row_scores`."""

    def __init__(self, codec: Codec, threshold: float) -> None:
        """Nothing has been forecast."""
        h = codec.horizon
        # By age of the forecast, the latest first, and by rows ahead.
        self.median = np.full((h, h, codec.targets), np.nan)
        self.width = self.median.copy()
        self.ages = np.arange(h)
        self.trust = Trust(codec, threshold)

    def score(self, x: Floats) -> float:
        """Of the row that comes, x scaled `(M,)`; NaN where there is none."""
        ages = self.ages
        return self.trust.score(surprise(x, self.median[ages, ages], self.width[ages, ages]))

    def add(self, q: Floats) -> None:
        """What is forecast behind that row, `(h, M, Q)`."""
        self.median = np.concatenate([q[None, ..., MEDIAN], self.median[:-1]])
        self.width = np.concatenate([(q[..., HIGH] - q[..., LOW])[None], self.width[:-1]])
