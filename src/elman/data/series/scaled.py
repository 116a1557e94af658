"""Series as the network reads them: scaled by what was seen in training, with what is known ahead; the linear map."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.data.series.frames import Frame, Layout, since_of
from elman.data.series.stamps import Clock, Step, calendar

__all__ = ["Codec", "Numbers", "RidgeMap", "Scale", "encode", "static_features"]

Floats = npt.NDArray[np.float64]


class RidgeMap(NamedTuple):
    """weight `(M, h, p)`, bias `(M, h)`; relative: values are taken, and told, from the last one on.

    spread `(M, h)`: the root of the mean square of the errors in training. strength: of the penalty.
    """

    weight: Floats
    bias: Floats
    spread: Floats
    relative: bool
    strength: float

    def __call__(self, windows: Floats) -> Floats:
        """Windows `(N, M, p)` -> forecasts `(N, h, M)`."""
        anchor = windows[..., -1:] if self.relative else np.zeros_like(windows[..., -1:])
        found = np.einsum("nmp,mhp->nhm", windows - anchor, self.weight) + self.bias.T
        return np.asarray(found + np.swapaxes(anchor, 1, 2))


class Scale(NamedTuple):
    """Mean and deviation of each channel `(C,)`."""

    mean: Floats
    deviation: Floats

    def down(self, values: Floats) -> Floats:
        """To the network's scale; the first channels where there are fewer."""
        C = values.shape[-1]
        return np.asarray((values - self.mean[:C]) / self.deviation[:C])

    def up(self, values: Floats) -> Floats:
        """Back, `(..., M)`."""
        M = values.shape[-1]
        return np.asarray(values * self.deviation[:M] + self.mean[:M])


@dataclass(frozen=True)
class Codec:
    """What the use of the model needs beside its weights; all of it learnt from the training rows.

    scales: by the name of the series, "" stands for one that is not known. naive `(M,)`: by series, what MASE is
    measured in. change `(C,)`: the deviation of a scaled channel's change from value to value. ends: the last time
    that the training data have of each series. missing: whether values were missing in training.
    """

    target: str
    layout: Layout
    step: Step
    clock: Clock
    horizon: int
    season: int
    lags: int
    scales: dict[str, Scale]
    naive: dict[str, Floats]
    change: Floats
    map: RidgeMap
    missing: bool
    calendar: tuple[str, ...]
    statics: dict[str, Any] = field(default_factory=dict)
    ends: dict[str, float] = field(default_factory=dict)
    counts: bool = False
    recent: int = 3

    @property
    def channels(self) -> int:
        """C: targets and what is known to now."""
        return len(self.layout.channels) - len(self.layout.future)

    @property
    def targets(self) -> int:
        """M."""
        return self.channels - len(self.layout.past)

    @property
    def known(self) -> int:
        """K: the calendar of the next row, what was known ahead of this one, static features, an irregular gap."""
        words = sum(len(own.get("words", [0])) for own in self.statics.values())
        return len(self.calendar) + len(self.layout.future) + words + (self.step.kind == "irregular")

    @property
    def ahead(self) -> int:
        """A: what is known ahead of all h rows."""
        return len(self.layout.future) * self.horizon

    def scale(self, name: str) -> Scale:
        """Of a series, or of all where it is not known."""
        return self.scales.get(name, self.scales[""])

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "target": self.target,
            "layout": self.layout.to_json(),
            "step": list(self.step),
            "clock": list(self.clock),
            "horizon": self.horizon,
            "season": self.season,
            "lags": self.lags,
            "scales": {name: [part.tolist() for part in scale] for name, scale in self.scales.items()},
            "naive": {name: [_plain(v) for v in values] for name, values in self.naive.items()},
            "change": self.change.tolist(),
            "map": [part.tolist() if isinstance(part, np.ndarray) else part for part in self.map],
            "missing": self.missing,
            "calendar": list(self.calendar),
            "statics": self.statics,
            "ends": self.ends,
            "counts": self.counts,
            "recent": self.recent,
        }

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Codec:
        """What `to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        weight, bias, spread, relative, strength = saved["map"]
        return cls(
            saved["target"],
            Layout.from_json(saved["layout"]),
            Step(*saved["step"]),
            Clock(*saved["clock"]),
            saved["horizon"],
            saved["season"],
            saved["lags"],
            {name: Scale(np.array(mean), np.array(dev)) for name, (mean, dev) in saved["scales"].items()},
            {
                name: np.array([np.nan if value is None else value for value in values])
                for name, values in saved["naive"].items()
            },
            np.array(saved["change"]),
            RidgeMap(np.array(weight), np.array(bias), np.array(spread), relative, strength),
            saved["missing"],
            tuple(saved["calendar"]),
            saved["statics"],
            saved["ends"],
            saved["counts"],
            saved.get("recent", 3),
        )


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


class Numbers(NamedTuple):
    """A frame as the network reads it: x, since `(T, C)`, x NaN where missing; known `(T, K)`; ahead `(T, A)`."""

    x: Floats
    since: Floats
    known: Floats
    ahead: Floats


def encode(frame: Frame, codec: Codec) -> Numbers:
    """A frame as the network reads it. Row t holds nothing of a later row but what is known ahead."""
    C, F = codec.channels, len(codec.layout.future)
    scale = codec.scale(frame.name)
    scaled = scale.down(frame.values)
    x = scaled[:, :C]
    since = since_of(~np.isnan(x), frame.gap)
    T = len(frame)
    future = np.nan_to_num(scaled[:, C:], nan=0.0)
    padded = np.concatenate([future, np.zeros((codec.horizon, F))])
    pieces = [future, static_features(frame.static, codec, T)]
    if codec.calendar:
        following = (
            np.append(frame.times[1:], frame.step.after(float(frame.times[-1]), 1)) if T else frame.times
        )
        pieces.insert(0, calendar(following, frame.step, frame.clock)[1])
    if codec.step.kind == "irregular":
        pieces.append(np.log1p(frame.gap)[:, None])
    rows = np.arange(T)[:, None] + np.arange(1, codec.horizon + 1)
    ahead = padded[rows].reshape(T, -1) if F else np.zeros((T, 0))
    return Numbers(x, since, np.concatenate(pieces, axis=1), ahead)


def static_features(static: dict[str, Any], codec: Codec, rows: int) -> Floats:
    """Static features of a series `(T, S)`: scaled numbers, a place for each word."""
    values: list[float] = []
    for column, known in codec.statics.items():
        value = static.get(column)
        if "words" in known:
            values += [float(str(value) == word) for word in known["words"]]
        else:
            number = value if isinstance(value, float) else known["mean"]
            values.append((number - known["mean"]) / known["deviation"])
    return np.tile(np.array(values, dtype=np.float64), (rows, 1))
