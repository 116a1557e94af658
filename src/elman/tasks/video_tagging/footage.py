"""Data: clips with tags, read, checked, divided; their frames, and their tags as numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.config import UserError, require
from elman.data.account import Account
from elman.data.audio.normalizing import Statistics
from elman.data.labelled import Example, parts_of
from elman.data.labels import Labels, learn_labels
from elman.data.splits import picked, where_of
from elman.data.video import Clip, Stretch, read_clips, with_stretches
from elman.tasks.divided import Divided
from elman.tasks.dividing import PARTS, divide, field_value
from elman.tasks.network import require_weights
from elman.tasks.video_tagging.frames import Frames, Opened, is_pictures, learn_level, marks_of, opened
from elman.tasks.video_tagging.settings import ClipSettings, Config
from elman.training.run import Run

__all__ = ["Codec", "Footage", "Part", "prepare", "read_codec", "read_part", "stretches_of"]

Floats = npt.NDArray[np.float32]
# Fields that say who is seen, where no --group names one.
WHO = ("subject", "person", "actor", "performer", "group")


class Codec(NamedTuple):
    """Between clips and numbers: tags; of features how many, and their mean and deviation; width 0: pictures.

    steps: whether each moment is told, or the whole clip.
    """

    labels: Labels
    steps: bool
    width: int
    statistics: Statistics | None

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "labels": list(self.labels.names),
            "several": self.labels.several,
            "steps": self.steps,
            "width": self.width,
            "statistics": self.statistics.to_json() if self.statistics else None,
        }

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Codec:
        """What `to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        statistics = saved["statistics"]
        return cls(
            Labels(tuple(saved["labels"]), bool(saved["several"])),
            bool(saved["steps"]),
            int(saved["width"]),
            Statistics.from_json(statistics) if statistics else None,
        )


@dataclass(frozen=True)
class Part:
    """The clips of a part. marks: fingerprints. truth: a class each `(N,)`, zeros and ones `(N, K)`, or of the steps.

    of_steps: zeros and ones `(T, K)` of each clip, where each moment is told.
    """

    name: str
    clips: list[Clip]
    marks: list[str]
    frames: Frames
    truth: npt.NDArray[np.int64]
    of_steps: list[npt.NDArray[np.int64]]
    account: Account | None = None

    @property
    def lengths(self) -> list[int]:
        """Frames of each clip."""
        return [one.frames for one in self.frames.clips]


@dataclass(frozen=True)
class Footage(Divided[Codec, Part]):
    """The data of a training."""

    about: str = ""

    def items(self, part: Part) -> Sequence[Any]:
        """Its clips."""
        return part.clips

    def facts(self) -> dict[str, Any]:
        """Sizes, and a fingerprint of all clips and tags in their parts."""
        digest = hashlib.sha256()
        for name, part in self.parts.items():
            for clip, mark in zip(part.clips, part.marks, strict=True):
                stretches = [f"{s.label}@{s.start}-{s.end}" for s in clip.stretches]
                digest.update(
                    "\0".join((name, mark, *clip.labels, *stretches, "")).encode("utf-8", "surrogatepass")
                )
        return {"read": self.read, "clips": self.sizes, "sha256": digest.hexdigest()}

    def lines(self) -> list[str]:
        """The accounts, the sizes, the frames, the tags."""
        lines = self.account_lines()
        frames = " / ".join(f"{sum(part.lengths):,}" for part in self.parts.values())
        lines.append(self.sizes_line("clips", f", {frames} frames,"))
        lines.append(self.about)
        labels = self.codec.labels
        kind = "any number of" if labels.several else "one of"
        more = ", ..." * (len(labels.names) > 20)
        when = " at each moment" if self.codec.steps else ""
        lines.append(f"{kind} {len(labels.names)} tags{when}: {', '.join(labels.names[:20])}{more}")
        return lines


def read_codec(run: Run) -> Codec:
    """The codec of a run. Raises UserError where it is damaged."""
    try:
        return Codec.from_json(run.read_json("codec.json"))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{run.path / 'codec.json'} is damaged ({error!r}); bring it back or train anew"
        ) from None


class _Held(NamedTuple):
    """Clips that could be opened."""

    clips: list[Clip]
    marks: list[str]
    opened: list[Opened]

    def add(self, clip: Clip, mark: str, one: Opened) -> None:
        self.clips.append(clip)
        self.marks.append(mark)
        self.opened.append(one)


def prepare(config: Config, codec: Codec | None) -> Footage:
    """Read, divide, open, check. The codec is learnt from the training clips unless it is given."""
    settings = config.data
    accounts: dict[str, Account] = {}
    read = {name: _read(name, paths, config, accounts) for name, paths in _sources(settings).items() if paths}
    _check_read(read)
    pictures = is_pictures(read["train"][0])
    if pictures:
        require("av", extra="vision", what="video-tagging of videos")
        require("PIL", extra="vision", what="video-tagging of videos")
    if config.model.encoder == "pretrained" and codec is None:
        if not pictures:
            raise UserError("--encoder pretrained reads pictures: the clips are features; leave it out")
        require_weights()
    read, drawn = divide(read, config.data, "clip", field_of, partial(_marked, settings=config.data))
    held = {
        name: _opened(clips, config, accounts.get(name, accounts["train"]), pictures=pictures)
        for name, clips in read.items()
    }
    _judge(accounts, settings)
    if not held["train"].clips:
        raise UserError("no clip can be used to train on")
    labels = codec.labels if codec else _learn_labels(held["train"].clips, settings)
    width = 0 if pictures else held["train"].opened[0].width
    held = {
        name: _checked(one, labels, width, accounts.get(name, accounts["train"]))
        for name, one in held.items()
    }
    _judge(accounts, settings)
    _check_parts(held)
    _remark(held, settings, accounts)
    if codec is None:
        frames = Frames(held["train"].opened, config, None)
        rows = [] if pictures else [frames.whole(i) for i in range(len(frames.clips))]
        statistics = learn_level(rows, width, shared=config.frames.shared) if rows else None
        codec = Codec(labels, settings.target == "steps", width, statistics)
    parts = {
        name: _part(name, one, codec, config, accounts.get(name, accounts["train"]))
        for name, one in held.items()
        if one.clips
    }
    return Footage(codec, parts, accounts, drawn, _about(config, held["train"], pictures=pictures))


def _judge(accounts: dict[str, Account], settings: ClipSettings) -> None:
    for account in accounts.values():
        account.judge(settings.on_bad)


def _about(config: Config, train: _Held, *, pictures: bool) -> str:
    frames = config.frames
    if not pictures:
        raw, used = train.opened[0].width, train.opened[0].width * (1 + len(frames.differences))
        of = f" of {frames.joints} joints" if frames.joints else ""
        return f"features: {raw} numbers a frame{of}{f', {used} with differences' if used > raw else ''}"
    when = "the middle one" if frames.only == "middle" else f"{frames.fps:g} a second"
    sizes = sorted({one.size for one in train.opened})
    shown = ", ".join(f"{w} x {h}" for h, w in sizes[:3]) + ", ..." * (len(sizes) > 3)
    back = " and ".join(map(str, frames.differences))
    changes = f", and what has changed since {back} frames before" if back else ""
    return f"pictures: {when}, {shown} brought to {frames.size} x {frames.size}{changes}"


def _sources(settings: ClipSettings) -> dict[str, Sequence[str]]:
    if not settings.train:
        raise UserError("nothing to learn from: give clips with tags by --data (a folder, or a table)")
    given: dict[str, Sequence[str]] = {
        "train": settings.train,
        "valid": settings.valid,
        "test": settings.test,
    }
    folder = Path(settings.train[0])
    divided = settings.fold or settings.valid_where or settings.test_where
    if len(settings.train) == 1 and folder.is_dir() and not divided:
        parts = parts_of(folder)
        if "train" in parts:
            given = {
                name: given[name] if name != "train" and given[name] else _lists(parts.get(name, ()))
                for name in given
            }
    return given


def _lists(paths: Sequence[Path]) -> tuple[str, ...]:
    """What a part is read from: its tables, where there are some, for then its folders hold what these list."""
    tables = [path for path in paths if path.is_file()]
    return tuple(map(str, tables or paths))


def _read(name: str, paths: Sequence[str], config: Config, accounts: dict[str, Account]) -> list[Clip]:
    account = accounts[name] = Account("clips")
    clips = read_clips(paths, account, config.listing())
    where = where_of(config.data.where, "--where")
    if where is not None:
        kept, others = picked(clips, [field_of(clip, where[0]) for clip in clips], where, "--where", "clip")
        for clip in others:
            account.set_aside(f"clip by --where {config.data.where}", clip.place)
        clips = kept
    if config.data.target == "steps":
        rows = len(clips)
        clips = with_stretches(clips)
        if len(clips) < rows:
            account.found.append(f"{rows:,} stretches of {len(clips):,} clips")
    return clips


def _check_read(read: dict[str, list[Clip]]) -> None:
    for name, clips in read.items():
        if not clips:
            raise UserError(f"no clip of the {name} data has a tag")


def field_of(clip: Clip, name: str) -> str:
    """What is known of a clip under a name. Raises UserError where it has no such field."""
    known = {**clip.fields, "label": " ".join(clip.labels)}
    return field_value(known, name, clip.place)


def _marked(clips: list[Clip], settings: ClipSettings) -> tuple[list[str], list[str]]:
    # By its bytes a clip is the same one wherever it lies; parts of one file are not parted.
    keys = [
        field_of(clip, settings.group) if settings.group else mark or str(clip.place)
        for clip, mark in zip(clips, marks_of(clips, whole_files=True), strict=True)
    ]
    strata = ["\0".join(sorted(clip.labels)) if settings.target == "clip" else "" for clip in clips]
    if len(set(strata)) > len(clips) / 4:
        # So many combinations of tags are no strata: the first of each would go to training.
        strata = [""] * len(clips)
    return keys, strata


def _opened(clips: list[Clip], config: Config, account: Account, *, pictures: bool) -> _Held:
    """The clips that can be opened; the others become faults, and what was mended a remark."""
    marks = marks_of(clips)
    held = _Held([], [], [])
    for clip, mark in zip(clips, marks, strict=True):
        found = opened(clip, mark, config, pictures=pictures)
        if isinstance(found, str):
            account.fault(found, clip.place)
            continue
        for remark in found.remarks:
            account.remark(remark, clip.place)
        held.add(clip, mark, found)
    return held


def _learn_labels(clips: Sequence[Clip], settings: ClipSettings) -> Labels:
    examples = [Example(clip.name, clip.labels, clip.place) for clip in clips]
    return learn_labels(examples, "several" if settings.target == "steps" else settings.labels)


def _checked(held: _Held, labels: Labels, width: int, account: Account) -> _Held:
    """The clips whose tags and features are those of the training."""
    kept = _Held([], [], [])
    known = set(labels.names)
    for clip, mark, one in zip(*held, strict=True):
        fault = ""
        if not known.issuperset(clip.labels):
            fault = "tag that training lacks"
        elif not labels.several and len(clip.labels) != 1:
            fault = "not just one tag"
        elif one.width != width:
            fault = f"{one.width} numbers a frame, others have {width}"
        if fault:
            account.fault(fault, clip.place)
            continue
        kept.add(clip, mark, one)
    return kept


def _check_parts(held: dict[str, _Held]) -> None:
    for name, one in held.items():
        if not one.clips:
            raise UserError(f"no clip of the {name} data can be used")


def _remark(held: dict[str, _Held], settings: ClipSettings, accounts: dict[str, Account]) -> None:
    """What stands in training and in another part too: the same clip, the same group."""
    train = held["train"]
    words = (settings.group,) if settings.group else WHO
    group = next((word for word in words if all(word in clip.fields for clip in train.clips)), "")
    known = set(train.marks)
    groups = {clip.fields[group] for clip in train.clips} if group else set()
    for name in PARTS[1:]:
        part = held.get(name)
        if part is None:
            continue
        account = accounts.get(name, accounts["train"])
        again = [clip.place for clip, mark in zip(part.clips, part.marks, strict=True) if mark in known]
        if again:
            account.remark(f"{name} has a clip of the training data", again)
        if group:
            own = {clip.fields.get(group, "") for clip in part.clips} - {""}
            account.found.append(
                f"{name}: {len(own)} of {group}, {len(own & groups)} of them in the training data too"
            )


def _part(name: str, held: _Held, codec: Codec, config: Config, account: Account) -> Part:
    frames = Frames(held.opened, config, codec.statistics)
    truth = codec.labels.encode([clip.labels for clip in held.clips])
    of_steps = []
    if codec.steps:
        numbers = {label: number for number, label in enumerate(codec.labels.names)}
        of_steps = [
            stretches_of(clip.stretches, numbers, one.frames, one.rate)
            for clip, one in zip(held.clips, held.opened, strict=True)
        ]
    return Part(name, held.clips, held.marks, frames, truth, of_steps, account)


def stretches_of(
    stretches: Sequence[Stretch], numbers: dict[str, int], count: int, rate: float
) -> npt.NDArray[np.int64]:
    """Zeros and ones `(T, K)`: step t, at t / rate seconds, has the tags whose stretch holds it; a stretch between two
    steps is that of the step before it.
    """
    found = np.zeros((count, len(numbers)), dtype=np.int64)
    times = np.arange(count) / rate
    for label, start, end in stretches:
        held = (times >= start - 1e-9) & ((times < end - 1e-9) if end is not None else True)
        if not held.any():
            held[min(count - 1, int(start * rate))] = True
        found[held, numbers[label]] = 1
    return found


def read_part(paths: tuple[str, ...], config: Config, codec: Codec) -> Part:
    """The clips of other files. Raises UserError where none can be used."""
    accounts: dict[str, Account] = {}
    config = replace(config, data=replace(config.data, where=""))
    clips = _read("other", paths, config, accounts)
    account = accounts["other"]
    held = _opened(clips, config, account, pictures=not codec.width)
    held = _checked(held, codec.labels, codec.width, account)
    account.judge(config.data.on_bad)
    if not held.clips:
        raise UserError(f"{', '.join(paths)}: no clip that can be used")
    return _part("other", held, codec, config, account)
