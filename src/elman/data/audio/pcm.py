"""Raw samples as they come by a pipe: their forms as numbers, and one channel of several."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from elman.data.audio.sound import CANCELLED

__all__ = ["WIDTHS", "Mixer", "pcm"]

Samples = npt.NDArray[np.float32]

# Bytes of a sample in each form.
WIDTHS = {"s16le": 2, "s24le": 3, "s32le": 4, "f32le": 4, "f64le": 8, "u8": 1, "mulaw": 1, "alaw": 1}
# Those that numpy knows, and the number that stands for full amplitude.
KINDS = {"s16le": ("<i2", 2.0**15), "s32le": ("<i4", 2.0**31), "f32le": ("<f4", 1.0), "f64le": ("<f8", 1.0)}


def pcm(raw: bytes, form: str, channels: int = 1) -> Samples:
    """Raw samples as numbers in [-1, 1], `(N, channels)`. form: a word of `WIDTHS`."""
    if form in KINDS:
        kind, full = KINDS[form]
        numbers = np.frombuffer(raw, dtype=kind) / full
    elif form == "s24le":
        three = np.frombuffer(raw, dtype="u1").reshape(-1, 3)
        four = np.zeros((len(three), 4), dtype="u1")
        four[:, 1:] = three
        numbers = four.view("<i4")[:, 0] / 2.0**31
    else:
        octets = np.frombuffer(raw, dtype="u1").astype(np.int64)
        numbers = {"u8": _linear, "mulaw": _mulaw, "alaw": _alaw}[form](octets)
    with np.errstate(over="ignore"):
        return np.asarray(numbers.reshape(-1, channels), dtype=np.float32)


def _linear(octets: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.asarray((octets - 128) / 2.0**7)


def _mulaw(octets: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """ITU-T G.711, μ-law: sign, three bits of exponent, four of mantissa, all inverted."""
    bits = 255 - octets
    size = ((((bits & 15) << 3) + 132) << (bits >> 4 & 7)) - 132
    return np.asarray(np.where(bits & 128, -size, size) / 2.0**15)


def _alaw(octets: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """ITU-T G.711, A-law: every second bit inverted."""
    bits = octets ^ 0x55
    exponent = bits >> 4 & 7
    size = ((bits & 15) << 4) + np.where(exponent > 0, 264, 8)
    size = size << np.maximum(exponent - 1, 0)
    return np.asarray(np.where(bits & 128, size, -size) / 2.0**15)


class Mixer:
    """One channel of several while they come, as `sound.mono` makes it of a whole recording.

    What decides, the power of each channel and that of their mean, is taken over the samples so far, sample by sample:
    so the size of the pieces changes nothing, and nothing waits.
    """

    def __init__(self, channels: int) -> None:
        self._count = 0
        # Of each channel and of their mean.
        self._sums = np.zeros((1, channels + 1))
        self._squares = np.zeros((1, channels + 1))

    def __call__(self, data: Samples) -> Samples:
        """The next samples `(N, C)` as one channel `(N,)`."""
        N, C = data.shape
        if C == 1 or not N:
            return np.ascontiguousarray(data[:, 0])
        x = data.astype(np.float64)
        x = np.column_stack((x, x.mean(axis=1)))
        sums = np.concatenate((self._sums, x)).cumsum(axis=0)
        squares = np.concatenate((self._squares, x**2)).cumsum(axis=0)
        self._sums, self._squares = sums[-1:].copy(), squares[-1:].copy()
        n = self._count + np.arange(1, N + 1)[:, None]
        self._count += N
        power = squares[1:] / n - (sums[1:] / n) ** 2
        cancels = power[:, C] < CANCELLED * power[:, :C].mean(axis=1)
        loudest = x[np.arange(N), power[:, :C].argmax(axis=1)]
        return np.where(cancels, loudest, x[:, C]).astype(np.float32)
