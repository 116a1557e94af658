"""Chords by their symbols: `C Am7 F/A G7 | N`."""

from __future__ import annotations

import re
from typing import NamedTuple

from elman.config import UserError

__all__ = ["Chord", "chords_of"]

ROOTS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
# Semitones above the root.
KINDS = {
    "": (0, 4, 7),
    "maj": (0, 4, 7),
    "m": (0, 3, 7),
    "min": (0, 3, 7),
    "-": (0, 3, 7),
    "5": (0, 7),
    "6": (0, 4, 7, 9),
    "m6": (0, 3, 7, 9),
    "7": (0, 4, 7, 10),
    "maj7": (0, 4, 7, 11),
    "M7": (0, 4, 7, 11),
    "m7": (0, 3, 7, 10),
    "min7": (0, 3, 7, 10),
    "mM7": (0, 3, 7, 11),
    "9": (0, 4, 7, 10, 2),
    "maj9": (0, 4, 7, 11, 2),
    "m9": (0, 3, 7, 10, 2),
    "add9": (0, 4, 7, 2),
    "sus2": (0, 2, 7),
    "sus4": (0, 5, 7),
    "sus": (0, 5, 7),
    "7sus4": (0, 5, 7, 10),
    "dim": (0, 3, 6),
    "o": (0, 3, 6),
    "dim7": (0, 3, 6, 9),
    "o7": (0, 3, 6, 9),
    "m7b5": (0, 3, 6, 10),
    "aug": (0, 4, 8),
    "+": (0, 4, 8),
}
SYMBOL = re.compile(r"([A-G])([#b]?)([^/]*)(?:/([A-G])([#b]?))?")


class Chord(NamedTuple):
    """A chord. tones: of 0 (C) to 11 (B), empty where anything may sound. bass: its lowest tone."""

    symbol: str
    tones: frozenset[int]
    bass: int = -1


def chords_of(line: str) -> list[Chord]:
    """The chords of a line, set apart by spaces or bars; `%` is the last one again, N none. Raises UserError."""
    found: list[Chord] = []
    for word in line.replace("|", " ").split():
        if word == "%" and found:
            found.append(found[-1])
        elif word.upper() in {"N", "NC", "N.C."}:
            found.append(Chord("N", frozenset()))
        else:
            found.append(_chord(word))
    if not found:
        raise UserError("--chords: no chord is given; write them like 'C Am F G7'")
    return found


def _chord(word: str) -> Chord:
    match = SYMBOL.fullmatch(word)
    if match is None or match[3] not in KINDS:
        kinds = ", ".join(kind for kind in KINDS if kind)
        raise UserError(
            f"--chords: {word!r} is no chord; expected a root C to B with # or b, and nothing or one of {kinds}"
        )
    root = _tone(match[1], match[2])
    tones = frozenset((root + step) % 12 for step in KINDS[match[3]])
    bass = _tone(match[4], match[5]) if match[4] else root
    return Chord(word, tones | {bass}, bass)


def _tone(letter: str, sign: str) -> int:
    return (ROOTS[letter] + {"#": 1, "b": -1, "": 0}[sign]) % 12
