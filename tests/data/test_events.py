"""Events: a piece comes back from them, and is the same piece in another key."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elman.data.music import FaultError, Keys, Note, Piece
from elman.data.music.events import END, START, EventWords

BEATS = EventWords(Keys(), "beats", 4, 127)
NOTES = st.lists(
    st.tuples(st.integers(0, 80), st.integers(1, 30), st.integers(21, 108), st.integers(1, 127)),
    min_size=1,
    max_size=30,
)


def notes_of(drawn: list[tuple[int, int, int, int]], per: int) -> list[Note]:
    """Notes of which none of a pitch overlaps another."""
    notes, free = [], dict.fromkeys(range(128), 0)
    for start, length, pitch, velocity in sorted(drawn):
        if start >= free[pitch]:
            notes.append(Note(start / per, (start + length) / per, pitch, velocity))
            free[pitch] = start + length
    first = notes[0].start
    return [note._replace(start=note.start - first, end=note.end - first) for note in notes]


@settings(max_examples=60, deadline=None)
@given(NOTES, st.integers(1, 12))
def test_a_piece_comes_back(drawn: list[tuple[int, int, int, int]], per: int) -> None:
    words = EventWords(Keys(), "beats", per, 127)
    notes = notes_of(drawn, per)
    events, outside = words.encode(Piece("a", notes))
    assert outside == 0
    assert (events[0], events[-1]) == (START, END)
    assert events.max() < words.size
    found = words.decode(events.tolist())
    spans = [
        [(round(note.start * per), round(note.end * per), note.pitch) for note in one]
        for one in (found, notes)
    ]
    assert sorted(spans[0]) == sorted(spans[1])
    assert all(abs(a.velocity - b.velocity) <= 1 for a, b in zip(found, sorted(notes), strict=True))


@settings(max_examples=40, deadline=None)
@given(NOTES, st.integers(0, 100))
def test_transposed_events_are_those_of_the_transposed_piece(drawn: list, where: int) -> None:
    notes = notes_of(drawn, 4)
    events, _ = BEATS.encode(Piece("a", notes))
    down, up = BEATS.room(events)
    by = where % (down + up + 1) - down
    moved = [note._replace(pitch=note.pitch + by) for note in notes]
    expected, outside = BEATS.encode(Piece("a", moved))
    assert outside == 0
    # Within a step the keys stand in order, whatever the key.
    assert np.array_equal(BEATS.transposed(events, by), expected)


def test_the_names_tell_a_piece() -> None:
    words = EventWords(Keys(drums=True), "beats", 4, 16)
    notes = [Note(1, 2, 60, 80), Note(1, 3.5, 64, 80), Note(2, 2.5, 40, 100, drum=True), Note(9, 10, 10)]
    events, outside = words.encode(Piece("a", notes))
    assert outside == 1
    names = [words.name(event) for event in events.tolist()]
    wait = "wait 1"
    assert names == [
        *("start", "velocity 84", "on C4", "on E4", wait, "off C4"),
        *("velocity 100", "on drum 40", "wait 1.5", "off E4", "end"),
    ]
    assert len({words.name(event) for event in range(words.size)}) == words.size


def test_notes_that_overlap_or_are_too_short() -> None:
    notes = [Note(0, 3, 60), Note(1, 2, 60), Note(2.01, 2.02, 60), Note(2.02, 4, 60)]
    events, _ = BEATS.encode(Piece("a", notes))
    assert [note[:3] for note in BEATS.decode(events.tolist())] == [(0, 1, 60), (1, 2, 60), (2, 4, 60)]


def test_seconds_go_by_the_tempo_and_rolls_have_none() -> None:
    words = EventWords(Keys(), "seconds", 100, 16)
    piece = Piece("a", [Note(0, 2, 60), Note(2, 4, 62)], tempo=[(0.0, 0.5), (2.0, 1.0)])
    events, _ = words.encode(piece)
    assert [note[:3] for note in words.decode(events.tolist())] == [(0, 1, 60), (1, 3, 62)]
    with pytest.raises(FaultError, match="no seconds"):
        words.encode(Piece("a", steps=[(60,)]))


def test_steps_of_a_roll_are_held_notes() -> None:
    events, _ = BEATS.encode(Piece("a", steps=[(60, 64), (60,), (), (60,)]))
    found = [note[:3] for note in BEATS.decode(events.tolist())]
    assert sorted(found) == [(0, 0.25, 64), (0, 0.5, 60), (0.75, 1, 60)]


def test_a_piece_of_a_wrong_unit_of_time_is_refused() -> None:
    with pytest.raises(FaultError, match="too long"):
        BEATS.encode(Piece("a", [Note(0, 1, 60), Note(1e7, 1e7 + 1, 60)]))


def test_what_never_ends_is_cut() -> None:
    found = BEATS.decode([BEATS.waits - 1, 2 + 39, BEATS.waits + 15, 2 + 40, 2 + 40])
    assert [note[:3] for note in found] == [(0, 4, 60), (4, 4.25, 61), (4, 5, 61)]
