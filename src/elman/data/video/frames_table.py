"""One table for all clips: a row a frame, a column that says which clip, a column of tags, and columns of features."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.config import UserError, nearest
from elman.data.account import Place
from elman.data.table import Table, TableRow

__all__ = ["Chosen", "Framed", "FramedClip", "clips_of_frames", "is_of_frames"]

_CLIPS = "clip clipid video videoid sequence sequenceid seq sample sampleid recording id file name"
CLIPS = tuple(_CLIPS.split())
TAGS = ("label", "labels", "class", "action", "tag", "tags", "activity", "gesture", "sign")
TIMES = ("frame", "frameid", "frameindex", "time", "timestamp", "t", "index")
# Columns that say something of a clip, be they numbers.
_FIELDS = "subject subjectid person actor performer group split part view camera take trial repetition"
FIELDS = frozenset(_FIELDS.split())
SAMPLE = 200


class Chosen(NamedTuple):
    """Columns that the user names; empty: found."""

    clip: str = ""
    labels: tuple[str, ...] = ()
    features: tuple[str, ...] = ()


class FramedClip(NamedTuple):
    """A clip of the table: its frames `(T, F)`, its tags as (tag, first frame, frame behind its last)."""

    name: str
    place: Place
    values: npt.NDArray[np.float32]
    stretches: list[tuple[str, int, int]]
    fields: Mapping[str, str]
    fault: str = ""


class Framed(NamedTuple):
    """The clips, and what was recognized, in words."""

    clips: list[FramedClip]
    words: str


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()


def _is_number(cell: Any) -> bool:
    try:
        float(cell)
    except (TypeError, ValueError):
        return False
    return True


def _numeric(table: Table) -> list[str]:
    """Columns whose cells are numbers, or empty."""
    rows = table.rows[:SAMPLE]
    return [
        name
        for name in table.columns
        if any(_is_number(row.values.get(name)) for row in rows)
        and all(_is_number(row.values.get(name)) or row.values.get(name) in {"", None} for row in rows)
    ]


def is_of_frames(table: Table) -> bool:
    """Whether a table has a column of clips whose names come again, and columns of numbers."""
    names = {_plain(name): name for name in table.columns}
    clip = next((names[word] for word in CLIPS if word in names), "")
    values = [row.values.get(clip) for row in table.rows[:SAMPLE]] if clip else []
    return len(set(map(str, values))) < len(values) and len(_numeric(table)) > 1


def clips_of_frames(table: Table, path: Path, chosen: Chosen, label: str = "") -> Framed:
    """The clips of a table of frames, in the order in which they begin. Raises UserError where columns are missing."""
    names = {_plain(name): name for name in table.columns}
    clip = _one(chosen.clip, CLIPS, names, path, "clips", "--clip-column")
    tag = _one(chosen.labels[0] if chosen.labels else label, TAGS, names, path, "tags", "--label-column")
    time = next((names[word] for word in TIMES if word in names and names[word] not in {clip, tag}), "")
    known = {clip, tag, time}
    numeric = [name for name in _numeric(table) if name not in known and _plain(name) not in FIELDS]
    features = [_named(word, names, path, "--feature-columns") for word in chosen.features] or numeric
    if not features:
        raise UserError(f"{path} has no columns of numbers beside {clip!r}; name them by --feature-columns")
    others = [name for name in table.columns if name not in known and name not in features]
    groups: dict[str, list[TableRow]] = {}
    for row in table.rows:
        groups.setdefault(str(row.values.get(clip, "")), []).append(row)
    clips = [_clip(name, rows, tag, time, features, others) for name, rows in groups.items()]
    order = f", in the order of {time!r}" if time else ""
    words = f"a row a frame, clips in column {clip!r}{order}, tags in {tag!r}, {len(features)} features"
    return Framed(clips, words)


def _one(given: str, words: Sequence[str], names: Mapping[str, str], path: Path, what: str, flag: str) -> str:
    if given:
        return _named(given, names, path, flag)
    found = next((names[word] for word in words if word in names), "")
    if not found:
        raise UserError(
            f"{path} has no column of {what} that could be found; its columns are "
            f"{', '.join(list(names.values())[:20])}: name it by {flag}"
        )
    return found


def _named(word: str, names: Mapping[str, str], path: Path, flag: str) -> str:
    columns = list(names.values())
    if word in columns:
        return word
    raise UserError(f"{flag} {word}: {path} has no such column{nearest(word, columns)}")


def _clip(
    name: str, rows: list[TableRow], tag: str, time: str, features: Sequence[str], others: Sequence[str]
) -> FramedClip:
    none = np.zeros((0, len(features)), dtype=np.float32)
    place, first = rows[0].place, rows[0].values
    fields = {other: str(first[other]) for other in others if first.get(other) is not None}
    if not name.strip():
        return FramedClip(name, place, none, [], fields, "frame without a clip")
    if time:
        stamps = [_number(row.values.get(time)) for row in rows]
        if any(math.isnan(stamp) for stamp in stamps):
            return FramedClip(name, place, none, [], fields, f"{time} that is no number")
        rows = [row for _, row in sorted(zip(stamps, rows, strict=True), key=lambda pair: pair[0])]
    values = np.array([[_number(row.values.get(f)) for f in features] for row in rows], dtype=np.float32)
    tags = [str(row.values.get(tag) or "").strip() for row in rows]
    stretches, at = [], 0
    for label, own in groupby(tags):
        size = len(list(own))
        stretches.append((label, at, at + size))
        at += size
    fault = "" if any(tags) else "empty tag"
    return FramedClip(name, place, values, stretches, fields, fault)


def _number(cell: Any) -> float:
    return float(cell) if _is_number(cell) else math.nan
