"""Training recordings made more various, on their log-mel features `(T, F)`: cheap, and drawn from a given generator.

In the logarithm a filter is a sum, so that equalization and loudness are curves added to all frames; noise adds power.
Speeds are made from the samples (`elman.data.audio.sound.resample`), since they move pitch and time together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Augmentation", "augment", "equalize", "mask", "noise", "warp"]

Floats = npt.NDArray[np.float32]
Generator = np.random.Generator


class Augmentation(NamedTuple):
    """How much of each; 0 leaves it out.

    gain: standard deviation of the loudness, in nats of power. equalizer: of a smooth curve over the bands. noise:
    share of the recordings that get noise. warp: largest stretch of the mel axis. time_masks, time_width, band_masks,
    band_width: how many strips are blanked out, and how wide they are at most, in frames and in bands.
    """

    gain: float = 0.0
    equalizer: float = 0.0
    noise: float = 0.0
    warp: float = 0.0
    time_masks: int = 0
    time_width: int = 0
    band_masks: int = 0
    band_width: int = 0


def augment(x: Floats, how: Augmentation, fill: Floats, generator: Generator) -> Floats:
    """x with everything that is asked for; fill: what a blanked band holds, `(F,)`."""
    if how.warp:
        x = warp(x, 1 + generator.uniform(-how.warp, how.warp))
    if how.noise and generator.random() < how.noise:
        x = noise(x, generator)
    if how.equalizer or how.gain:
        x = x + equalize(x.shape[1], how.equalizer, how.gain, generator)
    if how.time_masks or how.band_masks:
        x = mask(x, how, fill, generator)
    return x


def warp(x: Floats, factor: float) -> Floats:
    """The bands as those of a longer or shorter vocal tract (Jaitly & Hinton 2013): band m is read at m · factor."""
    F = x.shape[1]
    at = np.clip(np.arange(F) * factor, 0, F - 1)
    low = np.minimum(at.astype(np.int64), F - 2) if F > 1 else np.zeros(F, dtype=np.int64)
    share = (at - low).astype(np.float32)
    high = np.minimum(low + 1, F - 1)
    return np.asarray(x[:, low] * (1 - share) + x[:, high] * share, dtype=np.float32)


def equalize(bands: int, equalizer: float, gain: float, generator: Generator) -> Floats:
    """A smooth curve over the bands `(F,)`: four cosines, each with a coefficient ~ N(0, equalizer²), and a level."""
    at = (np.arange(bands) + 0.5) / bands
    waves = np.cos(np.pi * np.arange(1, 5)[:, None] * at)
    return np.asarray(
        generator.normal(0, 1, 4) * equalizer @ waves + generator.normal(0, 1) * gain, dtype=np.float32
    )


def noise(x: Floats, generator: Generator) -> Floats:
    """Stationary noise of a smooth spectrum, 5 to 30 dB below the recording's mean power, added as power.

    x' = log(e^x + e^n g),    g ~ Gamma(4) / 4: how the power of noise varies from frame to frame
    """
    level = np.log(np.exp(x.astype(np.float64)).mean()) - generator.uniform(5, 30) * np.log(10) / 10
    curve = level + equalize(x.shape[1], 0.8, 0.0, generator)
    varied = generator.gamma(4.0, 0.25, size=x.shape)
    return np.asarray(np.logaddexp(x, curve + np.log(varied)), dtype=np.float32)


def mask(x: Floats, how: Augmentation, fill: Floats, generator: Generator) -> Floats:
    """Strips of time and of bands blanked out (SpecAugment, Park et al. 2019, without its time warp)."""
    x = x.copy()
    T, F = x.shape
    for _ in range(how.band_masks):
        width = int(generator.integers(0, min(how.band_width, F) + 1))
        begin = int(generator.integers(0, F - width + 1))
        x[:, begin : begin + width] = fill[begin : begin + width]
    for _ in range(how.time_masks):
        # A strip takes a fifth of a recording at most, so that a short one keeps its words.
        width = int(generator.integers(0, min(how.time_width, T // 5) + 1))
        begin = int(generator.integers(0, T - width + 1))
        x[begin : begin + width] = fill
    return x
