"""Predict: a piece that a model has written, what it is like, and how much of it is taken from the training pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from elman.config import UserError
from elman.data.music import FaultError, Note, Piece, notes_of_roll, notes_within, roll_of
from elman.data.music.chords import Chord, chords_of
from elman.data.music.copied import Figures, Passage, Passages, figures_of
from elman.data.music.events import START
from elman.tasks.music.answers import Compose, one_piece
from elman.tasks.music.composing import Wish, chord_offsets, compose, melody_offsets
from elman.tasks.music.events import EventWish, write_events
from elman.tasks.music.pieces import Codec, Part, Sequenced

if TYPE_CHECKING:
    import torch

__all__ = ["COPIED", "Written", "notes_of", "passage_in_words", "passages_of", "pieces_by"]

USUAL_STEPS = 64
COPIED = "longest passage from the training data"
# Steps a quarter note, or a second, in which the passages of pieces of events are compared.
GRAIN = {"beats": 4, "seconds": 8}


class Written(NamedTuple):
    """A piece that the model has written: its notes, in quarter notes, and those of them that were given.

    sequence: the same as the model reads it, see `Codec.encode`. tempo: quarter notes a minute. passage: the longest
    one behind the primer that a training piece has too; None where the data are gone.
    """

    notes: list[Note]
    given: list[Note]
    sequence: Sequenced
    tempo: float
    figures: Figures
    passage: Passage | None

    def rows(self) -> dict[str, object]:
        """Its figures, by what they are called."""
        return self.figures.rows() | {COPIED: passage_in_words(self.passage)}


def passage_in_words(passage: Passage | None) -> str:
    """`12 steps, 5 of them changes`."""
    if passage is None:
        return "not known"
    return f"{passage.steps:,} steps, {passage.changes:,} of them changes" if passage.steps else "none"


def notes_of(codec: Codec, sequence: Sequenced, *, held: bool = True) -> list[Note]:
    """The notes of what the model reads, in quarter notes."""
    if codec.words is None:
        return notes_of_roll(sequence[1:], codec.keys, codec.resolution, held=held)
    return _in_quarters(codec, codec.words.decode(sequence.tolist()))


def _in_quarters(codec: Codec, notes: Sequence[Note]) -> list[Note]:
    if codec.words is None or codec.words.clock == "beats":
        return list(notes)
    a_second = codec.tempo / 60
    return [note._replace(start=note.start * a_second, end=note.end * a_second) for note in notes]


def compared(codec: Codec, sequence: Sequenced) -> Any:
    """The roll `(T, K)` of what the model reads, in which passages are looked for."""
    if codec.words is None:
        return sequence[1:]
    notes = codec.words.decode(sequence.tolist())
    return roll_of(Piece("", notes), codec.keys, GRAIN[codec.words.clock])[0]


def passages_of(codec: Codec, train: Part) -> Passages:
    """The passages of the training pieces."""
    return Passages([compared(codec, sequence) for sequence in train.sequences])


def pieces_by(trained: Any, settings: Compose, longest: Callable[[Any], Passage | None]) -> Iterator[Written]:
    """The pieces that `elman compose` writes; longest: the longest passage of a roll in the training pieces."""
    import torch

    generator = torch.Generator()
    if settings.seed < 0:
        generator.seed()
    else:
        generator.manual_seed(settings.seed)
    codec: Codec = trained.codec
    # All of the wish is looked at before anything is written.
    draw = _steps_by(trained, settings) if codec.words is None else _events_by(trained, settings)
    tempo = _tempo(trained, settings)
    for _ in range(settings.count):
        sequence, notes, given, own = draw(generator)
        passage = longest(compared(codec, own))
        yield Written(notes, given, sequence, tempo, figures_of(notes, 60 / tempo), passage)


class Drawn(NamedTuple):
    """A piece, its notes, those of them that were given; own: the piece without its primer, which copies nothing."""

    sequence: Sequenced
    notes: list[Note]
    given: list[Note]
    own: Sequenced


class _Given(NamedTuple):
    """A piece that is given by a flag, and how the model reads it."""

    piece: Piece
    sequence: Sequenced


def _given(trained: Any, flag: str, value: str) -> _Given | None:
    """The piece of a flag. Raises UserError where notes of it would be lost."""
    if not value:
        return None
    piece = one_piece(value, trained.config.data.reading, flag)
    try:
        sequence, outside = trained.codec.encode(piece)
    except FaultError as fault:
        raise UserError(f"{flag}: {fault}") from None
    if outside:
        raise UserError(
            f"{flag}: {outside:,} of its notes lie outside of the model's keys and would be lost; move them or leave "
            f"them out"
        )
    return _Given(piece, sequence)


def _tempo(trained: Any, settings: Compose) -> float:
    """Quarter notes a minute: as asked for, that of the notes that are given, or of the training pieces."""
    for flag, value in (("--melody", settings.melody), ("--primer", settings.primer)):
        if value and not settings.tempo:
            piece = one_piece(value, trained.config.data.reading, flag)
            if piece.steps is None:
                return round(60 / float(piece.tempo[0][1]), 1)
    return settings.tempo or float(trained.codec.tempo)


def _chords(settings: Compose, codec: Codec) -> tuple[list[Chord], int]:
    """The chords, and how many steps each has."""
    words = codec.words
    a_quarter = (
        codec.resolution if words is None or words.clock == "beats" else round(words.per * 60 / codec.tempo)
    )
    return chords_of(settings.chords) if settings.chords else [], settings.chord_steps or 4 * a_quarter


def _steps_by(trained: Any, settings: Compose) -> Callable[[torch.Generator], Drawn]:
    """How pieces of steps are drawn."""
    codec: Codec = trained.codec
    keys = codec.keys
    chords, each = _chords(settings, codec)
    primer, melody = (
        _given(trained, flag, value)
        for flag, value in (("--primer", settings.primer), ("--melody", settings.melody))
    )
    first = np.zeros((0, keys.size), dtype=np.uint8) if primer is None else primer.sequence[1:]
    first = first[: settings.primer_steps or None]
    length = settings.length or (each * len(chords) if chords else USUAL_STEPS)
    offsets = None
    if melody is not None:
        if not keys.piano:
            raise UserError("--melody: this model knows percussion only")
        held = melody.sequence[1:][: settings.length or None]
        length, offsets = len(held), melody_offsets(held, keys, settings.melody_keep)
    if chords:
        under = chord_offsets(chords, each, length, keys, settings.chord_strength)
        offsets = under if offsets is None else offsets + under
    particles = settings.particles if melody is not None else 1
    source = melody or primer
    wish = Wish(length, first, offsets, particles, settings.temperature)

    def draw(generator: torch.Generator) -> Drawn:
        found = compose(trained.model, wish, generator)
        own = notes_of_roll(found.roll * (1 - found.given), keys, codec.resolution, held=settings.held)
        cells = found.roll * found.given
        given = (
            []
            if source is None
            else notes_within(source.piece, cells, keys, codec.resolution, held=settings.held)
        )
        # What was given is a voice of its own, and can have an instrument of its own.
        notes = sorted([note._replace(voice=1) for note in own] + given)
        sequence = np.concatenate([np.zeros_like(found.roll[:1]), found.roll])
        return Drawn(sequence, notes, given, np.concatenate([sequence[:1], sequence[len(first) + 1 :]]))

    return draw


def _events_by(trained: Any, settings: Compose) -> Callable[[torch.Generator], Drawn]:
    """How pieces of events are drawn."""
    codec: Codec = trained.codec
    words = codec.words
    assert words is not None
    if settings.melody:
        raise UserError(
            "--melody: a model of events cannot hold a voice; harmonize by one that is trained with --kind roll"
        )
    if not settings.held:
        raise UserError("--no-held: events say themselves when a note begins; leave it out")
    chords, each = _chords(settings, codec)
    primer = _given(trained, "--primer", settings.primer)
    first = (
        [START]
        if primer is None
        else primer.sequence[:-1].tolist()[: settings.primer_steps + 1 if settings.primer_steps else None]
    )
    wish = EventWish(settings.length, first, chords, each, settings.chord_strength, settings.temperature)

    def draw(generator: torch.Generator) -> Drawn:
        events = write_events(trained.model, words, wish, generator)
        taken = {(note.start, note.pitch) for note in words.decode(first)}
        decoded = words.decode(events)
        given = _in_quarters(codec, [note for note in decoded if (note.start, note.pitch) in taken])
        own = _in_quarters(codec, [note for note in decoded if (note.start, note.pitch) not in taken])
        notes = sorted([note._replace(voice=1) for note in own] + given)
        sequence = np.array(events, dtype=np.int64)
        return Drawn(sequence, notes, given, np.concatenate([sequence[:1], sequence[len(first) :]]))

    return draw
