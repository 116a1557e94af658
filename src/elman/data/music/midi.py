"""MIDI files: type 0, 1 and 2, running status, tempo on any track, time in seconds (SMPTE), notes that never end.

Read and written by `mido`, the extra `music`; what it refuses in a file that can be read all the same (a key that there
is not, a header behind others) is mended here.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from elman.config import require
from elman.data.music.piece import FaultError, Note, Piece

__all__ = ["midi_bytes", "read_midi"]

# A note that never ends sounds for a whole note at most, in quarter notes.
HANGING = 4.0
TICKS = 480
_PATCHED = threading.Lock()


class _Event(NamedTuple):
    tick: int
    message: Any


def read_midi(data: bytes, name: str, *, drum_channel: int = 10) -> list[Piece]:
    """The pieces of a MIDI file: one, or of type 2 one a track. Raises FaultError where there is none.

    drum_channel: the channel, from 1, whose notes are percussion; 0: there is none.
    """
    file = _parsed(data)
    if file.ticks_per_beat == 0:
        raise FaultError("a MIDI file without a unit of time")
    tracks = [_absolute(track) for track in file.tracks]
    groups = [[track] for track in tracks] if file.type == 2 else [tracks]
    several = len(groups) > 1
    pieces = [
        _piece(group, f"{name}, track {number}" if several else name, file.ticks_per_beat, drum_channel)
        for number, group in enumerate(groups, 1)
    ]
    found = [piece for piece in pieces if piece.notes]
    if not found:
        raise FaultError("a MIDI file without notes")
    return found


def _parsed(data: bytes) -> Any:
    require("mido", extra="music", what="reading MIDI files")
    import mido

    begin = data.find(b"MThd", 0, 4096)
    if begin < 0:
        raise FaultError("not a MIDI file" if data else "empty file")
    try:
        with _bad_metas_kept():
            return mido.MidiFile(file=io.BytesIO(data[begin:]), clip=True)
    except EOFError:
        raise FaultError("a MIDI file that ends too early") from None
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError) as error:
        raise FaultError(f"a damaged MIDI file ({str(error) or type(error).__name__})") from None


@contextmanager
def _bad_metas_kept() -> Iterator[None]:
    """A key signature, or another remark, that mido cannot read is passed over and does not cost the file."""
    from mido.midifiles import meta, midifiles

    strict = meta.build_meta_message

    def lenient(kind: int, data: Any, delta: int = 0) -> Any:
        try:
            return strict(kind, data, delta)
        except (meta.KeySignatureError, LookupError, ValueError, TypeError):
            return meta.UnknownMetaMessage(kind, data, time=delta)

    with _PATCHED:
        midifiles.build_meta_message = lenient
        try:
            yield
        finally:
            midifiles.build_meta_message = strict


def _absolute(track: Any) -> list[_Event]:
    """A track's events at their ticks. An unknown remark keeps its time beside its data."""
    tick, found = 0, []
    for message in track:
        tick += message.time
        found.append(_Event(tick, message))
    return found


def _quarters(division: int) -> float:
    """Ticks a quarter note. Of time in frames, the quarter note is that of 120 a minute."""
    if division > 0:
        return float(division)
    frames = -(division >> 8)
    return (29.97 if frames == 29 else frames) * (division & 0xFF) * 0.5


def _piece(tracks: list[list[_Event]], name: str, division: int, drum_channel: int) -> Piece:
    per_quarter = _quarters(division)
    piece = Piece(name)
    hanging = strange = 0
    for number, track in enumerate(tracks):
        notes, open_ones = _notes(track, number, per_quarter, drum_channel)
        piece.notes += notes
        hanging += open_ones
        strange += sum(
            event.message.type == "unknown_meta" and event.message.type_byte == 0x59 for event in track
        )
    piece.notes.sort()
    events = sorted((event for track in tracks for event in track), key=lambda event: event.tick)
    if division > 0:
        piece.tempo = _tempo(events, per_quarter)
    piece.key = next((_key(e.message.key) for e in events if e.message.type == "key_signature"), "")
    if hanging:
        piece.remarks.append("notes that never end, cut after a whole note")
    if strange:
        piece.remarks.append("a key signature that there is not, passed over")
    return piece


def _notes(track: list[_Event], number: int, per_quarter: float, drum_channel: int) -> tuple[list[Note], int]:
    """The notes of a track, and how many of them never end. A note struck while it sounds ends and begins anew."""
    sounding: dict[tuple[int, int], tuple[int, int]] = {}
    found: list[Note] = []

    def end(key: tuple[int, int], tick: int) -> None:
        begun, velocity = sounding.pop(key)
        drum = key[0] + 1 == drum_channel
        voice = number * 16 + key[0]
        found.append(
            Note(begun / per_quarter, max(tick, begun + 1) / per_quarter, key[1], velocity, drum, voice)
        )

    for tick, message in track:
        if message.type not in {"note_on", "note_off"}:
            continue
        key = (message.channel, message.note)
        if key in sounding:
            end(key, tick)
        if message.type == "note_on" and message.velocity:
            sounding[key] = (tick, message.velocity)
    last = track[-1].tick if track else 0
    hanging = len(sounding)
    for key in list(sounding):
        begun = sounding[key][0]
        end(key, round(min(max(last, begun + 1), begun + HANGING * per_quarter)))
    return found, hanging


def _tempo(events: Iterable[_Event], per_quarter: float) -> list[tuple[float, float]]:
    found = {0.0: 0.5}
    for event in events:
        if event.message.type == "set_tempo" and event.message.tempo:
            found[event.tick / per_quarter] = event.message.tempo / 1e6
    return sorted(found.items())


def _key(word: str) -> str:
    """`A minor` of mido's `Am`."""
    return f"{word.removesuffix('m')} {'minor' if word.endswith('m') else 'major'}"


def midi_bytes(notes: Sequence[Note], *, tempo: float = 120.0, program: int = 0) -> bytes:
    """Notes as a MIDI file of type 1: a track of the tempo, one a voice; drums go to channel 10.

    tempo: quarter notes a minute. program: the instrument, from 0, by General MIDI.
    """
    require("mido", extra="music", what="writing MIDI files")
    import mido

    file = mido.MidiFile(type=1, ticks_per_beat=TICKS)
    head = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=min(mido.bpm2tempo(tempo), 0xFFFFFF))])
    file.tracks.append(head)
    voices = sorted({(note.drum, note.voice) for note in notes})
    channels = [channel for channel in range(16) if channel != 9]
    for number, (drum, voice) in enumerate(voices):
        channel = 9 if drum else channels[number % len(channels)]
        own = [note for note in notes if (note.drum, note.voice) == (drum, voice)]
        file.tracks.append(mido.MidiTrack(_messages(own, channel, program)))
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


def _messages(notes: Sequence[Note], channel: int, program: int) -> Iterator[Any]:
    import mido

    if channel != 9:
        yield mido.Message("program_change", channel=channel, program=program)
    timed = []
    for note in notes:
        begin, end = round(note.start * TICKS), round(note.end * TICKS)
        timed.append((max(end, begin + 1), 0, note.pitch, 0))
        timed.append((begin, 1, note.pitch, note.velocity))
    last = 0
    # At one tick what ends comes before what begins, so that a note can be struck again.
    for tick, on, pitch, velocity in sorted(timed):
        word = "note_on" if on else "note_off"
        yield mido.Message(word, channel=channel, note=pitch, velocity=velocity, time=tick - last)
        last = tick
