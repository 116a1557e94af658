r"""Features brought to one level: by the training data, by a speaker, by a recording, or by what has been heard so far.

    z_t = (x_t − m_t) / s        s: the standard deviation of the training frames about their recordings' means

    global      m_t = μ, the mean of the training frames
    recording   m_t = (κ μ + Σ_r x_r) / (κ + n)      over the n frames of the recording
    speaker     the same over all recordings of the speaker
    running     m_t = (κ μ + Σ_{r≤t} x_r) / (κ + t)  over the frames up to now: what a stream can do

κ frames of the training mean stand in front, so that little is made of little.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Normalization", "RunningNormalizer", "Statistics"]

Normalization = Literal["global", "recording", "speaker", "running"]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
# κ, and the least deviation, so that a band in which nothing happens stays finite.
PRIOR, LEAST = 50.0, 1e-3


class Statistics(NamedTuple):
    """μ and s of the training frames, `(F,)` each."""

    mean: Floats
    deviation: Floats

    @classmethod
    def learn(cls, recordings: list[Floats]) -> Statistics:
        """From the features `(T, F)` of the training recordings."""
        total = sum((x.sum(axis=0, dtype=np.float64) for x in recordings), np.zeros(recordings[0].shape[1]))
        count = sum(len(x) for x in recordings)
        about = sum(
            (np.square(x - x.mean(axis=0)).sum(axis=0, dtype=np.float64) for x in recordings), 0.0 * total
        )
        deviation = np.maximum(np.sqrt(about / count), LEAST)
        return cls((total / count).astype(np.float32), deviation.astype(np.float32))

    def centre(self, total: Doubles, count: int, prior: float = PRIOR) -> Floats:
        """m of frames that sum to `total`."""
        return np.asarray((prior * self.mean + total) / (prior + count), dtype=np.float32)

    def apply(self, x: Floats, centre: Floats) -> Floats:
        """z."""
        return np.asarray((x - centre) / self.deviation, dtype=np.float32)

    def normalize(self, x: Floats, kind: Normalization, speaker: Floats | None = None) -> Floats:
        """z of a whole recording `(T, F)`; speaker: m of its speaker, where that is known (else of the recording)."""
        if kind == "running":
            return RunningNormalizer(self)(x)
        if kind == "global":
            return self.apply(x, self.mean)
        known = speaker if kind == "speaker" and speaker is not None else None
        return self.apply(x, self.centre(x.sum(axis=0, dtype=np.float64), len(x)) if known is None else known)

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
        sums = self.total + np.cumsum(x, axis=0, dtype=np.float64)
        counts = self.count + np.arange(1, len(x) + 1)[:, None]
        self.total, self.count = sums[-1], self.count + len(x)
        centres = (self.prior * self.statistics.mean + sums) / (self.prior + counts)
        return self.statistics.apply(x, centres.astype(np.float32))
