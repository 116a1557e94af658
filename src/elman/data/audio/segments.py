"""Transcripts with times: SubRip, WebVTT, Praat's TextGrid, Audacity's labels, NIST's CTM."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from elman.data.encoding import lines_of

__all__ = ["SEGMENTED", "Mark", "Segment", "read_marks", "read_segments", "utterances"]

SEGMENTED = (".srt", ".vtt", ".TextGrid", ".textgrid")
_TIME = r"(?:(\d+):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})"
_CUE = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}")
_LABEL = re.compile(r"(\d+(?:[.,]\d+)?)\t(\d+(?:[.,]\d+)?)(?:\t(.*))?$")
# A TextGrid, long or short, is a row of texts, numbers and flags; names, numbers in brackets and comments are for eyes.
_ITEM = re.compile(
    r"\"(?P<text>(?:[^\"]|\"\")*)\"|\[[^\]\n]*\]|![^\n]*|(?<![\w.\"])(?P<number>-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)(?![\w.])"
)
_MARK = re.compile(r"(\S+)\s+(\S+)\s+(\d+(?:\.\d+)?)\s+(\d+(?:\.\d+)?)\s+(\S+)(?:\s+\S+){0,2}\s*$")
# Words of a CTM with a pause of so many seconds between them, or this long together, are two utterances; what is heard
# before and after the words, in seconds.
PAUSE, LONGEST, AROUND = 0.5, 15.0, 0.25
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
    """The intervals of the first tier that has them: its name, from, to, how many, and three items for each."""
    found = [item for item in _ITEM.finditer(text) if item["text"] is not None or item["number"] is not None]
    tier = next((k for k, item in enumerate(found) if item["text"] == "IntervalTier"), None)
    if tier is None or len(found) < tier + 5 or found[tier + 4]["number"] is None:
        return
    first = tier + 5
    for k in range(first, min(first + 3 * int(float(found[tier + 4]["number"])), len(found) - 2), 3):
        start, end, said = found[k : k + 3]
        if start["number"] is None or end["number"] is None or said["text"] is None:
            return
        line = text.count("\n", 0, said.start()) + 1
        words = " ".join(said["text"].replace('""', '"').split())
        yield Segment(float(start["number"]), float(end["number"]), words, line)


class Mark(NamedTuple):
    """A word of a CTM: when it is said in which channel of which recording, in seconds; `line` of its file, from 1."""

    recording: str
    channel: str
    start: float
    end: float
    word: str
    line: int


def read_marks(text: str) -> tuple[list[Mark], list[int]]:
    """The words of a CTM, `recording channel start length word [confidence]` a line; and the lines that are none.

    Comments, behind `;;`, and marks in angle brackets are no words.
    """
    marks, wrong = [], []
    for number, line in enumerate(lines_of(text), 1):
        if not line.strip() or line.lstrip().startswith(";;"):
            continue
        found = _MARK.match(line.strip())
        if not found:
            wrong.append(number)
        elif not found[5].startswith("<"):
            start = float(found[3])
            marks.append(Mark(found[1], found[2], start, start + float(found[4]), found[5], number))
    return marks, wrong


def utterances(marks: Iterable[Mark]) -> Iterator[tuple[str, Segment]]:
    """Words put together to what is said between two pauses, each with the name of its recording."""
    own: dict[tuple[str, str], list[Mark]] = {}
    for mark in marks:
        own.setdefault((mark.recording, mark.channel), []).append(mark)
    for (name, _), words in own.items():
        words.sort(key=lambda mark: mark.start)
        cuts = [0]
        for at in range(1, len(words)):
            long = words[at].end - words[cuts[-1]].start > LONGEST
            if long or words[at].start - words[at - 1].end >= PAUSE:
                cuts.append(at)
        for a, b in pairwise([*cuts, len(words)]):
            yield name, _between(words, a, b)


def _between(words: Sequence[Mark], a: int, b: int) -> Segment:
    """Words a to b - 1 with some of the silence around them, at most half of what lies to the next word."""
    start, end = words[a].start, words[b - 1].end
    before = (start - words[a - 1].end) / 2 if a else start
    # What is behind the last word is not known; a twentieth of a second beyond the end is let pass.
    after = (words[b].start - end) / 2 if b < len(words) else 0.05
    start -= min(AROUND, max(before, 0.0))
    end += min(AROUND, max(after, 0.0))
    return Segment(start, end, " ".join(mark.word for mark in words[a:b]), words[a].line)
