"""Transcripts with times beside a recording: SubRip, WebVTT, Praat's TextGrid, Audacity's labels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from elman.data.encoding import lines_of

__all__ = ["SEGMENTED", "Segment", "read_segments"]

SEGMENTED = (".srt", ".vtt", ".TextGrid", ".textgrid")
_TIME = r"(?:(\d+):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})"
_CUE = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}")
_LABEL = re.compile(r"(\d+(?:[.,]\d+)?)\t(\d+(?:[.,]\d+)?)(?:\t(.*))?$")
_INTERVAL = re.compile(
    r"xmin\s*=\s*([\d.]+)\s*\n\s*xmax\s*=\s*([\d.]+)\s*\n\s*text\s*=\s*\"((?:[^\"]|\"\")*)\"", re.MULTILINE
)
_MARKUP = re.compile(r"<[^>]*>|\{\\[^}]*\}")


class Segment(NamedTuple):
    """What is said from `start` to `end` (None: the end of the recording), in seconds; `line` of its file, from 1."""

    start: float
    end: float | None
    text: str
    line: int


def read_segments(text: str, suffix: str) -> list[Segment] | None:
    """The segments of a file with this suffix; None where it is a plain text without times."""
    kind = suffix.lower()
    if kind in {".srt", ".vtt"}:
        return list(_cues(text))
    if kind == ".textgrid":
        return list(_intervals(text))
    lines = [line for line in lines_of(text) if line.strip()]
    if lines and all(_LABEL.match(line) for line in lines):
        return list(_labels(text))
    return None


def _cues(text: str) -> Iterator[Segment]:
    lines = lines_of(text)
    for number, line in enumerate(lines):
        cue = _CUE.match(line)
        if cue:
            said = []
            for below in lines[number + 1 :]:
                if not below.strip():
                    break
                said.append(_MARKUP.sub("", below))
            times = cue.groups()
            yield Segment(
                _seconds(times[:4]), _seconds(times[4:]), " ".join(" ".join(said).split()), number + 1
            )


def _seconds(parts: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, thousandths = parts
    whole = 3600 * int(hours or 0) + 60 * int(minutes or 0) + int(seconds or 0)
    return whole + int((thousandths or "0").ljust(3, "0")) / 1000


def _labels(text: str) -> Iterator[Segment]:
    for number, line in enumerate(lines_of(text), 1):
        found = _LABEL.match(line)
        if found:
            start, end = (float(found[k].replace(",", ".")) for k in (1, 2))
            yield Segment(start, end, " ".join((found[3] or "").split()), number)


def _intervals(text: str) -> Iterator[Segment]:
    """The intervals of the first tier."""
    tier = re.split(r"item\s*\[2\]", text)[0]
    for found in _INTERVAL.finditer(tier):
        line = text.count("\n", 0, found.start()) + 1
        said = " ".join(found[3].replace('""', '"').split())
        yield Segment(float(found[1]), float(found[2]), said, line)
