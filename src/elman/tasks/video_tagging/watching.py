"""`elman watch RUN FILE|-`: what a network of one direction says while a clip comes, frame by frame."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.config import Positive, UserError, option
from elman.data.audio.normalizing import Level
from elman.data.inputs import STANDARD_INPUT, check_inputs
from elman.data.video import (
    ClipError,
    RawFormat,
    RawLayout,
    centred,
    is_video,
    pictures_with_differences,
    read_features,
)
from elman.tasks.verbs import CHECKPOINT
from elman.tasks.video_tagging.footage import Codec
from elman.tasks.video_tagging.frames import fitting_of
from elman.tasks.video_tagging.settings import Config

if TYPE_CHECKING:
    from elman.tasks.video_tagging.task import TrainedVideoTagger

__all__ = ["Watch", "Watcher", "watch"]

Floats = npt.NDArray[np.float64]
# Layouts in which pixels beside each other share their colours.
HALVED = ("yuv420p", "nv12", "yuyv422")


@dataclass(frozen=True)
class Watch:
    """Flags of `elman watch`."""

    inputs: tuple[str, ...] = option(
        (),
        "a clip, or - for standard input: a video as it comes, or features, a line of numbers a frame",
        unit="FILE|-",
        positional=True,
    )
    format: Literal["text", "json"] = option("text", "a line a step: seconds and tags, or a JSON object")
    raw: str = option(
        "", "size of raw frames that come on standard input, such as 640x480 (empty: a video)", unit="SIZE"
    )
    pixels: RawLayout = option("rgb24", "what the bytes of a raw frame are", needs={"raw": True})
    rate: Positive = option(25.0, "raw frames that come in a second", unit="HERTZ", needs={"raw": True})
    every: Literal["step", "change"] = option(
        "step", "say something at each step, or where the answer changes"
    )
    checkpoint: Literal["best", "last"] = option("best", CHECKPOINT)

    def check(self) -> None:
        """Raise UserError for an input that is not there."""
        check_inputs(self.inputs)
        if len(self.inputs) != 1:
            raise UserError("one clip can be watched at a time; give one file, or -")

    def __post_init__(self) -> None:
        """Check what concerns two fields."""
        if not self.raw:
            return
        if self.inputs != (STANDARD_INPUT,):
            raise UserError("--raw: raw frames come on standard input: give - in the place of a file")
        sides = self.raw.lower().split("x")
        if len(sides) != 2 or not all(side.isdecimal() and int(side) for side in sides):
            raise UserError(f"--raw {self.raw}: expected WIDTHxHEIGHT in pixels, such as 640x480")
        odd = [side for side in sides if int(side) % 2]
        if odd and self.pixels in HALVED:
            raise UserError(
                f"--raw {self.raw}: {self.pixels} has colours for two pixels at once, so no odd sides"
            )

    @property
    def format_of_raw(self) -> RawFormat | None:
        """What comes, where it is raw frames."""
        if not self.raw:
            return None
        width, height = map(int, self.raw.lower().split("x"))
        return RawFormat(width, height, self.pixels, self.rate)


class Watcher:
    """A tagger that reads one frame at a time: `watcher(frame)` gives p `(K,)` of all so far, or of the step.

    frame: a picture `(S, S, 3)` of bytes at the size of the training, or features `(F,)` as they were read. What it
    says at the last frame is what is said of the whole clip at once. Raises UserError for a network that reads from
    both ends, and for features that need frames behind them.
    """

    def __init__(self, model: Any, codec: Codec, config: Config) -> None:
        if config.model.bidirectional:
            raise UserError(
                "the network reads from both ends, so it needs the whole clip: ask it by elman predict, or train one "
                "with --no-bidirectional"
            )
        if codec.width and not config.frames.causal:
            raise UserError(
                "--torso, --median and --only middle need the whole clip: train without them to watch it come"
            )
        model.eval()
        self.model, self.codec, self.config = model, codec, config
        self.steps = 0
        self._state: Any = None
        self._before: list[npt.NDArray[Any]] = []
        self._running: Any = None

    def __call__(self, frame: npt.NDArray[Any]) -> Floats:
        """Read the next frame."""
        import torch

        x = torch.from_numpy(self._ready(frame)).unsqueeze(0).to(self.model.head.weight.device)
        self.steps += 1
        with torch.no_grad():
            found = self._step(x)
        self._state = found.state
        logits = found.logits[0].double().cpu()
        p: Floats = (logits.sigmoid() if self.codec.labels.several else logits.softmax(dim=-1)).numpy()
        return p

    def _step(self, x: Any) -> Any:
        if self.codec.steps:
            return self.model.step(x, self._state)
        from elman.nn import RunningPooling

        self._running = self._running or RunningPooling(self.model.pooling)
        return self.model.step(x, self._state, self._running)

    def _ready(self, frame: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What the network reads of a frame."""
        back = self.config.frames.differences
        if not self.codec.width:
            picture = np.ascontiguousarray(frame).reshape(1, -1)
            self._before = [*self._before, picture][-(max(back, default=0) + 1) :]
            seen = pictures_with_differences(np.concatenate(self._before), back)
            return np.asarray(seen[-1])
        if frame.shape != (self.codec.width,):
            raise UserError(f"frame {self.steps + 1} has {frame.size} numbers; expected {self.codec.width}")
        x = np.asarray(frame, dtype=np.float32)
        if not np.isfinite(x).all():
            raise UserError(f"frame {self.steps + 1} has numbers that are none")
        skeleton = self.config.frames.skeleton()
        x = centred(x[None], skeleton)[0] if skeleton is not None else x
        self._before = [*self._before, x][-(max(back, default=0) + 1) :]
        rows = [x, *(x - self._before[max(len(self._before) - 1 - k, 0)] for k in back)]
        joined = np.concatenate(rows)
        statistics = self.codec.statistics
        return joined if statistics is None else Level(*statistics).apply(joined)


