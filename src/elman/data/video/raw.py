"""Raw frames from a pipe: pictures of one size and one layout of pixels, byte behind byte, nothing in between."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np

from elman.config import require
from elman.data.pictures import Fitting, Pixels
from elman.data.video.decoding import Sampler
from elman.data.video.numbers import ClipError

__all__ = ["RawFormat", "RawLayout", "raw_pictures"]

RawLayout = Literal["rgb24", "bgr24", "rgba", "bgra", "gray", "yuv420p", "nv12", "yuyv422"]
# Bytes of a pixel, in FFmpeg's words for the layouts; those of cameras share colours between pixels.
BYTES: dict[RawLayout, Fraction] = {
    "rgb24": Fraction(3),
    "bgr24": Fraction(3),
    "rgba": Fraction(4),
    "bgra": Fraction(4),
    "gray": Fraction(1),
    "yuv420p": Fraction(3, 2),
    "nv12": Fraction(3, 2),
    "yuyv422": Fraction(2),
}


class RawFormat(NamedTuple):
    """width, height in pixels; layout: what the bytes of a picture are; rate: pictures a second."""

    width: int
    height: int
    layout: RawLayout = "rgb24"
    rate: float = 25.0

    @property
    def size(self) -> int:
        """Bytes of a picture."""
        return int(self.width * self.height * BYTES[self.layout])

    @property
    def shape(self) -> tuple[int, ...]:
        """The array that these are, as av takes it."""
        share = BYTES[self.layout]
        if self.layout in {"yuv420p", "nv12"}:
            return (self.height * 3 // 2, self.width)
        return (self.height, self.width, int(share)) if share > 1 else (self.height, self.width)


def raw_pictures(stream: BinaryIO, raw: RawFormat, rate: float, how: Fitting) -> Iterator[Pixels]:
    """The pictures at the times k / rate, each as soon as it is settled: the last that began at that time or before.

    Frame n begins at n / raw.rate. Raises ClipError where the stream ends within a frame.
    """
    require("av", extra="vision", what="reading raw frames")
    import av

    sampler = Sampler(rate, how)
    count = 0
    while held := _exactly(stream, raw.size):
        if len(held) < raw.size:
            raise ClipError(
                f"frame {count + 1} ends after {len(held):,} of {raw.size:,} bytes: {raw.width} x {raw.height} of "
                f"{raw.layout} may not be what comes"
            )
        pixels: Any = np.frombuffer(held, dtype=np.uint8).reshape(raw.shape)
        yield from sampler(count / raw.rate, av.VideoFrame.from_ndarray(pixels, format=raw.layout))
        count += 1
    yield from sampler.finish(count / raw.rate)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    """So many bytes; fewer where the stream ends."""
    found = b""
    while len(found) < size:
        piece = stream.read(size - len(found))
        if not piece:
            break
        found = found + piece if found else piece
    return found
