"""MIDI of every kind: what is made byte by byte here is read as it is meant."""

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elman.data.music import FaultError, Note, Reading, read_collection, read_midi, seconds_at
from elman.data.music.midi import midi_bytes


def chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack(">L", len(body)) + body


def var(number: int) -> bytes:
    found = [number & 0x7F]
    while number := number >> 7:
        found.append(number & 0x7F | 0x80)
    return bytes(reversed(found))


def track(*events: tuple[int, bytes]) -> bytes:
    """Events with the ticks in front of them; the end is added."""
    return chunk(b"MTrk", b"".join(var(delta) + data for delta, data in (*events, (0, b"\xff\x2f\x00"))))


def file(*tracks: bytes, kind: int = 1, division: int = 96) -> bytes:
    return chunk(b"MThd", struct.pack(">HHH", kind, len(tracks), division & 0xFFFF)) + b"".join(tracks)


def on(pitch: int, velocity: int = 80, channel: int = 0) -> bytes:
    return bytes([0x90 | channel, pitch, velocity])


def off(pitch: int, channel: int = 0) -> bytes:
    return bytes([0x80 | channel, pitch, 0])


def tempo(microseconds: int) -> bytes:
    return b"\xff\x51\x03" + microseconds.to_bytes(3, "big")


def spans(notes: list[Note]) -> list[tuple[float, float, int]]:
    return [(note.start, note.end, note.pitch) for note in notes]


SCALE = track((0, on(60)), (96, off(60)), (0, on(62)), (48, off(62)))


def test_type_0_with_running_status_and_note_offs_of_no_velocity() -> None:
    body = track((0, on(60)), (96, bytes([60, 0])), (0, bytes([62, 70])), (48, bytes([62, 0])))
    (piece,) = read_midi(file(body, kind=0), "a")
    assert spans(piece.notes) == [(0, 1, 60), (1, 1.5, 62)]
    assert [note.velocity for note in piece.notes] == [80, 70]
    assert not piece.remarks


def test_type_1_with_its_tempo_on_any_track() -> None:
    late = track((0, on(64)), (96, tempo(1_000_000)), (96, off(64)))
    (piece,) = read_midi(file(track((0, tempo(600_000))), SCALE, late), "a")
    assert piece.tempo == [(0.0, 0.6), (1.0, 1.0)]
    assert seconds_at(piece, [0, 0.5, 1, 3]).tolist() == pytest.approx([0, 0.3, 0.6, 2.6])
    assert (0, 2, 64) in spans(piece.notes)
    assert len({note.voice for note in piece.notes}) == 2


def test_type_2_is_a_piece_a_track() -> None:
    pieces = read_midi(file(SCALE, track((0, on(70)), (96, off(70))), track(), kind=2), "a")
    assert [len(piece.notes) for piece in pieces] == [2, 1]
    assert pieces[1].name == "a, track 2"


def test_time_in_seconds() -> None:
    # 25 frames a second of 40 ticks: 1,000 ticks are a second, which is two quarter notes of 120 a minute.
    body = track((0, on(60)), (1000, off(60)), (0, tempo(1_000_000)))
    (piece,) = read_midi(file(body, division=-25 << 8 | 40), "a")
    assert spans(piece.notes) == [(0, 2, 60)]
    assert seconds_at(piece, [2.0]).tolist() == [1.0]


def test_notes_that_never_end_and_notes_struck_anew() -> None:
    body = track((0, on(60)), (96, on(60)), (96, off(60)), (0, on(64)), (960, off(72)))
    (piece,) = read_midi(file(body), "a")
    assert spans(piece.notes) == [(0, 1, 60), (1, 2, 60), (2, 6, 64)]
    assert piece.remarks == ["notes that never end, cut after a whole note"]


