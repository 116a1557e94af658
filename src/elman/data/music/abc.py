"""ABC notation, 2.1 (abcnotation.com/wiki/abc:standard:v2.1): a file of tunes, each from its `X:` to an empty line.

Read: fields X, T, M, L, Q, K, V, also within a line; notes with accidentals, octaves, lengths and broken rhythm;
chords, ties, tuplets, rests; bars, repeats and their endings. Passed over: grace notes, decorations (of every letter
that can be one), reserved signs, chord symbols, lyrics; and overlays of a bar (`&`), which is remarked on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from elman.data.music.piece import FaultError, Note, Piece

__all__ = ["read_abc"]

TONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
SHARPS = "FCGDAEB"
# Fifths above the major key of the same name.
MODES = {
    "maj": 0,
    "ion": 0,
    "": 0,
    "mix": -1,
    "dor": -2,
    "m": -3,
    "min": -3,
    "aeo": -3,
    "phr": -4,
    "loc": -5,
    "lyd": 1,
}
FIFTHS = {"C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5, "F": -1}
# A tuplet of p notes in the time of q.
TIMES = {2: 3, 3: 2, 4: 3, 5: 2, 6: 2, 7: 2, 8: 3, 9: 2}
SHIFTS = {"^": 1, "^^": 2, "_": -1, "__": -2, "=": 0}
CHANGED = "a tempo that changes within a tune, where the first one is taken"
OVERLAID = "voices overlaid within a bar (&), which are left out"
FIELD = re.compile(r"^([A-Za-z+]):(.*)$")
TOKEN = re.compile(
    r"""
    (?P<skip> \s+ | `+ | "[^"]*" | ![^!\s]*! | \+[^+\s]*\+ | \{[^}]*\} | [~.H-Wh-w] | [\\$y!+*\#;?@] )
  | (?P<inline> \[[A-Za-z]:[^\]]*\] )
  | (?P<bar> :*\|[\]|:]* (?:\[?[1-9][0-9,-]*)? | :*\[\|[\]|:]* | :+ | \[[1-9][0-9,-]* )
  | (?P<overlay> & )
  | (?P<tuplet> \([2-9](?::[0-9]*){0,2} )
  | (?P<chord> \[ [^\]\|:]+ \] (?P<chordlength> [0-9/]* ) )
  | (?P<note> (?P<accidental> \^{1,2} | _{1,2} | = )? (?P<letter> [A-Ga-g] ) (?P<octave> [,']* ) (?P<length> [0-9/]* ) )
  | (?P<rest> [zxZX] (?P<restlength> [0-9/]* ) )
  | (?P<broken> >+ | <+ )
  | (?P<tie> - )
  | (?P<slur> [()] )
    """,
    re.VERBOSE,
)
INNER = re.compile(r"(\^{1,2}|_{1,2}|=)?([A-Ga-g])([,']*)([0-9/]*)(-?)")


@dataclass
class _Sound:
    """Notes of one length: pitches, their length in whole notes, those of them that are tied to what comes next."""

    pitches: list[int]
    length: Fraction
    tied: set[int] = field(default_factory=set)
    # An ending's numbers, or a mark of a repeat: "|:", ":|", "::", "|"; sounds have none.
    mark: str = ""


def read_abc(text: str, name: str) -> list[Piece | tuple[str, int]]:
    """The tunes of a file; in the place of one that cannot be read, (reason, its line). Raises FaultError for none."""
    tunes = list(_tunes(text))
    if not tunes:
        raise FaultError("an ABC file without a tune (a line X: begins one)")
    found: list[Piece | tuple[str, int]] = []
    for number, (line, lines) in enumerate(tunes, 1):
        try:
            found.append(_Tune(lines, f"{name} {number}" if len(tunes) > 1 else name).piece())
        except FaultError as fault:
            found.append((str(fault), line))
    return found


def _tunes(text: str) -> Iterator[tuple[int, list[str]]]:
    """The lines of each tune, and where it begins."""
    begun, lines = 0, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        bare = re.sub(r"(?<!\\)%.*", "", line).rstrip()
        if bare.startswith("X:"):
            if lines:
                yield begun, lines
            begun, lines = number, [bare]
        elif lines and not line.strip():
            yield begun, lines
            lines = []
        elif lines and bare:
            lines.append(bare)
    if lines:
        yield begun, lines


class _Tune:
    """One tune as it is read."""

    def __init__(self, lines: list[str], name: str) -> None:
        self.lines, self.name = lines, name
        self.meter, self.unit, self.key = Fraction(1), Fraction(0), ""
        self.signature: dict[str, int] = {}
        self.tempo: float = 0.0
        self.voices: dict[str, list[_Sound]] = {"1": []}
        self.voice = "1"
        self.remarks: list[str] = []

    def piece(self) -> Piece:
        """Its notes. Raises FaultError where it has none, or no key."""
        for line in self.lines:
            match = FIELD.match(line)
            # A note before a repeat's end looks like a field.
            if match and not match[2].startswith("|"):
                self._field(match[1], match[2].strip())
            elif self.key:
                self._music(line)
        if not self.key:
            raise FaultError("a tune without a key (a line K: ends its head)")
        notes = [
            note
            for number, sounds in enumerate(self.voices.values())
            for note in _notes(_played(sounds), number)
        ]
        if not notes:
            raise FaultError("a tune without notes")
        tempo = [(0.0, 60 / self.tempo)] if self.tempo else [(0.0, 0.5)]
        return Piece(
            self.name,
            sorted(notes),
            tempo=tempo,
            key=self.key if self.key != "none" else "",
            remarks=self.remarks,
        )

    def _field(self, letter: str, value: str) -> None:
        if letter == "T" and value:
            self.name = f"{self.name} {value}" if value not in self.name else self.name
        elif letter == "M":
            self._meter(value)
        elif letter == "L":
            match = re.match(r"(\d+)\s*/\s*(\d+)", value)
            self.unit = Fraction(int(match[1]), int(match[2])) if match and int(match[2]) else self.unit
        elif letter == "Q":
            self._tempo(value)
        elif letter == "K":
            self._key(value)
        elif letter == "V" and value:
            self.voice = value.split(maxsplit=1)[0]
            self.voices.setdefault(self.voice, [])

    def _meter(self, value: str) -> None:
        match = re.match(r"([\d+ ()]+)/\s*(\d+)", value)
        if match and int(match[2]):
            beats = sum(int(number) for number in re.findall(r"\d+", match[1]))
            self.meter = Fraction(beats, int(match[2])) or Fraction(1)
        else:
            self.meter = Fraction(1)

    @property
    def length(self) -> Fraction:
        """The length of a note without a number."""
        return self.unit or (Fraction(1, 16) if self.meter < Fraction(3, 4) else Fraction(1, 8))

    def _tempo(self, value: str) -> None:
        """Quarter notes a minute of `1/4=120`, `3/8=60`, `120`."""
        value = re.sub(r'"[^"]*"', "", value)
        if self.tempo and any(self.voices.values()):
            self._remark(CHANGED)
            return
        match = re.search(r"(\d+)/(\d+)\s*=\s*(\d+)", value)
        if match and int(match[2]):
            self.tempo = int(match[3]) * 4 * int(match[1]) / int(match[2])
        elif number := re.search(r"\d+", value):
            self.tempo = int(number[0]) * 4 * float(self.length)

    def _key(self, value: str) -> None:
        # A clef keeps the key; bagpipes (Hp) have that of D.
        if self.key and re.match(r"(clef|middle|stafflines)\s*=|(treble|alto|tenor|bass)\b", value):
            return
        value = re.sub(r"^Hp\b", "D", value)
        match = re.match(r"([A-G])([#b]?)\s*([A-Za-z]*)", value)
        if value.lower().startswith("none") or not match:
            self.key, self.signature = "none", {}
            return
        mode = match[3].lower()[:3] if match[3] != "m" else "m"
        shift = MODES.get(mode, 0)
        fifths = FIFTHS[match[1]] + {"#": 7, "b": -7, "": 0}[match[2]] + shift
        self.signature = dict.fromkeys(SHARPS[: max(0, fifths)], 1) | dict.fromkeys(
            SHARPS[::-1][: max(0, -fifths)], -1
        )
        self.key = f"{match[1]}{match[2]} {'minor' if shift == -3 else 'major'}"
        if shift not in {0, -3}:
            # The tones of a church mode are those of a major key; named so.
            names = ["Cb", "Gb", "Db", "Ab", "Eb", "Bb", "F", "C", "G", "D", "A", "E", "B", "F#", "C#"]
            self.key = f"{names[fifths + 7]} major" if -7 <= fifths <= 7 else "none"
        self._altered(value[match.end() :], alone=mode == "exp")

    def _altered(self, signs: str, *, alone: bool) -> None:
        """Accidentals that stand behind a key, `^c _b`, beside those of the key or alone."""
        own = {
            letter.upper(): SHIFTS[sign]
            for sign, letter in re.findall(r"(?<!\S)(\^\^?|__?|=)([A-Ga-g])", signs)
        }
        if alone or own:
            self.signature = ({} if alone else self.signature) | own
            self.key = "none"

    def _remark(self, words: str) -> None:
        if words not in self.remarks:
            self.remarks.append(words)

    # The music

    def _music(self, line: str) -> None:
        sounds, at = self.voices[self.voice], 0
        accidentals: dict[tuple[str, int], int] = {}
        left, factor, broken = 0, Fraction(1), Fraction(1)
        overlaid = False
        while at < len(line):
            match = TOKEN.match(line, at)
            if match is None:
                raise FaultError(f"a sign that is no ABC ({line[at]!r})")
            at = match.end()
            kind = next(name for name in KINDS if match[name] is not None)
            # An overlay begins at its sign and ends at the next bar line.
            overlaid = kind == "overlay" or (overlaid and kind != "bar")
            if overlaid:
                self._remark(OVERLAID)
                continue
            if kind == "inline":
                self._field(match[0][1], match[0][3:-1].strip())
                sounds = self.voices[self.voice]
            elif kind == "bar":
                accidentals.clear()
                sounds += [
                    _Sound([], Fraction(0), mark=mark)
                    for mark in _marks(match[0], at_start=not line[: match.start()].strip())
                ]
            elif kind == "tuplet":
                left, factor = _tuplet(match[0], self.meter)
            elif kind in {"chord", "note", "rest"}:
                sound = self._sound(match, kind, accidentals)
                sound.length *= broken * (factor if left else 1)
                left, broken = max(0, left - 1), Fraction(1)
                sounds.append(sound)
            elif kind == "broken" and sounds and not sounds[-1].mark:
                half = Fraction(1, 2 ** len(match[0]))
                long, short = 2 - half, half
                mine, broken = (long, short) if match[0][0] == ">" else (short, long)
                sounds[-1].length *= mine
            elif kind == "tie":
                last = next((sound for sound in reversed(sounds) if not sound.mark), _Sound([], Fraction(0)))
                last.tied |= set(last.pitches)

    def _sound(self, match: re.Match[str], kind: str, accidentals: dict[tuple[str, int], int]) -> _Sound:
        if kind == "rest":
            whole = self.meter if match[0][0] in "ZX" else self.length
            return _Sound([], whole * _times(match["restlength"]))
        if kind == "note":
            parts = (match["accidental"], match["letter"], match["octave"])
            return _Sound([self._pitch(*parts, accidentals)], self.length * _times(match["length"]))
        inner = list(INNER.finditer(match[0].split("]")[0]))
        if not inner:
            raise FaultError("a chord without notes")
        pitches = [self._pitch(one[1], one[2], one[3], accidentals) for one in inner]
        length = self.length * _times(inner[0][4]) * _times(match["chordlength"])
        return _Sound(pitches, length, {pitch for pitch, one in zip(pitches, inner, strict=True) if one[5]})

    def _pitch(
        self, sign: str | None, letter: str, marks: str, accidentals: dict[tuple[str, int], int]
    ) -> int:
        octave = 60 + 12 * (letter.islower() + marks.count("'") - marks.count(","))
        name = letter.upper()
        if sign:
            accidentals[name, octave] = sign.count("^") - sign.count("_")
        return octave + TONES[name] + accidentals.get((name, octave), self.signature.get(name, 0))


KINDS = ("skip", "inline", "bar", "tuplet", "chord", "note", "rest", "broken", "tie", "slur", "overlay")


def _times(word: str) -> Fraction:
    """`3/2`, `/`, `//`, `2`, nothing."""
    if not word:
        return Fraction(1)
    above, slash, below = word.partition("/")
    first = int(above) if above else 1
    if not slash:
        return Fraction(first)
    divisor = int(below) if below.isdigit() and int(below) else 2 ** (1 + below.count("/"))
    return Fraction(first, divisor)


def _tuplet(word: str, meter: Fraction) -> tuple[int, Fraction]:
    """How many notes a tuplet has, and what their lengths are multiplied by."""
    parts = [int(part) if part else 0 for part in word[1:].split(":")]
    p = parts[0]
    compound = meter.numerator % 3 == 0 and meter.denominator == 8
    usual = 3 if compound and p in {5, 7, 9} else TIMES[p]
    q = parts[1] if len(parts) > 1 and parts[1] else usual
    return (parts[2] if len(parts) > 2 and parts[2] else p), Fraction(q, p)


def _marks(bar: str, *, at_start: bool) -> list[str]:
    """What a bar line says of repeats: ":" ends a part, "|:" begins one, "[1" an ending.

    at_start: whether the line begins with it; a lone ":" begins a part there (its bar closes the line before), and
    ends one elsewhere.
    """
    if bar == ":":
        return ["|:" if at_start else ":|"]
    found = []
    lines = re.sub(r"\[?[1-9][0-9,-]*$", "", bar)
    if lines.startswith(":"):
        found.append(":|")
    if lines.endswith(":"):
        found.append("|:")
    if not found:
        found.append("|")
    ending = re.search(r"([1-9][0-9,-]*)$", bar)
    if ending:
        found.append(f"[{ending[1]}")
    return found


def _played(sounds: list[_Sound]) -> list[_Sound]:
    """The sounds as they are played: what is repeated twice, or as often as it has endings."""
    found: list[_Sound] = []
    at, start, time = 0, 0, 1
    while at < len(sounds):
        mark = sounds[at].mark
        if not mark:
            found.append(sounds[at])
        elif mark == "|:" and at >= start:
            start, time = at + 1, 1
        elif mark == ":|":
            endings = [_numbers(sound.mark) for sound in _part(sounds, start)]
            again = any(time + 1 in numbers for numbers in endings) if endings else time == 1
            if again:
                time, at = time + 1, start
                continue
            start, time = at + 1, 1
        elif mark.startswith("[") and time not in _numbers(mark):
            at = _behind_ending(sounds, at)
            continue
        at += 1
    return found


def _part(sounds: list[_Sound], start: int) -> Iterator[_Sound]:
    """The endings of the part that begins there."""
    for sound in sounds[start:]:
        if sound.mark == "|:":
            return
        if sound.mark.startswith("["):
            yield sound


def _behind_ending(sounds: list[_Sound], at: int) -> int:
    """Where the next ending begins, or what comes behind the repeat's end."""
    for place in range(at + 1, len(sounds)):
        if sounds[place].mark.startswith("["):
            return place
        if sounds[place].mark == ":|" and not (
            place + 1 < len(sounds) and sounds[place + 1].mark.startswith("[")
        ):
            return place + 1
    return len(sounds)


def _numbers(mark: str) -> set[int]:
    """1 and 3 of `[1,3`; 1 to 3 of `[1-3`."""
    found: set[int] = set()
    for first, last in re.findall(r"(\d+)(?:-(\d+))?", mark):
        found |= set(range(int(first), int(last or first) + 1))
    return found


def _notes(sounds: list[_Sound], voice: int) -> list[Note]:
    """Sounds one after the other, ties united."""
    now = Fraction(0)
    held: dict[int, Fraction] = {}
    found: list[Note] = []
    for sound in sounds:
        end = now + sound.length * 4
        for pitch in sound.pitches:
            start = held.pop(pitch, now)
            if pitch in sound.tied:
                held[pitch] = start
            elif 0 <= pitch <= 127 and end > start:
                found.append(Note(float(start), float(end), pitch, 80, voice=voice))
        # A tie that leads nowhere.
        lost = [pitch for pitch in held if pitch not in sound.pitches]
        found += [Note(float(held.pop(pitch)), float(now), pitch, 80, voice=voice) for pitch in lost]
        now = end
    found += [Note(float(start), float(now), pitch, 80, voice=voice) for pitch, start in held.items()]
    return [note for note in found if note.end > note.start and 0 <= note.pitch <= 127]
