"""Sound that libsndfile does not read, by FFmpeg (PyAV): m4a, aac, amr, and the sound of videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ContainerError", "decoded"]

# Shorter than its own header says by so many seconds, beside a twentieth: coders add and drop some hundredths.
MISSING = 0.1


class ContainerError(Exception):
    """Sound that cannot be had; the message is a few words."""


def decoded(path: Path) -> tuple[npt.NDArray[np.float32], int]:
    """The samples `(N, C)` of the first sound of a file, and their rate in hertz. Raises ContainerError."""
    try:
        import av
    except ImportError:
        raise ContainerError(
            f"{path.suffix[1:]}, which is read by PyAV: pip install 'elman[audio]', or convert it to wav or flac"
        ) from None
    try:
        with av.open(str(path)) as file:
            if not file.streams.audio:
                raise ContainerError("file without sound in it")
            stream = file.streams.audio[0]
            said = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
            samples, rate = _samples(file, stream), int(stream.rate)
    except (OSError, ValueError):
        raise ContainerError("file that cannot be read as sound") from None
    if len(samples) / rate < 0.95 * said - MISSING:
        raise ContainerError("truncated recording")
    return samples, rate


def _samples(file: Any, stream: Any) -> npt.NDArray[np.float32]:
    import av

    # Decoders give numbers of many kinds; the rate and the channels stay.
    planes = av.AudioResampler(format="fltp")
    frames = [part for frame in file.decode(stream) for part in planes.resample(frame)]
    frames += planes.resample(None) if frames else []
    pieces = [frame.to_ndarray().T for frame in frames]
    if not pieces:
        return np.zeros((0, 1), dtype=np.float32)
    return np.ascontiguousarray(np.concatenate(pieces), dtype=np.float32)