def test_drums_are_those_of_channel_10_or_of_another() -> None:
    body = track((0, on(36, channel=9)), (0, on(60)), (96, off(36, channel=9)), (0, off(60)))
    (piece,) = read_midi(file(body), "a")
    assert {note.pitch: note.drum for note in piece.notes} == {36: True, 60: False}
    (piece,) = read_midi(file(body), "a", drum_channel=1)
    assert {note.pitch: note.drum for note in piece.notes} == {36: False, 60: True}
    (piece,) = read_midi(file(body), "a", drum_channel=0)
    assert not any(note.drum for note in piece.notes)


def test_keys() -> None:
    good = track((0, b"\xff\x59\x02\xfd\x01"), (0, on(60)), (96, off(60)))
    assert read_midi(file(good), "a")[0].key == "C minor"
    bad = track((10, b"\xff\x59\x02\x63\x07"), (0, on(60)), (96, off(60)))
    (piece,) = read_midi(file(bad), "a")
    assert piece.key == ""
    assert piece.notes[0].start == pytest.approx(10 / 96)
    assert piece.remarks == ["a key signature that there is not, passed over"]


def test_a_header_behind_others() -> None:
    riff = b"RIFF" + b"\0" * 4 + b"RMIDdata" + b"\0" * 4
    assert len(read_midi(riff + file(SCALE), "a")[0].notes) == 2


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"what is this", "not a MIDI file"),
        (file(SCALE)[:-6], "a MIDI file that ends too early"),
        (file(track()), "a MIDI file without notes"),
        (file(SCALE, division=0), "a MIDI file without a unit of time"),
        (file(track((0, b"\x40\x40"))), "a damaged MIDI file (running status without last_status)"),
    ],
)
def test_why_a_file_gives_nothing(data: bytes, reason: str) -> None:
    with pytest.raises(FaultError) as caught:
        read_midi(data, "a")
    assert str(caught.value) == reason


def test_the_account_says_it_file_by_file(tmp_path: Path) -> None:
    drums = track((0, on(36, channel=9)), (96, off(36, channel=9)))
    for name, data in {
        "good.mid": file(SCALE),
        "drums.mid": file(drums),
        "none.mid": file(track()),
        "broken.midi": b"MThd",
        "cover.png": b"PNG",
    }.items():
        (tmp_path / name).write_bytes(data)
    found = read_collection([str(tmp_path)], Reading())
    assert [located.piece.name for located in found.pieces] == ["good"]
    (line,) = [line for line in found.account.lines() if line.startswith("read")]
    assert line.startswith("read 5 pieces, used 1, left out 4: ")
    for reason in (
        "1 a MIDI file that ends too early (",
        "1 nothing but drums (--drums keep) (",
        "1 a MIDI file without notes (",
        "1 not music by its name (.png) (",
    ):
        assert reason in line
    kept = read_collection([str(tmp_path)], Reading("keep"))
    assert {located.piece.name for located in kept.pieces} == {"good", "drums"}
    only = read_collection([str(tmp_path)], Reading("only"))
    assert [located.piece.name for located in only.pieces] == ["drums"]


NOTES = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 12), st.integers(0, 127), st.integers(1, 127)), max_size=30
)


@settings(max_examples=40, deadline=None)
@given(NOTES, st.integers(20, 400))
def test_what_is_written_is_what_is_read(drawn: list[tuple[int, int, int, int]], rate: int) -> None:
    """Notes of one pitch that do not overlap come back as they were."""
    notes, free = [], dict.fromkeys(range(128), 0)
    for start, length, pitch, velocity in sorted(drawn):
        if start >= free[pitch]:
            notes.append(Note(start / 4, (start + length) / 4, pitch, velocity))
            free[pitch] = start + length
    data = midi_bytes(notes, tempo=rate)
    if not notes:
        with pytest.raises(FaultError, match="without notes"):
            read_midi(data, "a")
        return
    (piece,) = read_midi(data, "a")
    assert [note._replace(voice=0) for note in piece.notes] == sorted(notes)
    assert 60 / piece.tempo[0][1] == pytest.approx(rate, rel=1e-4)
