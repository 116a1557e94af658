"""Predict: recordings that are to be answered, opened, and what is said to each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.config import option
from elman.data.account import OnBad
from elman.data.audio.mel import LogMel
from elman.data.audio.sound import FOREIGN, SUFFIXES, SoundError, read_sound
from elman.data.audio.transcripts import pattern_of, recordings_in
from elman.data.inputs import STANDARD_INPUT, Item, check_inputs, lines
from elman.tasks import verbs
from elman.tasks.base import Answer
from elman.tasks.speech.hearing import Heard
from elman.tasks.speech.learning import steps_for
from elman.tasks.speech.recordings import Codec
from elman.tasks.speech.searching import Searching
from elman.tasks.speech.settings import Config

__all__ = [
    "Evaluate",
    "Opened",
    "Predict",
    "Said",
    "inputs_of",
    "of_classes",
    "of_text",
    "opened",
    "steps_of_opened",
]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Evaluate(Searching, verbs.Evaluate):
    """Flags of `elman evaluate`."""

    on_bad: OnBad = option(
        "auto",
        "recordings of --data that cannot be used: skip them, refuse the data, or auto: refuse where they are more "
        "than 1 %",
        needs={"data": True},
    )
    pattern: str = option(
        "",
        "what the parts of the names of --data mean (empty: as in training)",
        unit="PATTERN",
        needs={"data": True},
    )


@dataclass(frozen=True)
class Predict(Searching, verbs.Predict):
    """Flags of `elman predict`: recordings, folders of them, or files and standard input whose lines name them."""


class Opened(NamedTuple):
    """The features of a recording, its length in seconds, and who speaks, where its name says so."""

    frames: Floats
    seconds: float
    speaker: str = ""


Said = Callable[[str, Opened], Answer]


def inputs_of(settings: Predict) -> Iterator[list[Item]]:
    """Recordings in groups; the lines of any other file, and of standard input, name recordings."""
    check_inputs(settings.inputs)
    for path in settings.inputs:
        sound = path != STANDARD_INPUT and Path(path).suffix.lower() in SUFFIXES | FOREIGN
        if path == STANDARD_INPUT or not (sound or Path(path).is_dir()):
            yield from lines([path], settings.together)
            continue
        files = recordings_in(Path(path)) if Path(path).is_dir() else [Path(path)]
        items = [Item(str(file), str(file)) for file in files]
        yield from (items[at : at + settings.together] for at in range(0, len(items), settings.together))


def opened(values: Sequence[str], codec: Codec, config: Config) -> list[Opened | str]:
    """The recordings of these names; what is wrong with one in a few words."""
    pattern = pattern_of(config.data.pattern) if "{speaker}" in config.data.pattern else None
    log_mel = LogMel(codec.mel)
    found: list[Opened | str] = []
    for value in values:
        path = Path(value.strip())
        if not value.strip() or not path.is_file():
            found.append("no such recording" if value.strip() else "empty line")
            continue
        try:
            samples, rate = read_sound(path, codec.mel.rate)
        except SoundError as error:
            found.append(str(error))
            continue
        match = pattern.search(path.with_suffix("").as_posix()) if pattern else None
        speaker = match["speaker"] if match else ""
        found.append(Opened(log_mel(samples), len(samples) / rate, speaker))
    return found


def steps_of_opened(found: Sequence[Opened | str], codec: Codec, config: Config) -> list[Floats]:
    """The steps of those recordings that could be opened."""
    kept = [one for one in found if isinstance(one, Opened)]
    speakers = {one.speaker for one in kept} - {""} if config.normalization == "speaker" else set()
    levels = {
        name: codec.statistics.level([one.frames for one in kept if one.speaker == name]) for name in speakers
    }
    return [steps_for(one.frames, codec, config, config.features, levels.get(one.speaker)) for one in kept]


def of_text(found: Heard) -> Said:
    """The text, with its words and how sure they are."""

    def answer(name: str, sound: Opened) -> Answer:
        data: dict[str, Any] = {"recording": name, "seconds": round(sound.seconds, 3), "text": found.text}
        data |= {"confidence": round(found.confidence, 4), "words": [word.to_json() for word in found.words]}
        return Answer(found.text, data)

    return answer


def of_classes(p: npt.NDArray[np.float64], classes: Sequence[str]) -> Said:
    """The class, with the chances of all."""
    chances = {name: round(float(value), 6) for name, value in zip(classes, p, strict=True)}
    ranked = sorted(chances, key=lambda name: -chances[name])

    def answer(name: str, sound: Opened) -> Answer:
        others = ", ".join(f"{other} {chances[other]:.3f}" for other in ranked[1:3])
        data = {
            "recording": name,
            "seconds": round(sound.seconds, 3),
            "label": ranked[0],
            "probabilities": chances,
        }
        return Answer(f"{ranked[0]} {chances[ranked[0]]:.3f} ({others})", data)

    return answer
