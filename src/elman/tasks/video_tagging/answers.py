"""Predict: clips that are to be answered, opened, and what is said to each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.config import Flag, UserError, option
from elman.data.account import Account, OnBad, Place
from elman.data.inputs import STANDARD_INPUT, Item, check_inputs, lines
from elman.data.labels import Labels
from elman.data.video import Clip, ClipError, clips_in, is_video, read_features
from elman.data.video.clips import FEATURES, TABLES, read_clips
from elman.tasks import verbs
from elman.tasks.base import Answer
from elman.tasks.video_tagging.footage import Codec
from elman.tasks.video_tagging.frames import Frames, marks_of, opened
from elman.tasks.video_tagging.settings import Config

__all__ = ["Evaluate", "Predict", "Seen", "answer_of", "inputs_of", "seen"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Evaluate(verbs.Evaluate):
    """Flags of `elman evaluate`."""

    on_bad: OnBad = option(
        "auto",
        "clips of --data that cannot be used: skip them, refuse the data, or auto: refuse where they are more than 1 %",
        needs={"data": True},
    )
    pattern: str = option(
        "",
        "what the parts of the names of --data mean (empty: as in training)",
        unit="PATTERN",
        needs={"data": True},
    )


@dataclass(frozen=True)
class Predict(verbs.Predict):
    """Flags of `elman predict`: clips, folders of them, or files and standard input whose lines name them."""

    times: Flag = option(False, "in JSON the chances at each step too, while the clip runs")


class Seen(NamedTuple):
    """A clip that could be opened: its frames `(T, F)` as the network reads them, how many are a second."""

    rows: npt.NDArray[Any]
    rate: float


def inputs_of(settings: Predict, codec: Codec, config: Config) -> Iterator[list[Item]]:
    """Clips in groups; the lines of any other file, and of standard input, name clips."""
    check_inputs(settings.inputs)
    for path in settings.inputs:
        if path == STANDARD_INPUT:
            yield from lines([path], settings.together)
            continue
        found = _items(Path(path), codec, config)
        if found is None:
            yield from lines([path], settings.together)
            continue
        yield from (found[at : at + settings.together] for at in range(0, len(found), settings.together))


def _items(path: Path, codec: Codec, config: Config) -> list[Item] | None:
    """The clips of a folder, of a table of frames, or the one that a file is; None: its lines name some."""
    if path.is_dir():
        files = clips_in(path)
        if not files:
            raise UserError(f"{path} holds no clips")
        return [Item(str(file), str(file)) for file in files]
    if is_video(path) or path.suffix.lower() in FEATURES - TABLES:
        return [Item(str(path), str(path))]
    if not codec.width:
        return None
    try:
        read_features(path, config.frames.joints, config.frames.dimensions)
        return [Item(str(path), str(path))]
    except ClipError:
        pass
    try:
        clips = read_clips([str(path)], Account(), replace(config.listing(), form="frames"))
    except UserError:
        return None
    return [Item(clip, f"{clip.place.file}:{clip.path}") for clip in clips]


def seen(values: Sequence[Any], codec: Codec, config: Config) -> list[Seen | str]:
    """The frames of these clips; what is wrong with one in a few words."""
    clips = [
        value if isinstance(value, Clip) else Clip(Path(str(value).strip() or "."), (), Place(str(value)))
        for value in values
    ]
    found: list[Seen | str] = []
    for value, clip, mark in zip(values, clips, marks_of(clips), strict=True):
        if isinstance(value, str) and not value.strip():
            found.append("empty line")
        elif not isinstance(value, Clip) and not clip.path.is_file():
            found.append("no such clip")
        else:
            found.append(_seen(clip, mark, codec, config))
    return found


def _seen(clip: Clip, mark: str, codec: Codec, config: Config) -> Seen | str:
    one = opened(clip, mark, config, pictures=not codec.width)
    if isinstance(one, str):
        return one
    if one.width != codec.width:
        return f"{one.width} numbers a frame, in training there were {codec.width}"
    frames = Frames([one], config, codec.statistics)
    try:
        frames.raw(0)
    except ClipError as error:
        return str(error)
    return Seen(frames.whole(0), one.rate)


def answer_of(name: str, p: Floats, labels: Labels, thresholds: Floats, clip: Seen) -> Answer:
    """What a clip shows: the class, or the tags at or above their thresholds, with the chances of all."""
    chances = {word: round(float(value), 6) for word, value in zip(labels.names, p, strict=True)}
    ranked = sorted(chances, key=lambda word: -chances[word])
    data: dict[str, Any] = {"clip": name, "seconds": round(len(clip.rows) / clip.rate, 3)}
    if labels.several:
        said = [
            word for word, yes in zip(labels.names, labels.decide(p[None], thresholds)[0], strict=True) if yes
        ]
        said.sort(key=lambda word: -chances[word])
        data |= {"tags": said, "probabilities": chances}
    else:
        said = ranked[:1]
        data |= {"label": said[0], "probabilities": chances}
    others = [word for word in ranked if word not in said][:2]
    shown = ", ".join(f"{word} {chances[word]:.3f}" for word in said) or "none"
    beside = ", ".join(f"{word} {chances[word]:.3f}" for word in others)
    return Answer(f"{shown} ({beside})" if beside else shown, data)


class Found(NamedTuple):
    """A tag from `start` to `end` in seconds; confidence: the mean of its chances there."""

    tag: str
    start: float
    end: float
    confidence: float

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "tag": self.tag,
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "confidence": round(self.confidence, 4),
        }


def stretches_in(p: Floats, labels: Labels, thresholds: Floats, rate: float) -> list[Found]:
    """Runs of steps at which a tag is given, of p `(T, K)`, in the order in which they begin."""
    marks = labels.decide(p, thresholds).astype(bool)
    found = []
    for k, name in enumerate(labels.names):
        edges = np.flatnonzero(np.diff(np.concatenate(([0], marks[:, k].astype(np.int64), [0]))))
        for a, b in zip(edges[::2], edges[1::2], strict=True):
            found.append(Found(name, float(a / rate), float(b / rate), float(p[a:b, k].mean())))
    return sorted(found, key=lambda one: (one.start, one.end, one.tag))


def answer_of_steps(name: str, p: Floats, labels: Labels, thresholds: Floats, clip: Seen) -> Answer:
    """The stretches of a clip."""
    found = stretches_in(p, labels, thresholds, clip.rate)
    shown = ", ".join(f"{one.tag} {one.start:.1f}-{one.end:.1f}" for one in found) or "none"
    data = {"clip": name, "seconds": round(len(clip.rows) / clip.rate, 3)}
    return Answer(shown, {**data, "stretches": [one.to_json() for one in found]})
