r"""Features brought to one level: by the training data, by a speaker, by a recording, or by what has been heard so far.

    z_t = (x_t − m_t) / s_t

    global      m = μ, the mean of the training frames; s = σ, their deviation about the means of their recordings
    recording   m = (κ μ + Σ_r x_r) / (κ + n),  s² = (κ σ² + Σ_r (x_r − m)²) / (κ + n)      over the n frames of it
    speaker     the same over all recordings of the speaker
    running     m_t = (κ μ + Σ_{r≤t} x_r) / (κ + t),  s = σ      over the frames up to now: what a stream can do

κ frames of the training data's level stand in front, so that little is made of little.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Level", "Normalization", "RunningNormalizer", "Statistics"]

Normalization = Literal["global", "recording", "speaker", "running"]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
# κ, and the least deviation, so that a band in which nothing happens stays finite.
PRIOR, LEAST = 50.0, 1e-3


class Level(NamedTuple):
    """m and s, `(F,)` each."""

    mean: Floats
    deviation: Floats

    def apply(self, x: Floats) -> Floats:
        """z."""
        return np.asarray((x - self.mean) / self.deviation, dtype=np.float32)


class Statistics(NamedTuple):
    """μ and σ of the training frames, `(F,)` each."""

    mean: Floats
    deviation: Floats

    @classmethod
    def learn(cls, recordings: list[Floats]) -> Statistics:
        """From the features `(T, F)` of the training recordings."""
        total = sum((x.sum(axis=0, dtype=np.float64) for x in recordings), np.zeros(recordings[0].shape[1]))
        count = sum(len(x) for x in recordings)
        spread = sum(
            (np.square(x - x.mean(axis=0)).sum(axis=0, dtype=np.float64) for x in recordings), 0.0 * total
        )
        deviation = np.maximum(np.sqrt(spread / count), LEAST)
        return cls((total / count).astype(np.float32), deviation.astype(np.float32))

    def level(self, recordings: list[Floats], prior: float = PRIOR) -> Level:
        """m and s of the frames of some recordings, `(T, F)` each."""
        count = prior + sum(len(x) for x in recordings)
        mean = (prior * self.mean + sum(x.sum(axis=0, dtype=np.float64) for x in recordings)) / count
        spread = sum(np.square(x - mean).sum(axis=0) for x in recordings)
        deviation = np.sqrt((prior * np.square(self.deviation, dtype=np.float64) + spread) / count)
        return Level(mean.astype(np.float32), np.maximum(deviation, LEAST).astype(np.float32))

    def normalize(self, x: Floats, kind: Normalization, speaker: Level | None = None) -> Floats:
        """z of a whole recording `(T, F)`; speaker: the level of its speaker, where that is known."""
        if kind == "running":
            return RunningNormalizer(self)(x)
        if kind == "global":
            return Level(*self).apply(x)
        known = speaker if kind == "speaker" and speaker is not None else self.level([x])
        return known.apply(x)

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {"mean": [float(v) for v in self.mean], "deviation": [float(v) for v in self.deviation]}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Statistics:
        """What `to_json` wrote."""
        return cls(*(np.array(saved[name], dtype=np.float32) for name in ("mean", "deviation")))


class RunningNormalizer:
    """`running`, piece by piece: the sums are carried on."""

    def __init__(self, statistics: Statistics, prior: float = PRIOR) -> None:
        """Begin a recording."""
        self.statistics, self.prior = statistics, prior
        self.total: Doubles = np.zeros(len(statistics.mean))
        self.count = 0

    def __call__(self, x: Floats) -> Floats:
        """z of the next frames `(T, F)`."""
        if not len(x):
            return x
        # One sum from the first frame on, so that it does not matter how the frames are cut into calls.
        sums = np.concatenate((self.total[None], x)).cumsum(axis=0)[1:]
        counts = self.count + np.arange(1, len(x) + 1)[:, None]
        self.total, self.count = sums[-1], self.count + len(x)
        centres = (self.prior * self.statistics.mean + sums) / (self.prior + counts)
        return np.asarray((x - centres) / self.statistics.deviation, dtype=np.float32)
