r"""Log-mel features: how loud a sound is, window by window, in bands as wide as the ear's.

    y_n = x_n − p x_{n−1}                                   pre-emphasis
    S_t(k) = |Σ_n w_n y_{t·hop + n} exp(−2πi k n / N)|²     Hann window w, N the next power of two
    X_t(m) = log max(Σ_k B_m(k) S_t(k), floor)              triangles B_m, evenly spaced on the mel scale

mel(f) = 2595 log10(1 + f / 700) (O'Shaughnessy 1987, as in HTK). A triangle rises from the centre of its left
neighbour to 1 at its own centre, and falls to the centre of the right one. Frame t begins at sample t·hop: nothing is
padded at the ends, so that a frame is known as soon as its last sample is; a sound shorter than a window has one frame,
filled with zeros.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LARGEST", "LogMel", "LogMelStream", "Mel", "mel_bank"]

Floats = npt.NDArray[np.float32]
# Beyond this a number is no sample of any scale, and its square no number any more.
LARGEST = 1e9
# Frames that are computed at once.
BLOCK = 1 << 14


class Mel(NamedTuple):
    """What features are made with: rate in hertz, window and hop in samples, edges of the bands in hertz."""

    rate: int
    window: int
    hop: int
    bands: int
    low: float
    high: float
    emphasis: float = 0.97
    floor: float = 1e-8

    @property
    def size(self) -> int:
        """N, the length of the transform."""
        return 1 << (self.window - 1).bit_length()

    def frames(self, samples: int) -> int:
        """How many frames so many samples have."""
        return 0 if samples == 0 else max(1, 1 + (samples - self.window) // self.hop)


def mel_bank(mel: Mel) -> npt.NDArray[np.float64]:
    """B `(bands, N / 2 + 1)`."""

    def to_mel(hertz: Any) -> Any:
        return 2595 * np.log10(1 + np.asarray(hertz) / 700)

    edges = 700 * (10 ** (np.linspace(to_mel(mel.low), to_mel(mel.high), mel.bands + 2) / 2595) - 1)
    bins = np.arange(mel.size // 2 + 1) * mel.rate / mel.size
    rise = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.asarray(np.clip(np.minimum(rise, fall), 0, None))


@functools.lru_cache(maxsize=4)
def _constants(mel: Mel) -> tuple[Tensor, Tensor]:
    """The window `(window,)` and the bank `(N / 2 + 1, bands)`."""
    import torch

    window = torch.hann_window(mel.window, periodic=True)
    return window, torch.from_numpy(mel_bank(mel).T.astype(np.float32).copy())


class LogMel:
    """The features of whole sounds."""

    def __init__(self, mel: Mel) -> None:
        """Take the parameters. Raises ValueError for a band without a point of the transform."""
        if not mel_bank(mel).sum(axis=1).all():
            raise ValueError(
                f"{mel.bands} bands from {mel.low:g} to {mel.high:g} Hz are too narrow for a window of "
                f"{1000 * mel.window / mel.rate:g} ms; take fewer bands, or a longer window"
            )
        self.mel = mel

    def __call__(self, samples: Floats) -> Floats:
        """X `(T, bands)` of samples `(N,)`."""
        if len(samples) == 0:
            return np.zeros((0, self.mel.bands), dtype=np.float32)
        emphasized = self.emphasize(samples, float(samples[0]))
        short = self.mel.window - len(samples)
        return self.of_emphasized(np.pad(emphasized, (0, short)) if short > 0 else emphasized)

    def emphasize(self, samples: Floats, before: float) -> Floats:
        """y of samples in front of which the sample `before` lies."""
        shifted = np.concatenate((np.array([before], dtype=np.float32), samples[:-1]))
        return np.asarray(samples - np.float32(self.mel.emphasis) * shifted, dtype=np.float32)

    def of_emphasized(self, samples: Floats) -> Floats:
        """X of all whole windows in y."""
        import torch

        mel = self.mel
        if len(samples) < mel.window:
            return np.zeros((0, mel.bands), dtype=np.float32)
        window, bank = _constants(mel)
        frames = torch.from_numpy(np.ascontiguousarray(samples)).unfold(0, mel.window, mel.hop)
        found = []
        for block in frames.split(BLOCK):
            spectrum = torch.fft.rfft(block * window, n=mel.size)
            power = spectrum.real.square() + spectrum.imag.square()
            found.append((power @ bank).clamp_(min=mel.floor).log_())
        return np.asarray(torch.cat(found).numpy() if len(found) > 1 else found[0].numpy())


class LogMelStream:
    """The same features as the samples come, each frame as soon as its last sample is there.

    rest: y of the samples that no whole window has had yet, fewer than a window. before: the last sample, None before
    the first. given: whether there was a frame.
    """

    def __init__(self, mel: Mel | LogMel) -> None:
        """Begin a sound; by torch, or as a `LogMel` computes it."""
        self.log_mel = mel if isinstance(mel, LogMel) else LogMel(mel)
        self.rest = np.zeros(0, dtype=np.float32)
        self.before: float | None = None
        self.given = False

    def __call__(self, samples: Floats) -> Floats:
        """X `(T, bands)` of the frames that have become whole."""
        if len(samples) == 0:
            return np.zeros((0, self.log_mel.mel.bands), dtype=np.float32)
        before = float(samples[0]) if self.before is None else self.before
        self.before = float(samples[-1])
        whole = np.concatenate((self.rest, self.log_mel.emphasize(samples, before)))
        frames = self.log_mel.of_emphasized(whole)
        self.rest = whole[len(frames) * self.log_mel.mel.hop :]
        self.given = self.given or len(frames) > 0
        return frames

    def finish(self) -> Floats:
        """The only frame of a sound that was shorter than a window; else nothing."""
        short = self.log_mel.mel.window - len(self.rest)
        if self.given or not len(self.rest):
            return np.zeros((0, self.log_mel.mel.bands), dtype=np.float32)
        return self.log_mel.of_emphasized(np.pad(self.rest, (0, short)))
