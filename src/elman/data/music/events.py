"""A piece as a row of events: a note begins, a note ends, time passes, the velocity changes.

    start  velocity 5  on C4  on E4  wait 12  off C4  off E4  on D4  wait 6  off D4  end

(Oore et al. 2018, arXiv 1808.03715; there time passes in steps of 10 ms, here in those or in parts of a quarter note.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.data.music.piece import FaultError, Note, Piece, note_name, seconds_at
from elman.data.music.rolls import Keys

__all__ = ["END", "START", "Clock", "EventWords"]

Clock = Literal["beats", "seconds"]
Tokens = npt.NDArray[np.int64]
START, END, FIRST = 0, 1, 2
# Steps a second of the clock that counts seconds.
PER_SECOND = 100
# What was begun and never ended sounds for so many quarter notes, or so many seconds, at most.
HANGING = 4.0
MOST_NOTES = 200_000


class EventWords(NamedTuple):
    """The events and their numbers: start, end, then a note begins, a note ends, time passes, the velocity changes.

    clock, per: time is counted in steps, `per` to a quarter note or to a second. velocities: into how many ranges of
    equal width the velocities 1 to 127 are divided. Percussion begins and does not end.
    """

    keys: Keys
    clock: Clock
    per: int
    velocities: int

    @property
    def ends(self) -> int:
        """The number of "the first key ends"."""
        return FIRST + self.keys.size

    @property
    def waits(self) -> int:
        """The number of "one step passes"."""
        return self.ends + 88 * self.keys.piano

    @property
    def longest(self) -> int:
        """The most steps that one event can say: four quarter notes, or a second."""
        return self.per * (4 if self.clock == "beats" else 1)

    @property
    def loudness(self) -> int:
        """The number of the lowest range of velocities."""
        return self.waits + self.longest

    @property
    def size(self) -> int:
        """How many events there are."""
        return self.loudness + self.velocities

    def name(self, event: int) -> str:
        """`on C4`, `off C4`, `wait 0.5`, `velocity 84`, `end`; a wait in quarter notes or in seconds."""
        if event < FIRST:
            return ("start", "end")[event]
        if event < self.waits:
            begins = event < self.ends
            pitch, drum = self.keys.note(event - (FIRST if begins else self.ends))
            return f"{'on' if begins else 'off'} {f'drum {pitch}' if drum else note_name(pitch)}"
        if event < self.loudness:
            return f"wait {(event - self.waits + 1) / self.per:.4g}"
        return f"velocity {self.velocity(event)}"

    def velocity(self, event: int) -> int:
        """The middle of a range of velocities."""
        return max(1, int((event - self.loudness + 0.5) * 128 / self.velocities))

    # Pieces

    def encode(self, piece: Piece) -> tuple[Tokens, int]:
        """The events of a piece, from `start` to `end`, and how many of its notes have no key.

        A note of a key that sounds already ends it first; one that would not last a step lasts one.
        """
        if piece.steps is not None and self.clock == "seconds":
            raise FaultError("a piano roll, which says no seconds (--clock beats)")
        notes = piece.notes if piece.steps is None else _of_steps(piece.steps, self.per)
        spans, outside = self._spans(piece, notes)
        if len(spans) > MOST_NOTES:
            raise FaultError(f"a piece of more than {MOST_NOTES:,} notes")
        # Waits are events too: a wrong unit of time would make millions of them.
        if spans and max(end for _, end, *_ in spans) - spans[0][0] > MOST_NOTES * self.longest:
            raise FaultError("a piece that lasts too long")
        # At one step what ends comes before what begins.
        changes: list[tuple[int, int, int, int]] = []
        for start, end, column, velocity in spans:
            changes.append((start, 1, column, velocity))
            if column < 88 * self.keys.piano:
                changes.append((end, 0, column, 0))
        found, now, loud = [START], spans[0][0] if spans else 0, -1
        for step, begins, column, velocity in sorted(changes):
            while step > now:
                passed = min(step - now, self.longest)
                found.append(self.waits + passed - 1)
                now += passed
            if begins:
                event = self.loudness + velocity * self.velocities // 128
                if event != loud:
                    found.append(event)
                    loud = event
                found.append(FIRST + column)
            else:
                found.append(self.ends + column)
        return np.array([*found, END], dtype=np.int64), outside

    def _spans(self, piece: Piece, notes: Sequence[Note]) -> tuple[list[tuple[int, int, int, int]], int]:
        """Notes as (first step, step behind the last, column, velocity), ascending; none of a key overlaps another."""
        times = np.array([(note.start, note.end) for note in notes]).reshape(-1, 2)
        places = seconds_at(piece, times) if self.clock == "seconds" else times
        steps = np.floor(places * self.per + 0.5).astype(np.int64).tolist()
        taken: dict[tuple[int, int], tuple[int, int, int, int]] = {}
        outside = 0
        for note, (start, end) in zip(notes, steps, strict=True):
            column = self.keys.column(note.pitch, drum=note.drum)
            if column < 0:
                outside += 1
                continue
            other = taken.get((column, start), (0, 0, 0, 0))
            taken[column, start] = (
                start,
                max(end, start + 1, other[1]),
                column,
                max(note.velocity, other[3]),
            )
        ordered, found = sorted(taken.values(), key=lambda span: (span[2], span[0])), []
        for span, after in zip(ordered, [*ordered, (0, 0, -1, 0)][1:], strict=True):
            cut = min(span[1], after[0]) if after[2] == span[2] else span[1]
            found.append((span[0], cut, span[2], span[3]))
        return sorted(found), outside

    def decode(self, events: Sequence[int]) -> list[Note]:
        """The notes of events; times in quarter notes or in seconds. What never ends is cut."""
        sounding: dict[int, tuple[int, int]] = {}
        found: list[Note] = []
        now, velocity = 0, 80

        def end(column: int, step: int) -> None:
            begun, loud = sounding.pop(column)
            pitch, drum = self.keys.note(column)
            found.append(Note(begun / self.per, max(step, begun + 1) / self.per, pitch, loud, drum))

        for event in events:
            if FIRST <= event < self.ends:
                column = event - FIRST
                if column in sounding:
                    end(column, now)
                sounding[column] = (now, velocity)
                if column >= 88 * self.keys.piano:
                    end(column, now + max(1, self.per // 4))
            elif self.ends <= event < self.waits:
                if event - self.ends in sounding:
                    end(event - self.ends, now)
            elif self.waits <= event < self.loudness:
                now += event - self.waits + 1
            elif event >= self.loudness:
                velocity = self.velocity(event)
        for column in list(sounding):
            begun = sounding[column][0]
            end(column, min(max(now, begun + self.per), begun + round(HANGING * self.per)))
        return sorted(found)

    # Transposition

    def room(self, events: Tokens) -> tuple[int, int]:
        """How far a piece can be moved down and up, in semitones."""
        if not self.keys.piano:
            return 0, 0
        columns = events[(events >= FIRST) & (events < FIRST + 88)] - FIRST
        return (int(columns.min()), 87 - int(columns.max())) if len(columns) else (0, 0)

    def transposed(self, events: Tokens, by: int) -> Tokens:
        """The piano's keys moved by so many semitones, percussion as it is; `room` tells how far."""
        if not by:
            return events
        begins = (events >= FIRST) & (events < FIRST + 88)
        ends = (events >= self.ends) & (events < self.waits)
        moved: Tokens = events + by * (begins | ends)
        return moved

    def to_json(self) -> dict[str, object]:
        """All but the keys."""
        return {"clock": self.clock, "per": self.per, "velocities": self.velocities}


def _of_steps(steps: Sequence[Sequence[int]], per: int) -> list[Note]:
    """The notes of a piano roll; a key that sounds at steps in a row is one note."""
    begun: dict[int, int] = {}
    found = []
    for t, pitches in enumerate([*steps, ()]):
        ended = [pitch for pitch in begun if pitch not in pitches]
        found += [Note(begun.pop(pitch) / per, t / per, pitch) for pitch in ended]
        for pitch in pitches:
            begun.setdefault(pitch, t)
    return sorted(found)
