"""Sound from files: any format that libsndfile reads, any rate, any channels, as one channel of float numbers.

What is wrong with a recording is said in a few words and never replaced by silence: a file that is no sound, one that
is cut off, one without samples, one of silence, one with samples that are no numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elman.config import require
from elman.data.audio.containers import ContainerError, decoded
from elman.data.audio.mel import LARGEST
from elman.data.audio.whole import is_cut_off

__all__ = [
    "FOREIGN",
    "SUFFIXES",
    "Resampler",
    "SoundError",
    "check_sound",
    "mono",
    "rate_of",
    "read_sound",
    "resample",
]

Samples = npt.NDArray[np.float32]

# The files that are taken for recordings; others are opened where a table names them.
_SUFFIXES = """
.wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .snd .w64 .rf64 .caf .sph .nist .voc
"""
SUFFIXES = frozenset(_SUFFIXES.split())
# Sound that libsndfile does not read, and FFmpeg does.
FOREIGN = frozenset({".m4a", ".aac", ".mp4", ".wma", ".webm", ".amr"})
# Below this peak a recording is silence: a quarter of the smallest step of 16 bits.
SILENCE = 2.0**-17
# Where the mean of the channels has less than this part of their power, they cancel each other.
CANCELLED = 0.25


class SoundError(Exception):
    """A recording that cannot be used; the message is a few words, such as `silent recording`."""


def read_sound(
    path: Path, rate: int = 0, *, start: float = 0.0, end: float | None = None
) -> tuple[Samples, int]:
    """The samples `(N,)` in [-1, 1] of one channel, and their rate in hertz.

    rate: what they are resampled to (0: as they are). start, end: seconds; all of the file by default.
    Raises SoundError where the file, or this part of it, cannot be used.
    """
    require("soundfile", extra="audio", what="reading sound")
    check_whole(path)
    read = _read_foreign if path.suffix.lower() in FOREIGN else _read
    data, found = read(path, start, end)
    samples = mono(data)
    check_samples(samples)
    return (resample(samples, found, rate), rate) if rate and rate != found else (samples, found)


def _read(path: Path, start: float, end: float | None) -> tuple[Samples, int]:
    """`(N, C)`, by libsndfile."""
    import soundfile

    opened = False
    try:
        with soundfile.SoundFile(str(path)) as file:
            opened = True
            first, last = _segment(start, end, file.frames, file.samplerate)
            if first:
                file.seek(first)
            data = file.read(last - first, dtype="float32", always_2d=True)
            found = int(file.samplerate)
    except (soundfile.SoundFileError, OSError):
        what = "damaged or truncated recording" if opened else "file that cannot be read as sound"
        raise SoundError(what) from None
    if len(data) < last - first:
        raise SoundError("truncated recording")
    return data, found


def _read_foreign(path: Path, start: float, end: float | None) -> tuple[Samples, int]:
    """`(N, C)`, by FFmpeg."""
    try:
        data, found = decoded(path)
    except ContainerError as error:
        raise SoundError(str(error)) from None
    first, last = _segment(start, end, len(data), found)
    return data[first:last], found


def _segment(start: float, end: float | None, frames: int, rate: int) -> tuple[int, int]:
    """The first sample of a segment and the one behind its last. Raises SoundError where they are not there."""
    first = round(start * rate)
    last = frames if end is None else round(end * rate)
    if not 0 <= first <= last or last > frames + rate * 0.05:
        raise SoundError("segment outside of its recording")
    return first, min(last, frames)


def rate_of(path: Path) -> int:
    """The rate of a recording in hertz; 0 where it cannot be told."""
    import soundfile

    try:
        if path.suffix.lower() in FOREIGN:
            return decoded(path)[1]
        return int(soundfile.info(str(path)).samplerate)
    except (ContainerError, soundfile.SoundFileError, OSError):
        return 0


def check_sound(path: Path, *, start: float = 0.0, end: float | None = None) -> tuple[float, int]:
    """The length in seconds and the rate of a recording that can be used; SoundError for any other."""
    samples, rate = read_sound(path, start=start, end=end)
    return len(samples) / rate, rate


def check_samples(samples: Samples) -> None:
    """Raise SoundError for no samples at all, for samples that are no numbers, and for silence."""
    if not len(samples):
        raise SoundError("empty recording")
    if not np.isfinite(samples).all():
        raise SoundError("recording with samples that are no numbers")
    if float(np.abs(samples).max()) > LARGEST:
        raise SoundError(f"recording with samples beyond {LARGEST:g} times full scale")
    if float(samples.max() - samples.min()) < SILENCE:
        raise SoundError("silent recording")


def check_whole(path: Path) -> None:
    """Raise SoundError where a file is empty, or shorter than its header says."""
    try:
        if path.stat().st_size == 0:
            raise SoundError("empty file")
        if is_cut_off(path):
            raise SoundError("truncated recording")
    except OSError:
        raise SoundError("file that cannot be opened") from None


def mono(data: npt.NDArray[Any]) -> Samples:
    """One channel `(N,)` of several `(N, C)`: their mean, or the loudest where the mean would cancel them.

    Microphones of opposite phase cancel in the mean: then its power is less than a quarter of the channels' mean power.
    """
    if data.ndim == 1 or data.shape[1] == 1:
        return np.ascontiguousarray(data.reshape(len(data)), dtype=np.float32)
    powers = np.square(data - data.mean(axis=0), dtype=np.float64).mean(axis=0)
    mean = data.mean(axis=1, dtype=np.float64)
    if float(mean.var()) < CANCELLED * float(powers.mean()):
        return np.ascontiguousarray(data[:, int(powers.argmax())], dtype=np.float32)
    return np.asarray(mean, dtype=np.float32)


def resample(samples: Samples, rate: float, to: float) -> Samples:
    """The same sound at another rate, by soxr (high quality). Rates are in proportion: hertz, or a speed and 1."""
    require("soxr", extra="audio", what="another rate")
    import soxr

    return np.asarray(soxr.resample(samples, rate, to, quality="HQ"), dtype=np.float32)


class Resampler:
    """The same piece by piece; equal rates pass through."""

    def __init__(self, rate: int, to: int) -> None:
        """Take both rates in hertz."""
        self._stream: Any = None
        if rate != to:
            require("soxr", extra="audio", what="another rate")
            import soxr

            self._stream = soxr.ResampleStream(rate, to, 1, dtype="float32", quality="HQ")

    def __call__(self, samples: Samples, *, last: bool = False) -> Samples:
        """What has become known of the sound at the new rate; last: no more will come."""
        if self._stream is None:
            return samples
        return np.asarray(self._stream.resample_chunk(samples, last=last), dtype=np.float32)
