"""Data: the frames of clips as the network reads them: pictures, or features made comparable."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.config import UserError
from elman.data.audio.normalizing import Level, Statistics
from elman.data.feature_store import cache_folder, digests
from elman.data.pictures import Fitting
from elman.data.video import (
    Clip,
    ClipError,
    centred,
    filled,
    is_video,
    pictures_with_differences,
    read_features,
    varied,
    with_differences,
)
from elman.data.video.store import FrameStore
from elman.tasks.video_tagging.settings import Config

__all__ = ["Frames", "Opened", "fitting_of", "is_pictures", "learn_level", "marks_of", "opened"]

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[Any]
# A deviation that is less than this share of the mean is rounding.
LEAST = 1e-6


class Opened(NamedTuple):
    """A clip that can be used: its file, how many `frames` of it, `rate` a second.

    width: numbers a frame; 0: pictures. values: features `(frames, width)`. times: of pictures, in seconds of the file.
    size: (height, width) of the pictures as they are. remarks: what was mended.
    """

    path: Path
    mark: str
    frames: int
    rate: float
    width: int = 0
    values: Any = None
    times: tuple[float, ...] = ()
    size: tuple[int, int] = (0, 0)
    remarks: tuple[str, ...] = ()


def is_pictures(clip: Clip) -> bool:
    """Whether a clip is a video."""
    return clip.values is None and is_video(clip.path)


def marks_of(clips: Sequence[Clip], *, whole_files: bool = False) -> list[str]:
    """A fingerprint of each clip: of the bytes of its file, and of where it lies in it; empty for a missing file."""
    files = digests([clip.path for clip in clips if clip.values is None])
    own = iter(files)
    found = []
    for clip in clips:
        if clip.values is not None:
            found.append(hashlib.blake2b(clip.values.tobytes(), digest_size=16).hexdigest())
            continue
        mark = next(own)
        part = "" if whole_files or (not clip.start and clip.end is None) else f"@{clip.start!r}-{clip.end!r}"
        found.append(f"{mark}{part}" if mark else "")
    return found


def fitting_of(config: Config) -> Fitting:
    """How pictures are brought to one size."""
    return Fitting(config.frames.size, config.frames.size, config.frames.fit)


def opened(clip: Clip, mark: str, config: Config, *, pictures: bool) -> Opened | str:
    """A clip opened, or what is wrong with it in a few words."""
    if is_pictures(clip) != pictures:
        return "file of features among videos" if pictures else "video among features"
    try:
        return _of_pictures(clip, mark, config) if pictures else _of_features(clip, mark, config)
    except ClipError as error:
        return str(error)


def _of_pictures(clip: Clip, mark: str, config: Config) -> Opened:
    from elman.data.video.decoding import probe, sample_times

    frames = config.frames
    if not clip.path.is_file():
        raise ClipError("no such clip")
    said = probe(clip.path)
    if clip.start >= said.seconds and clip.start > 0:
        raise ClipError(f"part that begins behind the clip's end, at {said.seconds:.1f} seconds")
    times = sample_times(said.seconds, frames.fps, clip.start, clip.end)
    if frames.only == "middle":
        times = [times[len(times) // 2]]
    found = Opened(clip.path, mark, len(times), frames.fps, times=tuple(times), size=said.size)
    if frames.decode == "first":
        Frames([found], config, None).raw(0)
    return found


def _of_features(clip: Clip, mark: str, config: Config) -> Opened:
    frames = config.frames
    if clip.values is not None:
        values = clip.values
    else:
        values = read_features(clip.path, frames.joints, frames.dimensions)
        first = round(clip.start * frames.feature_rate)
        last = len(values) if clip.end is None else round(clip.end * frames.feature_rate)
        values = values[first:last]
        if not len(values):
            raise ClipError("part that begins behind the clip's end")
    # In stretches of time no frame may be missing.
    if config.data.target == "steps":
        values, empty, missing = np.nan_to_num(values), 0, int((~np.isfinite(values)).sum())
    else:
        values, empty, missing = filled(values)
    skeleton = frames.skeleton()
    if skeleton is not None:
        if values.shape[1] != skeleton.joints * skeleton.dimensions:
            raise ClipError(
                f"{values.shape[1]} numbers a frame, which are no {skeleton.joints} joints of {skeleton.dimensions}"
            )
        values = centred(values, skeleton)
    if frames.only == "middle":
        values = values[len(values) // 2 :][:1]
    remarks = ["clips with empty frames, which are left out"] * bool(empty)
    remarks += ["clips with missing numbers, taken from the frames beside them"] * bool(missing)
    return Opened(
        clip.path, mark, len(values), frames.feature_rate, values.shape[1], values, remarks=tuple(remarks)
    )


def learn_level(clips: Sequence[Floats], width: int, *, shared: bool) -> Statistics:
    r"""What the features of the training clips, `(T, F)` each, are brought to one level by: z = (x − μ) / σ.

    μ, σ: the mean and the deviation of each number over all frames. shared: σ² is the mean of them over the `width`
    numbers of a frame, and over those of each difference. The coordinates of joints have one unit, and a joint that
    hardly moves, the hip or a foot, must not have its tremble blown up to the size of a wave. σ is 1 where nothing
    ever changes.
    """
    x = np.concatenate(clips).astype(np.float64)
    mean, squares = x.mean(axis=0), x.var(axis=0)
    squares[squares <= (LEAST * np.abs(mean)) ** 2] = 0.0
    if shared:
        blocks = squares.reshape(-1, width)
        squares = np.broadcast_to(blocks.mean(axis=1, keepdims=True), blocks.shape).ravel()
    deviation = np.where(squares > 0, np.sqrt(squares), 1.0)
    return Statistics(mean.astype(np.float32), deviation.astype(np.float32))


class Drawn(NamedTuple):
    """Frames `(T, F)` of a clip, varied; picks: the frames of the clip that they are nearest to, None: all in order."""

    rows: Rows
    picks: npt.NDArray[np.int64] | None


class Frames:
    """The frames of the clips of a part; pictures are decoded when they are first asked for, and kept."""

    def __init__(self, clips: Sequence[Opened], config: Config, statistics: Statistics | None) -> None:
        self.clips, self.config, self.statistics = clips, config, statistics
        frames, how = config.frames, fitting_of(config)
        shape = (how.height, how.width, 3)
        self.store = FrameStore(
            cache_folder(frames.cache), [list(how), frames.fps, frames.only], shape, np.uint8
        )

    def raw(self, number: int) -> Rows:
        """Pictures `(T, H, W, 3)`, or features `(T, width)` without differences."""
        one = self.clips[number]
        if one.values is not None:
            values: Rows = one.values
            return values

        def make() -> Rows:
            from elman.data.video.decoding import decode

            return decode(one.path, one.times, fitting_of(self.config))

        return self.store(one.mark, one.frames, make)

    def decoded(self, number: int) -> Rows:
        """`raw`; UserError where a video breaks off."""
        try:
            return self.raw(number)
        except ClipError as error:
            raise UserError(
                f"{self.clips[number].path}: {error}; mend it, or have such clips found before and left out by "
                f"--decode first"
            ) from None

    def whole(self, number: int) -> Rows:
        """What is read of a clip without augmentation, `(T, F)`: pictures as bytes, or features; with differences."""
        x = self.decoded(number)
        return self._seen(x) if self.clips[number].values is None else self._finished(x)

    def drawn(self, number: int, generator: np.random.Generator) -> Drawn:
        """The same, varied."""
        x, augment = self.decoded(number), self.config.augment
        times = _times(len(x), augment.crop, augment.warp, generator)
        picks = None if times is None else np.clip(np.round(times).astype(np.int64), 0, len(x) - 1)
        if self.clips[number].values is None:
            x = x if picks is None else x[picks]
            return Drawn(self._seen(_varied_pictures(x, self.config, generator)), picks)
        return Drawn(self._varied(x if times is None else _between(x, times), generator), picks)

    def _varied(self, x: Floats, generator: np.random.Generator) -> Floats:
        augment = self.config.augment
        skeleton = self.config.frames.skeleton()
        if skeleton is not None:
            x = varied(x, skeleton, augment.variation(), generator)
        x = self._finished(x)
        if augment.noise:
            x = x + augment.noise * generator.standard_normal(x.shape).astype(np.float32)
        return x

    def _seen(self, x: Rows) -> Rows:
        return pictures_with_differences(x.reshape(len(x), -1), self.config.frames.differences)

    def _finished(self, x: Floats) -> Floats:
        x = with_differences(x, self.config.frames.differences)
        return x if self.statistics is None else Level(*self.statistics).apply(x)


def _times(
    count: int, crop: float, warp: float, generator: np.random.Generator
) -> npt.NDArray[np.float64] | None:
    """The times, in frames, at which a clip is looked at anew: cut at both ends, faster and slower in its course.

    t(u) = a + (b − a) (u + w sin(π u) / π + v sin(2 π u) / 2π),  u from 0 to 1,  |w|, |v| <= warp / 2
    """
    if not crop and not warp:
        return None
    cut = generator.uniform(0, crop) * (count - 1)
    first = generator.uniform(0, cut) if cut else 0.0
    last = first + (count - 1 - cut)
    w, v = generator.uniform(-warp, warp, 2) / 2
    size = max(1, round((last - first) * (1 + generator.uniform(-warp, warp))) + 1)
    u = np.linspace(0, 1, size)
    bent = u + w * np.sin(np.pi * u) / np.pi + v * np.sin(2 * np.pi * u) / (2 * np.pi)
    return np.asarray(first + (last - first) * bent)


def _between(x: Floats, times: npt.NDArray[np.float64]) -> Floats:
    """Features at times between frames, on straight lines."""
    before = np.clip(np.floor(times).astype(np.int64), 0, len(x) - 1)
    after = np.minimum(before + 1, len(x) - 1)
    share = (times - before)[:, None].astype(np.float32)
    return x[before] * (1 - share) + x[after] * share


def _varied_pictures(x: Rows, config: Config, generator: np.random.Generator) -> Rows:
    """Pictures of a clip `(T, H, W, 3)`, all moved, mirrored and lit alike."""
    augment = config.augment
    if augment.shift:
        most = round(augment.shift * x.shape[1])
        down, right = generator.integers(-most, most + 1, 2)
        padded = np.pad(x, ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")
        x = padded[:, most + down :, most + right :][:, : x.shape[1], : x.shape[2]]
    if augment.flip and generator.random() < 0.5:
        x = x[:, :, ::-1]
    if augment.light:
        gain, lift = (
            1 + generator.uniform(-1, 1) * augment.light,
            generator.uniform(-1, 1) * augment.light * 128,
        )
        x = np.clip((x.astype(np.float32) - 128) * gain + 128 + lift, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(x)
