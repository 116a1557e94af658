"""Predict: what is answered to a piece, what `elman compose` takes, and the files that it writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.config import Amount, Count, Flag, OptionalSeed, UserError, Whole, option
from elman.data.account import OnBad
from elman.data.inputs import STANDARD_INPUT, Item, check_inputs, files_of, lines
from elman.data.music import Note, Reading, note_name
from elman.data.music.collection import LINES, Located, pieces_of_file
from elman.tasks import verbs
from elman.tasks.base import Answer
from elman.tasks.music.composing import Kept
from elman.tasks.music.pieces import Codec

__all__ = ["Compose", "Evaluate", "Heard", "Predict", "answer_of", "inputs_of", "one_piece", "picture_of"]

Floats = npt.NDArray[np.float64]
WRITTEN = (".mid", ".midi", ".musicxml", ".xml", ".wav")
DRAWN = {"temperature": True}


@dataclass(frozen=True)
class Evaluate(verbs.Evaluate):
    """Flags of `elman evaluate`."""

    on_bad: OnBad = option(
        "auto",
        "pieces of --data that cannot be used: skip them, refuse the data, or auto: refuse if they are more than 1 %",
        needs={"data": True},
    )


@dataclass(frozen=True)
class Predict(verbs.Predict):
    """Flags of `elman predict`."""

    notes: Whole = option(6, "how many of the likeliest notes of the next step are shown", unit="COUNT")


@dataclass(frozen=True)
class Compose:
    """Flags of `elman compose`."""

    length: Whole = option(
        0,
        "steps to write (0: those of the melody, of the chords once, or 64), or events (0: until the piece ends)",
        unit="STEPS",
    )
    count: Count = option(1, "pieces to write", unit="PIECES")
    primer: str = option(
        "", "piece to go on from: a file, or steps such as '[[60, 64, 67], [62]]'", unit="FILE|STEPS"
    )
    primer_steps: Whole = option(
        0, "how many of its first steps or events are taken (0: all)", unit="STEPS", needs={"primer": True}
    )
    melody: str = option("", "piece of which some notes stay while the others are written", unit="FILE|STEPS")
    melody_keep: Kept = option(
        "highest",
        "which of its notes stay: the highest of each step (nothing above it), the lowest (nothing below it), both, or "
        "all",
        needs={"melody": True},
    )
    particles: Count = option(
        64, "pieces drawn side by side, of which one fits the melody", unit="COUNT", needs={"melody": True}
    )
    chords: str = option("", "chords in turn, such as 'C Am F G7'; N: none", unit="CHORDS")
    chord_steps: Whole = option(
        0, "steps of a chord (0: four quarter notes)", unit="STEPS", needs={"chords": True}
    )
    chord_strength: Amount = option(
        6.0, "how much unlikelier a note is that the chord does not have", unit="NATS", needs={"chords": True}
    )
    temperature: Amount = option(
        0.9, "below 1 surer, above 1 freer, 0 always what is likelier", unit="NUMBER"
    )
    seed: OptionalSeed = option(
        -1, "the same piece each time for the same seed (-1: a new one each time)", unit="NUMBER", needs=DRAWN
    )
    tempo: Amount = option(
        0.0,
        "quarter notes a minute (0: that of a file of notes that is given, else as in the training data)",
        unit="NUMBER",
    )
    held: Flag = option(True, "a key that sounds at steps in a row is one note, not one a step")
    program: Whole = option(0, "instrument of the MIDI file, from 0, by General MIDI", unit="NUMBER")
    to: tuple[str, ...] = option(
        (),
        "files, by their ending .mid, .musicxml or .wav (none: composed-1.mid, ... in the run's folder)",
        unit="FILE",
    )
    sound_font: str = option("", "sound font for a .wav (empty: one that is found)", unit="FILE")
    picture: Flag = option(True, "draw the piano roll beside the first file, as .png and .svg")
    json: Flag = option(False, "print a JSON object a piece")
    checkpoint: Literal["best", "last"] = option("best", "the model at its best validation, or the last one")

    def __post_init__(self) -> None:
        """Check what concerns two fields."""
        if self.program > 127:
            raise UserError(f"--program {self.program}: General MIDI has the instruments 0 to 127")
        if self.melody and self.primer:
            raise UserError("--melody and --primer: a melody is harmonized from its start; leave one out")
        if self.tempo and not 1 <= self.tempo <= 1000:
            raise UserError(f"--tempo {self.tempo:g} is outside of 1 to 1000 quarter notes a minute")
        for path in self.to:
            if Path(path).suffix.lower() not in WRITTEN:
                raise UserError(f"--to {path}: what is written ends in one of {', '.join(WRITTEN)}")
        if self.sound_font and not any(path.lower().endswith(".wav") for path in self.to):
            raise UserError("--sound-font has no effect without a .wav among --to; give one, or leave it out")


class Heard(NamedTuple):
    """A piece as the model hears it: losses `(T,)` of its steps or events, in nats; p: of what comes behind it."""

    losses: Floats
    p: Floats


def answer_of(found: Heard, codec: Codec, settings: Predict) -> Answer:
    """A line for a person, an object for a program."""
    nexts = []
    for number in np.argsort(-found.p, kind="stable")[: settings.notes].tolist():
        if codec.words is not None:
            about: dict[str, Any] = {"event": codec.words.name(number)}
        else:
            pitch, drum = codec.keys.note(number)
            about = {"note": f"drum {pitch}" if drum else note_name(pitch), "pitch": pitch}
        nexts.append({**about, "probability": round(float(found.p[number]), 4)})
    mean = float(found.losses.mean())
    shown = ", ".join(f"{next(iter(one.values()))} {one['probability']:.2f}" for one in nexts)
    line = f"{len(found.losses):,} {codec.unit}s, {mean:.2f} nats {'a step' if codec.words is None else 'an event'}"
    data = {f"{codec.unit}s": len(found.losses), "nll": round(mean, 4), "next": nexts}
    return Answer(f"{line}; next {shown}" if nexts else line, data)


# What is to be answered


def inputs_of(settings: Predict, how: Reading) -> Iterator[list[Item]]:
    """The pieces to be answered, each with its place: lines of text files and standard input, pieces of other files."""
    check_inputs(settings.inputs)
    for path in settings.inputs:
        if path == STANDARD_INPUT:
            yield from lines([path], settings.together)
            continue
        for file in files_of(path):
            if file.suffix.lower() in LINES:
                yield from lines([str(file)], settings.together)
                continue
            items = [_item(found) for found in pieces_of_file(file, how)]
            yield from (items[at : at + settings.together] for at in range(0, len(items), settings.together))


def _item(found: Any) -> Item:
    if isinstance(found, Located):
        return Item(found.piece, str(found.place))
    reason, place = found
    return Item(None, str(place), reason)


def one_piece(given: str, how: Reading, flag: str) -> Any:
    """The piece of a file, or of steps as they are written on the command line. Raises UserError."""
    from elman.data.music.collection import piece_of_text
    from elman.data.music.piece import FaultError

    if given.lstrip().startswith("["):
        try:
            return piece_of_text(given, "steps")
        except FaultError as fault:
            raise UserError(f"{flag}: {fault}; expected steps such as '[[60, 64, 67], [62]]'") from None
    if not Path(given).is_file():
        raise UserError(f"{flag} {given}: no such file")
    faults = []
    for found in pieces_of_file(Path(given), how):
        if isinstance(found, Located):
            return found.piece
        faults.append(found[0])
    raise UserError(f"{flag} {given}: {faults[0] if faults else 'no piece'}")


# What is written


def picture_of(notes: Sequence[Note], given: Sequence[Note], title: str, quarter: float, what: str) -> Any:
    """The piano roll as a canvas; quarter: seconds a quarter note; given: those of the notes that were not written."""
    from elman.plots.roll import Bar, piano_roll

    taken = set(given)
    bars = [Bar(note.start * quarter, note.end * quarter, note.pitch, given=note in taken) for note in notes]
    return piano_roll(bars, title, given=what)
