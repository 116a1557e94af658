"""Notes as MusicXML: two staves of a piano, and one of percussion where there is any; bars of four quarter notes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from elman.data.music.piece import Note, key_of, tonic_of

__all__ = ["musicxml_of"]

# Parts of a quarter note: halves down to a thirty-second, and thirds of all of them.
DIVISIONS = 24
BAR = 4 * DIVISIONS
# Length in parts: its name, dots, whether three stand in the time of two.
VALUES = {
    96: ("whole", 0, False),
    72: ("half", 1, False),
    48: ("half", 0, False),
    36: ("quarter", 1, False),
    24: ("quarter", 0, False),
    18: ("eighth", 1, False),
    16: ("quarter", 0, True),
    12: ("eighth", 0, False),
    9: ("16th", 1, False),
    8: ("eighth", 0, True),
    6: ("16th", 0, False),
    4: ("16th", 0, True),
    3: ("32nd", 0, False),
    2: ("32nd", 0, True),
    1: ("64th", 0, True),
}
# The letter and the sign of each tone, with sharps or with flats.
SHARP = tuple(
    (word[0], word.count("#")) for word in ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
)
FLAT = tuple(
    (word[0], -word.count("b")) for word in ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
)
# A key is written down where the notes fit it so well.
SURE = 0.6
MIDDLE = 60


class _Span(NamedTuple):
    """A note in parts of a quarter note."""

    start: int
    end: int
    pitch: int


def musicxml_of(notes: Sequence[Note], title: str, *, tempo: float = 120.0, program: int = 0) -> str:
    """The score of notes, times rounded to 1/24 of a quarter note. tempo: quarter notes a minute."""
    piano = [note for note in notes if not note.drum]
    drums = sorted({note.pitch for note in notes if note.drum})
    fifths = _fifths(piano)
    length = max((round(note.end * DIVISIONS) for note in notes), default=1)
    bars = max(1, -(-length // BAR))
    parts = [_listed("P1", "Piano", {"P1-I1": f"<midi-program>{program + 1}</midi-program>"}, channel=1)]
    if drums:
        sounds = {f"P2-I{pitch}": f"<midi-unpitched>{pitch + 1}</midi-unpitched>" for pitch in drums}
        parts.append(_listed("P2", "Percussion", sounds, channel=10))
    staves = [[note for note in piano if (note.pitch >= MIDDLE) == upper] for upper in (True, False)]
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<score-partwise version="4.0"><work><work-title>{escape(title)}</work-title></work>',
        f"<part-list>{''.join(parts)}</part-list>",
        '<part id="P1">',
        *_part([_spans(own) for own in staves], bars, fifths, tempo),
        "</part>",
    ]
    if drums:
        lines += [
            '<part id="P2">',
            *_part([_spans([note for note in notes if note.drum])], bars, 0, 0.0, drums=True),
            "</part>",
        ]
    return "\n".join([*lines, "</score-partwise>", ""])


def _listed(part: str, name: str, sounds: dict[str, str], *, channel: int) -> str:
    """A part as the head of the score lists it. sounds: what is heard, by the instruments' names."""
    instruments = "".join(
        f'<score-instrument id="{own}"><instrument-name>{name}</instrument-name></score-instrument>'
        for own in sounds
    )
    heard = "".join(
        f'<midi-instrument id="{own}"><midi-channel>{channel}</midi-channel>{sound}</midi-instrument>'
        for own, sound in sounds.items()
    )
    return f'<score-part id="{part}"><part-name>{name}</part-name>{instruments}{heard}</score-part>'


def _fifths(notes: Sequence[Note]) -> int:
    """The sharps (above 0) or flats of the key that the notes fit; 0 where they fit none."""
    key, fit = key_of(notes)
    if fit < SURE:
        return 0
    major = (tonic_of(key) + (3 if key.endswith("minor") else 0)) % 12
    return (major * 7 + 5) % 12 - 5


def _spans(notes: Sequence[Note]) -> list[_Span]:
    """Notes in parts, of each pitch one after the other."""
    found: list[_Span] = []
    last: dict[int, int] = {}
    for note in sorted(notes):
        start, end = round(note.start * DIVISIONS), round(note.end * DIVISIONS)
        end = max(end, start + 1)
        if note.pitch in last and found[last[note.pitch]].end > start:
            before = last[note.pitch]
            if found[before].start == start:
                found[before] = found[before]._replace(end=max(end, found[before].end))
                continue
            found[before] = found[before]._replace(end=start)
        last[note.pitch] = len(found)
        found.append(_Span(start, end, note.pitch))
    return found


