"""What pieces are like, in numbers; and how much of a piece stands in others: the longest passage that both have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.data.music.piece import Note, key_of, note_name

__all__ = ["Figures", "Passage", "Passages", "figures_of"]

Roll = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
# An odd number without a pattern: passages are compared by polynomials in it, modulo 2^64, and then step by step.
BASE, MODULUS = 0x9E3779B97F4A7C15, 1 << 64


class Figures(NamedTuple):
    """Notes in numbers. low, high: pitches; rate: notes a second; together: notes that sound at once, while any does;
    key, fit: see `elman.data.music.key_of`.
    """

    notes: int
    seconds: float
    low: int
    high: int
    rate: float
    together: float
    key: str
    fit: float

    def rows(self) -> dict[str, object]:
        """What each is called, and its value as it is shown."""
        return {
            "seconds": round(self.seconds, 1),
            "notes": self.notes,
            "notes a second": round(self.rate, 2),
            "range": f"{note_name(self.low)} to {note_name(self.high)}" if self.notes else "",
            "sounding at once": round(self.together, 2),
            "key": f"{self.key} ({self.fit:.2f})" if self.key else "",
        }


def figures_of(notes: Sequence[Note], seconds_a_quarter: float) -> Figures:
    """The figures of notes at a tempo."""
    pitched = [note.pitch for note in notes if not note.drum] or [note.pitch for note in notes]
    length = max((note.end for note in notes), default=0.0) * seconds_a_quarter
    sounding = sum(note.end - note.start for note in notes) * seconds_a_quarter
    key, fit = key_of(notes)
    return Figures(
        len(notes),
        length,
        min(pitched, default=0),
        max(pitched, default=0),
        len(notes) / length if length else 0.0,
        sounding / (_covered(notes) * seconds_a_quarter) if notes else 0.0,
        key,
        fit,
    )


def _covered(notes: Sequence[Note]) -> float:
    """Quarter notes in which any note sounds."""
    total, end = 0.0, -np.inf
    for note in sorted(notes):
        total += max(0.0, note.end - max(note.start, end))
        end = max(end, note.end)
    return float(total)


class Passage(NamedTuple):
    """Steps that two pieces share, perhaps in another key. changes: how many of them differ from the one before.

    start: the step in the piece. piece, there: which of the others has it, and from which of its steps.
    """

    steps: int
    changes: int
    start: int = 0
    piece: int = -1
    there: int = 0


class Passages:
    """Pieces in which passages of another one are looked for."""

    def __init__(self, rolls: Sequence[Roll]) -> None:
        """Take the rolls `(T, K)`."""
        self._numbers: dict[tuple[bytes, bytes, int], int] = {}
        moves = [self._moves(roll) for roll in rolls]
        # Between two pieces stands a number that no move has.
        parts = [np.append(own, -1 - place) for place, own in enumerate(moves)]
        self._joined = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
        self._starts = np.cumsum([0, *(len(own) + 1 for own in moves)])
        self._prefixes = _prefixes(self._joined)

    def longest(self, roll: Roll) -> Passage:
        """The longest run of steps of a roll that one of the pieces has too, in this key or in another."""
        own = self._moves(roll)
        prefixes = _prefixes(own)
        low, high, found = 0, len(own), (0, 0)
        while low < high:
            middle = (low + high + 1) // 2
            place = self._run(own, prefixes, middle)
            if place is None:
                high = middle - 1
            else:
                low, found = middle, place
        if low == 0:
            return Passage(0, 0)
        piece = int(np.searchsorted(self._starts, found[1], side="right")) - 1
        passage = np.asarray(roll)[found[0] : found[0] + low + 1]
        changes = int((passage[1:] != passage[:-1]).any(axis=1).sum())
        return Passage(low + 1, changes, found[0], piece, int(found[1] - self._starts[piece]))

    def _moves(self, roll: Roll) -> Ints:
        """A number for each pair of neighbouring steps `(T - 1,)`, equal where they differ by a transposition only."""
        on = np.asarray(roll) > 0
        lowest = np.where(on.any(axis=1), on.argmax(axis=1), -1).tolist()
        shapes = [
            np.packbits(row[max(low, 0) :]).tobytes().rstrip(b"\0")
            for row, low in zip(on, lowest, strict=True)
        ]
        found = np.zeros(max(0, len(on) - 1), dtype=np.int64)
        for t in range(len(found)):
            step = lowest[t + 1] - lowest[t] if lowest[t] >= 0 and lowest[t + 1] >= 0 else 0
            found[t] = self._numbers.setdefault((shapes[t], shapes[t + 1], step), len(self._numbers))
        return found

    def _run(self, own: Ints, prefixes: Hashes, length: int) -> tuple[int, int] | None:
        """Where a run of so many moves stands in both; None where there is none."""
        if len(self._joined) < length:
            return None
        mine, theirs = _hashes(prefixes, length), _hashes(self._prefixes, length)
        order = np.argsort(theirs, kind="stable")
        places = np.searchsorted(theirs[order], mine)
        for start in np.flatnonzero(places < len(theirs)):
            there = int(order[places[start]])
            same = theirs[there] == mine[start]
            if same and np.array_equal(own[start : start + length], self._joined[there : there + length]):
                return int(start), there
        return None


def _prefixes(moves: Ints) -> Hashes:
    """The polynomial of each prefix, the empty one first."""
    total, found = 0, [0]
    for move in moves.tolist():
        total = (total * BASE + move + 0x632BE59BD9B4E019) % MODULUS
        found.append(total)
    return np.array(found, dtype=np.uint64)


def _hashes(prefixes: Hashes, length: int) -> Hashes:
    """A number for each run of `length` moves, equal for equal runs."""
    shift = np.uint64(pow(BASE, length, MODULUS))
    with np.errstate(over="ignore"):
        found: Hashes = prefixes[length:] - prefixes[:-length] * shift
    return found
