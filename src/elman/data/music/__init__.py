"""Music: files of notes and of piano rolls, read with an account, put on a grid of steps, and written as MIDI."""

from elman.data.music.collection import Collection, Drums, Reading, read_collection
from elman.data.music.events import Clock, EventWords
from elman.data.music.midi import midi_bytes, read_midi
from elman.data.music.piece import MAJOR, FaultError, Note, Piece, key_of, note_name, seconds_at
from elman.data.music.rolls import HIGH, LOW, Keys, notes_of_roll, notes_within, roll_of

__all__ = [
    "HIGH",
    "LOW",
    "MAJOR",
    "Clock",
    "Collection",
    "Drums",
    "EventWords",
    "FaultError",
    "Keys",
    "Note",
    "Piece",
    "Reading",
    "key_of",
    "midi_bytes",
    "note_name",
    "notes_of_roll",
    "notes_within",
    "read_collection",
    "read_midi",
    "roll_of",
    "seconds_at",
]
