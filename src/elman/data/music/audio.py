"""Notes as sound: 16-bit stereo WAV by a sound font, where one can be found."""

from __future__ import annotations

import io
import os
import wave
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from elman.config import UserError
from elman.data.music.piece import Note

__all__ = ["check_sound", "sound_font", "wav_bytes"]

RATE = 44100
# Seconds behind the last note, in which it dies away.
TAIL = 2.0
VARIABLE = "ELMAN_SOUND_FONT"
FOLDERS = (
    "/usr/share/sounds/sf2",
    "/usr/share/sounds/sf3",
    "/usr/share/soundfonts",
    "/usr/local/share/soundfonts",
)


def sound_font(given: str = "") -> Path:
    """The sound font: the one that is given, that of the environment, one of the system, that of pretty_midi's package.

    Raises UserError where there is none.
    """
    named = given or os.environ.get(VARIABLE, "")
    if named:
        if not Path(named).is_file():
            raise UserError(f"{'--sound-font' if given else VARIABLE} {named}: no such file")
        return Path(named)
    package = find_spec("pretty_midi")
    folders = [*FOLDERS, *([str(Path(package.origin).parent)] if package and package.origin else [])]
    found = (path for folder in folders for path in sorted(Path(folder).glob("*.sf[23]")))
    font = next(found, None)
    if font is None:
        raise UserError(
            f"no sound font is found: give one by --sound-font FILE.sf2 or by the variable {VARIABLE} (Debian has some "
            f"in the package fluid-soundfont-gm)"
        )
    return font


def check_sound(given: str = "") -> Path:
    """The sound font, once it is sure that it can be played. Raises UserError before any work."""
    if find_spec("tinysoundfont") is None:
        raise UserError(
            ".wav needs the package tinysoundfont: pip install --no-deps tinysoundfont (what it depends on is for "
            "playing aloud only)"
        )
    return sound_font(given)


def wav_bytes(notes: Sequence[Note], font: Path, *, seconds_a_quarter: float, program: int = 0) -> bytes:
    """The sound of notes as the bytes of a WAV file. program: the instrument, from 0, by General MIDI."""
    import tinysoundfont

    synth = tinysoundfont.Synth(gain=-12, samplerate=RATE)
    try:
        number = synth.sfload(str(font))
    except Exception as error:  # noqa: BLE001
        # The package has an error of its own, and others for files of other kinds.
        raise UserError(f"{font} is no sound font ({error})") from None
    synth.program_select(0, number, 0, program)
    synth.program_select(9, number, 128, 0, True)
    changes = []
    for note in notes:
        channel = 9 if note.drum else 0
        changes.append((round(note.start * seconds_a_quarter * RATE), 1, channel, note.pitch, note.velocity))
        changes.append((round(note.end * seconds_a_quarter * RATE), 0, channel, note.pitch, 0))
    pieces, now = [], 0
    for at, begins, channel, pitch, velocity in sorted(changes):
        pieces.append(_played(synth, at - now))
        now = at
        if begins:
            synth.noteon(channel, pitch, velocity)
        else:
            synth.noteoff(channel, pitch)
    pieces.append(_played(synth, round(TAIL * RATE)))
    sound = np.concatenate(pieces)
    peak = float(np.abs(sound).max(initial=0.0))
    numbers = (sound * (0.9 / max(peak, 0.9)) * 32767).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(numbers.tobytes())
    return buffer.getvalue()


def _played(synth: object, samples: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """So many samples of both channels, in turns."""
    if samples <= 0:
        return np.zeros(0, dtype=np.float32)
    generate = synth.generate  # type: ignore[attr-defined]
    return np.frombuffer(bytes(generate(samples)), dtype=np.float32)
