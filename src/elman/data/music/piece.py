"""A piece of music: its notes over time, its tempo, its key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "MAJOR",
    "FaultError",
    "ForeignError",
    "Note",
    "Piece",
    "key_of",
    "note_name",
    "seconds_at",
    "tonic_of",
]

NAMES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
TONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
# How well each tone fits a key, from the tonic up (Krumhansl & Kessler 1982, probe-tone ratings).
MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)
# Seconds a quarter note where a file says nothing: 120 quarter notes a minute.
USUAL = 0.5


class FaultError(Exception):
    """Why a file, or a piece in it, gives nothing: a short noun for the account."""


class ForeignError(FaultError):
    """What a file is that is no music though its ending allows it: beside music in a folder it is set aside."""


class Note(NamedTuple):
    """A note. start, end: in quarter notes from the beginning. pitch: its number in MIDI, 60 is C4.

    velocity: how hard it is struck, 1 to 127. drum: whether it is a percussion instrument by its number. voice: the
    channel or part that it comes from.
    """

    start: float
    end: float
    pitch: int
    velocity: int = 80
    drum: bool = False
    voice: int = 0


@dataclass
class Piece:
    """Notes in order of their start, or the steps of a piano roll.

    steps: the pitches that sound at each step, where the piece comes from a piano roll; notes are then made of them.
    tempo: (quarter note, seconds a quarter note from there on), ascending, the first at 0.
    key: `C major` as the file says it, "" where it does not. remarks: what was mended in reading.
    """

    name: str
    notes: list[Note] = field(default_factory=list)
    steps: list[tuple[int, ...]] | None = None
    tempo: list[tuple[float, float]] = field(default_factory=lambda: [(0.0, USUAL)])
    key: str = ""
    remarks: list[str] = field(default_factory=list)

    @property
    def length(self) -> float:
        """Quarter notes until the last note has ended."""
        return max((note.end for note in self.notes), default=0.0)


def seconds_at(piece: Piece, quarters: Sequence[float] | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The time in seconds of places in quarter notes, by the tempo of each stretch."""
    starts = np.array([at for at, _ in piece.tempo])
    rates = np.array([rate for _, rate in piece.tempo])
    passed = np.concatenate([[0.0], np.cumsum(np.diff(starts) * rates[:-1])])
    places = np.asarray(quarters, dtype=np.float64)
    stretch = np.clip(np.searchsorted(starts, places, side="right") - 1, 0, len(starts) - 1)
    found: npt.NDArray[np.float64] = passed[stretch] + (places - starts[stretch]) * rates[stretch]
    return found


def note_name(pitch: int) -> str:
    """`C4` of 60."""
    return f"{NAMES[pitch % 12]}{pitch // 12 - 1}"


def tonic_of(key: str) -> int:
    """The tone, 0 for C, of a key's name such as `Eb minor`."""
    word = key.split(maxsplit=1)[0]
    return (TONES[word[0]] + word.count("#") - word[1:].count("b")) % 12


def key_of(notes: Sequence[Note]) -> tuple[str, float]:
    """The key that notes fit best, and how well: the correlation of the time that each of the twelve tones sounds with
    the profile of the key (Krumhansl 1990). ("", 0) where there is nothing to tell it by.
    """
    time = np.zeros(12)
    for note in notes:
        if not note.drum:
            time[note.pitch % 12] += note.end - note.start
    if np.ptp(time) == 0:
        return "", 0.0
    fits = {
        f"{NAMES[tonic]} {mode}": float(np.corrcoef(np.roll(profile, tonic), time)[0, 1])
        for mode, profile in (("major", MAJOR), ("minor", MINOR))
        for tonic in range(12)
    }
    best = max(fits, key=lambda key: fits[key])
    return best, fits[best]