class _Line(NamedTuple):
    seconds: float
    tags: list[str]
    p: dict[str, float]


def watch(trained: TrainedVideoTagger, settings: Watch) -> Iterator[str]:
    """A line for each step, as soon as it is known."""
    watcher = trained.watch()
    (given,) = settings.inputs
    shown: list[str] | None = None
    try:
        for frame in _frames(settings, trained.codec, trained.config, sys.stdin.buffer):
            line = _line(watcher(frame), watcher.steps, trained)
            if settings.every == "step" or line.tags != shown:
                yield _written(line, settings)
            shown = line.tags
    except ClipError as error:
        raise UserError(f"{'standard input' if given == STANDARD_INPUT else given}: {error}") from None
    if not watcher.steps:
        raise UserError(f"{'standard input' if given == STANDARD_INPUT else given}: nothing came")


def _frames(settings: Watch, codec: Codec, config: Config, stream: BinaryIO) -> Iterator[npt.NDArray[Any]]:
    (given,), raw = settings.inputs, settings.format_of_raw
    if raw is not None:
        from elman.data.video.raw import raw_pictures

        if codec.width:
            raise UserError("--raw: the network reads features, and no pictures")
        yield from raw_pictures(stream, raw, config.frames.fps, fitting_of(config))
        return
    if not codec.width:
        from elman.data.video.decoding import pictures_of

        source = stream if given == STANDARD_INPUT else Path(given)
        yield from pictures_of(source, config.frames.fps, fitting_of(config))
        return
    if given != STANDARD_INPUT:
        if is_video(Path(given)):
            raise ClipError("a video, and the network reads features")
        yield from read_features(Path(given), config.frames.joints, config.frames.dimensions)
        return
    for number, line in enumerate(iter(stream.readline, b""), 1):
        words = line.replace(b",", b" ").replace(b";", b" ").split()
        if not words:
            continue
        try:
            yield np.array([float(word) for word in words], dtype=np.float32)
        except ValueError:
            raise ClipError(f"line {number} is no line of numbers") from None


def _line(p: Floats, step: int, trained: TrainedVideoTagger) -> _Line:
    labels, frames = trained.codec.labels, trained.config.frames
    rate = frames.feature_rate if trained.codec.width else frames.fps
    chances = {name: round(float(value), 6) for name, value in zip(labels.names, p, strict=True)}
    if labels.several:
        yes = labels.decide(p[None], trained.thresholds)[0]
        said = [name for name, given in zip(labels.names, yes, strict=True) if given]
    else:
        said = [labels.names[int(p.argmax())]]
    return _Line((step - 1) / rate, said, chances)


def _written(line: _Line, settings: Watch) -> str:
    if settings.format == "json":
        found = {"seconds": round(line.seconds, 3), "tags": line.tags, "probabilities": line.p}
        return json.dumps(found, ensure_ascii=False) + "\n"
    said = ", ".join(f"{name} {line.p[name]:.3f}" for name in line.tags) or "none"
    return f"{line.seconds:8.2f}  {said}\n"