def _part(
    staves: Sequence[Sequence[_Span]], bars: int, fifths: int, tempo: float, *, drums: bool = False
) -> Iterator[str]:
    cut = [list(_slices(spans, bars)) for spans in staves]
    for bar in range(bars):
        yield f'<measure number="{bar + 1}">'
        if bar == 0:
            yield _attributes(len(staves), fifths, drums=drums)
            if tempo:
                beat = (
                    f"<metronome><beat-unit>quarter</beat-unit><per-minute>{tempo:g}</per-minute></metronome>"
                )
                yield f'<direction><direction-type>{beat}</direction-type><sound tempo="{tempo:g}"/></direction>'
        for number, slices in enumerate(cut, 1):
            if number > 1:
                yield f"<backup><duration>{BAR}</duration></backup>"
            for start, end, sounding in slices:
                if bar * BAR <= start < (bar + 1) * BAR:
                    yield from _chord(start, end, sounding, number, fifths, drums=drums)
        yield "</measure>"


def _attributes(staves: int, fifths: int, *, drums: bool) -> str:
    clefs = (
        "<clef><sign>percussion</sign></clef>"
        if drums
        else '<clef number="1"><sign>G</sign><line>2</line></clef><clef number="2"><sign>F</sign><line>4</line></clef>'
    )
    time = "<time><beats>4</beats><beat-type>4</beat-type></time>"
    return (
        f"<attributes><divisions>{DIVISIONS}</divisions><key><fifths>{fifths}</fifths></key>{time}"
        f"{f'<staves>{staves}</staves>' if staves > 1 else ''}{clefs}</attributes>"
    )


def _slices(spans: Sequence[_Span], bars: int) -> Iterator[tuple[int, int, list[_Span]]]:
    """The time between two changes, bar lines and lengths that have a sign among them, with what sounds."""
    places = {bar * BAR for bar in range(bars + 1)} | {place for span in spans for place in span[:2]}
    cuts = sorted(place for place in places if place <= bars * BAR)
    sounding: list[_Span] = []
    waiting = sorted(spans, reverse=True)
    for start, end in pairwise(cuts):
        sounding = [span for span in sounding if span.end > start]
        while waiting and waiting[-1].start <= start:
            sounding.append(waiting.pop())
        own = sorted((span for span in sounding if span.end > start), key=lambda span: span.pitch)
        now = start
        while now < end:
            size = next(size for size in VALUES if size <= end - now)
            yield now, now + size, own
            now += size


def _chord(
    start: int, end: int, sounding: Sequence[_Span], staff: int, fifths: int, *, drums: bool
) -> Iterator[str]:
    name, dots, third = VALUES[end - start]
    value = f"<duration>{end - start}</duration>"
    look = f"<voice>{staff}</voice><type>{name}</type>{'<dot/>' * dots}"
    if third:
        look += "<time-modification><actual-notes>3</actual-notes><normal-notes>2</normal-notes></time-modification>"
    where = "" if drums else f"<staff>{staff}</staff>"
    if not sounding:
        yield f"<note><rest/>{value}{look}{where}</note>"
    for place, span in enumerate(sounding):
        ties = [kind for kind, tied in (("stop", span.start < start), ("start", span.end > end)) if tied]
        heard = "".join(f'<tie type="{kind}"/>' for kind in ties)
        seen = "".join(f'<tied type="{kind}"/>' for kind in ties)
        seen = f"<notations>{seen}</notations>" if ties else ""
        chord = "<chord/>" if place else ""
        what, by = _pitch(span.pitch, fifths, drums=drums)
        yield f"<note>{chord}{what}{value}{heard}{by}{look}{where}{seen}</note>"


def _pitch(pitch: int, fifths: int, *, drums: bool) -> tuple[str, str]:
    if drums:
        return "<unpitched/>", f"<instrument id={quoteattr(f'P2-I{pitch}')}/>"
    step, alter = (FLAT if fifths < 0 else SHARP)[pitch % 12]
    sign = f"<alter>{alter}</alter>" if alter else ""
    return f"<pitch><step>{step}</step>{sign}<octave>{pitch // 12 - 1}</octave></pitch>", ""
