"""Transcripts as files: text, words with times, JSON, SubRip, WebVTT, and CTM (NIST's conversation time marks)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from elman.tasks.speech.hearing import Heard, HeardWord

__all__ = ["WRITERS", "Transcript", "cues"]

# A subtitle ends at a pause, or where it would be longer than this: seconds, and characters of two lines.
PAUSE, LONGEST, WIDEST = 0.8, 6.0, 84


class Transcript(NamedTuple):
    """What was heard in a recording of so many seconds."""

    name: str
    heard: Heard
    seconds: float


def text(transcripts: Sequence[Transcript], *, several: bool, first: int = 1) -> str:
    """A line a recording, behind its name and a tab where there are several."""
    return "".join(
        f"{one.name}\t{one.heard.text}\n" if several else f"{one.heard.text}\n" for one in transcripts
    )


def words(transcripts: Sequence[Transcript], *, several: bool, first: int = 1) -> str:
    """A line a word: start, end, confidence, word; the name in front where there are several."""
    return "".join(
        f"{f'{one.name}{chr(9)}' if several else ''}{w.start:.2f}\t{w.end:.2f}\t{w.confidence:.3f}\t{w.word}\n"
        for one in transcripts
        for w in one.heard.words
    )


def as_json(transcripts: Sequence[Transcript], *, several: bool, first: int = 1) -> str:
    """An object a line."""
    return "".join(
        json.dumps(
            {
                "recording": one.name,
                "seconds": round(one.seconds, 3),
                "text": one.heard.text,
                "confidence": round(one.heard.confidence, 4),
                "words": [word.to_json() for word in one.heard.words],
            },
            ensure_ascii=False,
        )
        + "\n"
        for one in transcripts
    )


def ctm(transcripts: Sequence[Transcript], *, several: bool, first: int = 1) -> str:
    """`recording channel start length word confidence`."""
    return "".join(
        f"{one.name} 1 {w.start:.2f} {w.end - w.start:.2f} {w.word} {w.confidence:.3f}\n"
        for one in transcripts
        for w in one.heard.words
    )


def srt(transcripts: Sequence[Transcript], *, several: bool, first: int = 1) -> str:
    """SubRip: numbered cues, a comma in front of the milliseconds."""
    found = [cue for one in transcripts for cue in cues(one.heard.words)]
    return "".join(
        f"{number}\n{_time(start, ',')} --> {_time(end, ',')}\n{said}\n\n"
        for number, (start, end, said) in enumerate(found, first)
    )


def vtt(transcripts: Sequence[Transcript], *, several: bool, first: int = 1) -> str:
    """WebVTT: a header, cues, a point in front of the milliseconds."""
    found = [cue for one in transcripts for cue in cues(one.heard.words)]
    body = "".join(f"{_time(start, '.')} --> {_time(end, '.')}\n{said}\n\n" for start, end, said in found)
    return f"WEBVTT\n\n{body}" if first == 1 else body


def cues(said: Sequence[HeardWord]) -> Iterator[tuple[float, float, str]]:
    """Words as subtitles: start, end, text."""
    group: list[HeardWord] = []
    for word in said:
        if group:
            wide = sum(len(other.word) + 1 for other in group) + len(word.word) > WIDEST
            long = word.end - group[0].start > LONGEST
            if wide or long or word.start - group[-1].end >= PAUSE:
                yield _cue(group)
                group = []
        group.append(word)
    if group:
        yield _cue(group)


def _cue(group: Sequence[HeardWord]) -> tuple[float, float, str]:
    return group[0].start, group[-1].end, " ".join(word.word for word in group)


def _time(seconds: float, sign: str) -> str:
    whole = round(seconds * 1000)
    return f"{whole // 3600000:02}:{whole // 60000 % 60:02}:{whole // 1000 % 60:02}{sign}{whole % 1000:03}"


Writer = Callable[..., str]
WRITERS: dict[str, Writer] = {
    "text": text,
    "words": words,
    "json": as_json,
    "srt": srt,
    "vtt": vtt,
    "ctm": ctm,
}
