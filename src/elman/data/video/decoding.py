"""Videos as pictures: sampled by time, turned as they are meant to be seen, whole or as they come.

What is wrong with a video is said in a few words and never replaced by empty pictures.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.config import require
from elman.data.pictures import Fitting, fitted
from elman.data.video.numbers import ClipError

__all__ = ["Probe", "Sampler", "decode", "pictures_of", "probe", "sample_times"]

Pixels = npt.NDArray[np.uint8]
# A video whose pictures end so much sooner than it says is cut off: this share of it, and so many seconds.
SHORT, LEAST = 0.1, 0.5
# Pixels of a picture up to which one thread decodes.
SMALL = 320 * 240


class Probe(NamedTuple):
    """seconds: from the first picture to the end of the last; how many pictures; (height, width) as they are seen."""

    seconds: float
    frames: int
    size: tuple[int, int]


def probe(path: Path) -> Probe:
    """What a video says of itself, its pictures but for the first not decoded. Raises ClipError."""
    stamps: list[float] = []
    last = 0.0
    with _Opened(path) as opened:
        said = opened.said_seconds()
        first = next(opened.pictures(), None)
        if first is None:
            raise ClipError("video without pictures")
        opened.again()
        base = float(opened.stream.time_base or 0)
        for packet in opened.packets():
            if packet.size and (packet.pts is not None or packet.dts is not None):
                stamps.append(float(packet.pts if packet.pts is not None else packet.dts) * base)
                last = max(last, float(packet.duration or 0) * base)
    if not stamps:
        raise ClipError("video without pictures")
    usual = (max(stamps) - min(stamps)) / max(len(stamps) - 1, 1)
    seconds = max(stamps) - min(stamps) + (last if 0 < last < 10 * max(usual, 0.1) else usual)
    if said - seconds > max(LEAST, SHORT * said):
        raise ClipError(f"video that breaks off after {seconds:.1f} of {said:.1f} seconds")
    return Probe(seconds, len(stamps), first.pixels.shape[:2])


def sample_times(seconds: float, rate: float, start: float = 0.0, end: float | None = None) -> list[float]:
    """start, start + 1 / rate, ... before the end: the times that are looked at, one at least."""
    until = seconds if end is None else min(end, seconds)
    count = max(1, math.ceil((until - start) * rate - 1e-6))
    return [start + k / rate for k in range(count)]


class Shown(NamedTuple):
    """A picture `(H, W, 3)`, and its time in seconds from the first one's."""

    time: float
    pixels: Pixels


class _Opened:
    """A video that is open; every way in which it fails is a ClipError."""

    def __init__(self, source: Any) -> None:
        self.source = source

    def __enter__(self) -> _Opened:
        require("av", extra="vision", what="reading videos")
        import av

        if isinstance(self.source, Path) and self.source.is_file() and not self.source.stat().st_size:
            raise ClipError("empty file")
        try:
            self.container = av.open(str(self.source) if isinstance(self.source, Path) else self.source)
        except FileNotFoundError:
            raise ClipError("no such clip") from None
        except (OSError, ValueError) as error:
            raise ClipError(_said(error)) from None
        if not self.container.streams.video:
            sound = ", sound alone" * bool(self.container.streams.audio)
            self.container.close()
            raise ClipError(f"no picture in it{sound}")
        self.stream = self.container.streams.video[0]
        if self.stream.width * self.stream.height <= SMALL:
            # To start threads takes longer than to decode.
            self.stream.codec_context.thread_count = 1
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    def said_seconds(self) -> float:
        """How long the pictures are by the file's own word; 0 where it says nothing of them alone."""
        if self.stream.duration and self.stream.time_base:
            return float(self.stream.duration * self.stream.time_base)
        alone = len(self.container.streams) == 1
        return (self.container.duration or 0) / 1e6 if alone else 0.0

    def again(self) -> None:
        """Back to the start."""
        try:
            self.container.seek(0)
        except OSError:
            self.container.close()
            self.__enter__()

    def packets(self) -> Iterator[Any]:
        """What the file holds of the pictures."""
        try:
            yield from self.container.demux(self.stream)
        except (OSError, ValueError) as error:
            raise ClipError(_said(error)) from None

    def frames(self) -> Iterator[tuple[float, Any]]:
        """Times and pictures as the decoder has them; one without a time comes a frame behind the last."""
        rate = float(self.stream.average_rate or 25)
        base: float | None = None
        time = -1 / rate
        try:
            for frame in self.container.decode(self.stream):
                stamp = frame.time
                if stamp is not None and base is None:
                    base = stamp
                time = stamp - base if stamp is not None and base is not None else time + 1 / rate
                yield time, frame
        except (OSError, ValueError) as error:
            raise ClipError(_said(error)) from None

    def pictures(self) -> Iterator[Shown]:
        """All pictures in order."""
        for time, frame in self.frames():
            yield Shown(time, seen(frame))


