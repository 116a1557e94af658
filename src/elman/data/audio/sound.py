"""Sound from files: any format that libsndfile reads, any rate, any channels, as one channel of float numbers.

What is wrong with a recording is said in a few words and never replaced by silence: a file that is no sound, one that
is cut off, one without samples, one of silence, one with samples that are no numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from elman.config import require

__all__ = [
    "FOREIGN",
    "SUFFIXES",
    "Resampler",
    "SoundError",
    "check_sound",
    "mono",
    "pcm",
    "read_sound",
    "resample",
]

Samples = npt.NDArray[np.float32]

# The files that are taken for recordings; others are opened where a table names them.
_SUFFIXES = """
.wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .snd .w64 .rf64 .caf .sph .nist .voc
"""
SUFFIXES = frozenset(_SUFFIXES.split())
# Sound that libsndfile does not read: taken for recordings too, so that they are named.
FOREIGN = frozenset({".m4a", ".aac", ".mp4", ".wma", ".webm", ".amr"})
# Below this peak a recording is silence: a quarter of the smallest step of 16 bits.
SILENCE = 2.0**-17
# Sizes that writers into a pipe leave in a header that they could not go back to.
UNKNOWN_SIZES = frozenset({0, 0x7FFFFFFF, 0x7FFFF000, 0xFFFFFFFF, 0xFFFFF000})
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
    import soundfile

    check_whole(path)
    try:
        with soundfile.SoundFile(str(path)) as file:
            first = round(start * file.samplerate)
            last = file.frames if end is None else round(end * file.samplerate)
            if not 0 <= first <= last or last > file.frames + file.samplerate * 0.05:
                raise SoundError("segment outside of its recording")
            last = min(last, file.frames)
            if first:
                file.seek(first)
            data = file.read(last - first, dtype="float32", always_2d=True)
            found, of = int(file.samplerate), last - first
    except (soundfile.SoundFileError, OSError):
        if path.suffix.lower() in FOREIGN:
            raise SoundError(f"{path.suffix[1:]}, which cannot be read: convert it to wav or flac") from None
        raise SoundError("file that cannot be read as sound") from None
    if len(data) < of:
        raise SoundError("truncated recording")
    samples = mono(data)
    check_samples(samples)
    return (resample(samples, found, rate), rate) if rate and rate != found else (samples, found)


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
    if float(samples.max() - samples.min()) < SILENCE:
        raise SoundError("silent recording")


def check_whole(path: Path) -> None:
    """Raise SoundError where a WAV file is shorter than its header says; libsndfile reads it without a word."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size == 0:
                raise SoundError("empty file")
            if file.read(4) != b"RIFF":
                return
            file.seek(12)
            for name, length, at in _chunks(file):
                if name == b"data":
                    if length not in UNKNOWN_SIZES and at + length > size:
                        raise SoundError("truncated recording")
                    return
    except OSError:
        raise SoundError("file that cannot be opened") from None


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Name, length and place of each chunk of a RIFF file."""
    while len(head := file.read(8)) == 8:
        name, length = struct.unpack("<4sI", head)
        at = file.tell()
        yield name, length, at
        file.seek(at + length + length % 2)


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


# The forms of raw samples, and the number that stands for full amplitude.
PCM = {"s16le": ("<i2", 2.0**15), "s32le": ("<i4", 2.0**31), "f32le": ("<f4", 1.0), "u8": ("u1", 2.0**7)}


def pcm(raw: bytes, form: str, channels: int = 1) -> Samples:
    """Raw samples as numbers in [-1, 1]; of several channels the first. form: a word of `PCM`."""
    kind, full = PCM[form]
    numbers = np.frombuffer(raw, dtype=kind).reshape(-1, channels)[:, 0].astype(np.float32)
    return np.asarray((numbers - (128 if form == "u8" else 0)) / full, dtype=np.float32)
