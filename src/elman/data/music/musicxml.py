"""MusicXML 4 (w3.org/2021/06/musicxml40), partwise, plain or packed (.mxl).

Read: notes with ties, chords, several voices, transposing instruments, percussion, divisions, tempo, key; repeats with
their endings, as they are played. Passed over: grace notes, ornaments; jumps (da capo, dal segno) are not followed.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple
from xml.etree import ElementTree

from elman.data.music.piece import FaultError, ForeignError, Note, Piece

__all__ = ["read_musicxml"]

TONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
MAJORS = ("Cb", "Gb", "Db", "Ab", "Eb", "Bb", "F", "C", "G", "D", "A", "E", "B", "F#", "C#")
MINORS = ("Ab", "Eb", "Bb", "F", "C", "G", "D", "A", "E", "B", "F#", "C#", "G#", "D#", "A#")
# A packed score of more bytes than this is none.
LARGEST = 100_000_000
JUMPS = "jumps (da capo, dal segno), which are not followed"
# No part is played more often.
MOST_TIMES = 16


def read_musicxml(data: bytes, name: str) -> Piece:
    """The piece of a file. Raises FaultError where there is none."""
    root = _root(_unpacked(data))
    if root.tag == "score-timewise":
        raise FaultError("a MusicXML file by time (save it as score-partwise)")
    if root.tag != "score-partwise":
        raise ForeignError("no MusicXML")
    piece = Piece(root.findtext("work/work-title") or root.findtext("movement-title") or name)
    tempo: dict[Fraction, float] = {}
    drums = _drums(root)
    parts = [part.findall("measure") for part in root.findall("part")]
    order = _played(parts)
    for number, (part, measures) in enumerate(zip(root.findall("part"), parts, strict=True)):
        reader = _Part(measures, order, number, drums.get(part.get("id", ""), {}))
        piece.notes += reader.notes
        tempo |= reader.tempo
        piece.key = piece.key or reader.key
        if reader.jumps and JUMPS not in piece.remarks:
            piece.remarks.append(JUMPS)
    if not piece.notes:
        raise FaultError("a MusicXML file without notes")
    piece.notes.sort()
    piece.tempo = sorted({0.0: 0.5, **{float(at): rate for at, rate in tempo.items()}}.items())
    return piece


def _unpacked(data: bytes) -> bytes:
    """The score of a packed file."""
    if data[:2] != b"PK":
        return data
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            path = next(
                (name for name in names if not name.startswith("META-INF") and name.endswith(".xml")), ""
            )
            path = path or next((name for name in names if name.endswith(".musicxml")), "")
            if "META-INF/container.xml" in names:
                container = _root(archive.read("META-INF/container.xml"))
                path = next(
                    (e.get("full-path", path) for e in container.iter() if e.tag.endswith("rootfile")), path
                )
            if archive.getinfo(path).file_size > LARGEST:
                raise FaultError(f"a score of more than {LARGEST:,} bytes")
            return archive.read(path)
    except (zipfile.BadZipFile, KeyError, OSError, RuntimeError) as error:
        raise FaultError(f"a damaged packed MusicXML file ({error})") from None


def _root(data: bytes) -> Any:
    # Entities that are defined in the file could grow without end; scores have none.
    if b"<!ENTITY" in data:
        raise FaultError("a MusicXML file that defines entities")
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise FaultError(f"no XML ({error})") from None


def _drums(root: Any) -> dict[str, dict[str, int]]:
    """The percussion instruments of each part: their pitch in MIDI."""
    found: dict[str, dict[str, int]] = {}
    for part in root.findall("part-list/score-part"):
        for instrument in part.findall("midi-instrument"):
            pitch = instrument.findtext("midi-unpitched")
            if pitch and pitch.isdigit():
                found.setdefault(part.get("id", ""), {})[instrument.get("id", "")] = int(pitch) - 1
    return found


class _Marks(NamedTuple):
    """What a measure says of repeats. begins: one begins with it. times: how often what it ends is played, 0 where it
    ends none. endings: at which times it is played; none where it is played each time. last: the last of an ending.
    """

    begins: bool = False
    times: int = 0
    endings: frozenset[int] = frozenset()
    last: bool = False


def _played(parts: Sequence[Sequence[Any]]) -> list[int]:
    """The numbers of the measures, from 0, in the order in which they are played. What one part says holds for all."""
    marks = _marks(parts)
    order: list[int] = []
    at, start, time = 0, 0, 1
    while at < len(marks):
        mark = marks[at]
        if mark.begins and at > start:
            start, time = at, 1
        skipped = bool(mark.endings) and time not in mark.endings
        if not skipped:
            order.append(at)
            if mark.times and time < max(mark.times, *_endings(marks, start, at)):
                time, at = time + 1, start
                continue
            if (mark.times and not mark.endings) or (mark.last and time >= max(_endings(marks, start, at))):
                start, time = at + 1, 1
        at += 1
    return order


def _endings(marks: Sequence[_Marks], start: int, at: int) -> Iterator[int]:
    """The times that the endings of a repeat are played at, of those up to a measure and behind it; 1 of none."""
    yield 1
    for place in range(start, len(marks)):
        if place > at and (marks[place].begins or not marks[place].endings):
            return
        yield from marks[place].endings


def _marks(parts: Sequence[Sequence[Any]]) -> list[_Marks]:
    """The marks of each measure, of all parts together."""
    found = [_Marks()] * max(map(len, parts), default=0)
    for measures in parts:
        ending: frozenset[int] = frozenset()
        for place, measure in enumerate(measures):
            begins, times, last = found[place].begins, found[place].times, found[place].last
            closed = False
            for bar in measure.findall("barline"):
                repeat, mark = bar.find("repeat"), bar.find("ending")
                if repeat is not None and repeat.get("direction") == "forward":
                    begins = True
                elif repeat is not None:
                    times = max(times, 2, min(MOST_TIMES, int(_number(repeat.get("times")))))
                if mark is not None and mark.get("type") == "start":
                    ending = _times(mark.get("number", ""))
                elif mark is not None:
                    closed = True
            found[place] = _Marks(
                begins, times, found[place].endings | ending, last or (closed and bool(ending))
            )
            if closed:
                ending = frozenset()
    return found


def _times(word: str) -> frozenset[int]:
    """1 and 2 of `1, 2`, 1 to 3 of `1-3`."""
    spans = re.findall(r"(\d+)(?:\s*-\s*(\d+))?", word)
    every = {
        time for first, last in spans for time in range(int(first), min(MOST_TIMES, int(last or first)) + 1)
    }
    return frozenset(every) or frozenset({1})


class _Part:
    """One part as it is played: its notes, times in quarter notes."""

    def __init__(
        self, measures: Sequence[Any], order: Sequence[int], number: int, drums: dict[str, int]
    ) -> None:
        self.number, self.drums = number, drums
        self.notes: list[Note] = []
        self.tempo: dict[Fraction, float] = {}
        self.key, self.jumps = "", False
        self.now = self.last = Fraction(0)
        self.divisions, self.transpose = Fraction(1), 0
        # Where a tied note began, and where it ends if nothing follows.
        self.held: dict[int, tuple[Fraction, Fraction]] = {}
        states = []
        for measure in measures:
            states.append((self.divisions, self.transpose))
            for element in measure.findall("attributes"):
                self._attributes(element)
        for place in order:
            if place < len(measures):
                self.divisions, self.transpose = states[place]
                self._measure(measures[place])
        self.notes += [self._note(*span, pitch) for pitch, span in self.held.items()]
        self.notes = [note for note in self.notes if note.end > note.start and 0 <= note.pitch <= 127]

    def _note(self, start: Fraction, end: Fraction, pitch: int, *, drum: bool = False) -> Note:
        return Note(float(start), float(end), pitch, 80, drum, self.number)

    def _measure(self, measure: Any) -> None:
        begun = furthest = self.now
        for element in measure:
            if element.tag == "attributes":
                self._attributes(element)
            elif element.tag == "note":
                self._take(element)
            elif element.tag in {"backup", "forward"}:
                length = self._duration(element)
                self.now = self.last = (
                    max(begun, self.now - length) if element.tag == "backup" else self.now + length
                )
            elif element.tag in {"direction", "sound"}:
                self._direction(element)
            furthest = max(furthest, self.now)
        self.now = furthest

    def _attributes(self, element: Any) -> None:
        divisions = _number(element.findtext("divisions"))
        if divisions > 0:
            self.divisions = divisions
        if element.find("transpose") is not None:
            steps = _number(element.findtext("transpose/chromatic"))
            self.transpose = int(steps + 12 * _number(element.findtext("transpose/octave-change")))
        fifths = element.findtext("key/fifths")
        if fifths and not self.key and -7 <= _number(fifths) <= 7:
            minor = element.findtext("key/mode") == "minor"
            place = int(_number(fifths)) + 7
            self.key = f"{MINORS[place]} minor" if minor else f"{MAJORS[place]} major"

    def _direction(self, element: Any) -> None:
        sound = element if element.tag == "sound" else element.find("sound")
        rate = _number(sound.get("tempo")) if sound is not None else Fraction(0)
        self.jumps |= sound is not None and bool({"dacapo", "dalsegno", "tocoda"} & set(sound.keys()))
        if rate > 0:
            self.tempo[self.now] = float(60 / rate)

    def _duration(self, element: Any) -> Fraction:
        return max(Fraction(0), _number(element.findtext("duration")) / self.divisions)

    def _take(self, element: Any) -> None:
        if element.find("grace") is not None:
            return
        length = self._duration(element)
        start = self.last if element.find("chord") is not None else self.now
        end = start + length
        if element.find("chord") is None:
            self.last, self.now = self.now, end
        pitch, drum = self._pitch(element)
        if pitch < 0 or element.find("cue") is not None:
            return
        ties = {tie.get("type") for tie in element.findall("tie")}
        begun, until = self.held.get(pitch, (start, start - 1))
        # Some programs write where a tie begins and not where it ends: what counts is that the notes meet.
        if until == start:
            del self.held[pitch]
        else:
            if pitch in self.held and "start" in ties:
                # A tie that leads nowhere.
                self.notes.append(self._note(begun, until, pitch))
            begun = start
        if "start" in ties:
            self.held[pitch] = (begun, end)
        else:
            self.notes.append(self._note(begun, end, pitch, drum=drum))

    def _pitch(self, element: Any) -> tuple[int, bool]:
        """The note's pitch, -1 for a rest; and whether it is percussion."""
        step = element.findtext("pitch/step")
        if step in TONES:
            alter = round(float(_number(element.findtext("pitch/alter"))))
            octave = int(_number(element.findtext("pitch/octave")))
            return 12 * (octave + 1) + TONES[step] + alter + self.transpose, False
        if element.find("unpitched") is None:
            return -1, False
        instrument = element.find("instrument")
        known = self.drums.get(instrument.get("id", ""), -1) if instrument is not None else -1
        return known if known >= 0 else next(iter(self.drums.values()), -1), True


def _number(word: str | None) -> Fraction:
    try:
        return Fraction((word or "0").strip())
    except (ValueError, ZeroDivisionError):
        return Fraction(0)