_own = threading.local()


def seen(frame: Any) -> Pixels:
    """A frame as RGB, turned by what the file says."""
    if not hasattr(_own, "reformatter"):
        from av.video.reformatter import VideoReformatter

        # Each frame would make one of its own, which takes ten times as long as its work.
        _own.reformatter = VideoReformatter()
    pixels: Pixels = _own.reformatter.reformat(frame, format="rgb24").to_ndarray()
    turns = round((getattr(frame, "rotation", 0) or 0) / 90)
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns % 4 else pixels


def _said(error: Exception) -> str:
    text = str(error).lower()
    if "moov" in text or "invalid data" in text or "end of file" in text:
        return "truncated or damaged video, or none"
    return "video that cannot be read"


def decode(path: Path, times: Sequence[float], how: Fitting) -> Pixels:
    """The pictures `(T, height, width, 3)` that are on the screen at some times, ascending.

    The picture at t is the last that began at t or before, by the times in the file and never by its number, so that a
    rate that varies does not matter. Raises ClipError where the video breaks off before the last of them.
    """
    found: list[Pixels] = []
    held: Any = None
    last = 0.0
    with _Opened(path) as opened:
        for time, frame in opened.frames():
            found += _until(times[len(found) :], time, held, how)
            held, last = frame, time
            if len(found) == len(times):
                break
    if held is None:
        raise ClipError("video without pictures")
    if times[-1] - last > max(LEAST, SHORT * times[-1]) and len(found) < len(times):
        raise ClipError(f"video that breaks off after {last:.1f} of {times[-1]:.1f} seconds")
    found += _until(times[len(found) :], math.inf, held, how)
    return np.stack(found)


def _until(times: Sequence[float], now: float, held: Any, how: Fitting) -> list[Pixels]:
    """The held picture for each of the times before `now`; before the first picture stands the first."""
    count = sum(time < now - 1e-6 for time in times) if held is not None else 0
    return [fitted(seen(held), how)] * count if count else []


class Sampler:
    """Pictures as they come, sampled by time: what `decode` finds at the times k / rate."""

    def __init__(self, rate: float, how: Fitting) -> None:
        self.rate, self.how = rate, how
        self.count = 0
        self._held: Any = None

    def __call__(self, time: float, frame: Any) -> list[Pixels]:
        """Take the next frame: the pictures that are settled by it."""
        found: list[Pixels] = []
        while self._held is not None and self.count / self.rate < time - 1e-6:
            found.append(fitted(seen(self._held), self.how))
            self.count += 1
        self._held = frame
        return found

    def finish(self, seconds: float) -> list[Pixels]:
        """The video has ended after so many seconds: what is left."""
        if self._held is None:
            return []
        left = len(sample_times(seconds, self.rate)) - self.count
        return [fitted(seen(self._held), self.how)] * left


def pictures_of(source: Any, rate: float, how: Fitting) -> Iterator[Pixels]:
    """The sampled pictures of a file or of a stream of bytes, each as soon as it is settled. Raises ClipError."""
    sampler = Sampler(rate, how)
    last, step, count = 0.0, 0.0, 0
    with _Opened(source) as opened:
        for time, frame in opened.frames():
            yield from sampler(time, frame)
            own = float(frame.duration or 0) * float(frame.time_base or 0)
            step = own if own > 0 else (time / count if count else 1 / rate)
            last, count = time, count + 1
    if not count:
        raise ClipError("video without pictures")
    yield from sampler.finish(last + step)
