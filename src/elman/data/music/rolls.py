"""Piano rolls: which keys sound at each step; from notes, and back to notes. Files of rolls: .mat, .npz, JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.config import require
from elman.data.music.piece import FaultError, ForeignError, Note, Piece

__all__ = [
    "HIGH",
    "LOW",
    "Keys",
    "notes_of_roll",
    "notes_within",
    "piece_of_line",
    "read_json",
    "read_mat",
    "read_npz",
    "roll_of",
]

# The keys of a piano, and the percussion instruments of General MIDI.
LOW, HIGH = 21, 108
FIRST_DRUM, LAST_DRUM = 35, 81
# More steps than any piece has: a file that says so has a wrong unit of time.
MOST_STEPS = 200_000
PARTS = {
    "train": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
}
Roll = npt.NDArray[np.uint8]


class Keys(NamedTuple):
    """The columns of a roll: those of a piano (88), of percussion (47), or both, the percussion behind."""

    piano: bool = True
    drums: bool = False

    @property
    def size(self) -> int:
        """K."""
        return 88 * self.piano + 47 * self.drums

    def column(self, pitch: int, *, drum: bool = False) -> int:
        """The column of a note; -1 where there is none."""
        if drum:
            inside = self.drums and FIRST_DRUM <= pitch <= LAST_DRUM
            return 88 * self.piano + pitch - FIRST_DRUM if inside else -1
        return pitch - LOW if self.piano and LOW <= pitch <= HIGH else -1

    def note(self, column: int) -> tuple[int, bool]:
        """The pitch of a column, and whether it is percussion."""
        if self.piano and column < 88:
            return column + LOW, False
        return column - 88 * self.piano + FIRST_DRUM, True


def roll_of(piece: Piece, keys: Keys, resolution: int) -> tuple[Roll, int]:
    """The roll `(T, K)` of a piece, and how many of its notes lie outside of the keys.

    resolution: steps a quarter note; a note sounds from the step nearest to its start to the one nearest to its end,
    one step at least. What comes before the first note is left out. Steps of a piano roll stay as they are.
    """
    if piece.steps is not None:
        cells = [(t, keys.column(pitch)) for t, pitches in enumerate(piece.steps) for pitch in pitches]
        return _filled(((t, t + 1, column) for t, column in cells), len(piece.steps), keys)
    timed = _timed(piece, keys, resolution)
    begin = min((start for start, _, column in timed if column >= 0), default=0)
    length = max((end for _, end, column in timed if column >= 0), default=0) - begin
    if length > MOST_STEPS:
        raise FaultError(f"a piece of more than {MOST_STEPS:,} steps")
    return _filled(((start - begin, end - begin, column) for start, end, column in timed), length, keys)


def _timed(piece: Piece, keys: Keys, resolution: int) -> list[tuple[int, int, int]]:
    """First step, step behind the last, and column of each note, -1 where it has none."""
    return [(*_steps(note, resolution), keys.column(note.pitch, drum=note.drum)) for note in piece.notes]


def _steps(note: Note, resolution: int) -> tuple[int, int]:
    start = int(note.start * resolution + 0.5)
    return start, max(int(note.end * resolution + 0.5), start + 1)


def _filled(spans: Iterable[tuple[int, int, int]], length: int, keys: Keys) -> tuple[Roll, int]:
    roll = np.zeros((length, keys.size), dtype=np.uint8)
    outside = 0
    for start, end, column in spans:
        if column < 0:
            outside += 1
        else:
            roll[start:end, column] = 1
    return roll, outside


def notes_of_roll(
    roll: npt.NDArray[Any], keys: Keys, resolution: float, *, held: bool = True, velocity: int = 80
) -> list[Note]:
    """The notes of a roll `(T, K)`. held: a key that sounds at steps in a row is one note, else each step is one."""
    found = []
    for column in np.flatnonzero(roll.any(axis=0)):
        on = np.concatenate([[0], roll[:, column] > 0, [0]]).astype(np.int8)
        starts, ends = np.flatnonzero(np.diff(on) == 1), np.flatnonzero(np.diff(on) == -1)
        if not held:
            starts = np.flatnonzero(roll[:, column])
            ends = starts + 1
        pitch, drum = keys.note(int(column))
        found += [
            Note(start / resolution, end / resolution, pitch, velocity, drum)
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        ]
    return sorted(found)


def notes_within(
    piece: Piece, cells: npt.NDArray[Any], keys: Keys, resolution: int, *, held: bool = True
) -> list[Note]:
    """The notes of a piece as far as their cells of its roll `(T, K)` are chosen, in the roll's time.

    One that is chosen whole keeps its exact times, its velocity, and its beginning where it is struck again; of another
    one the chosen steps are left. held: of steps of a piano roll, as in `notes_of_roll`.
    """
    if piece.steps is not None:
        return notes_of_roll(cells, keys, resolution, held=held)
    timed = _timed(piece, keys, resolution)
    begin = min((start for start, _, column in timed if column >= 0), default=0)
    found: dict[tuple[int, int], Note] = {}
    for note, (start, end, column) in sorted(zip(piece.notes, timed, strict=True)):
        chosen = cells[start - begin : end - begin, column] if column >= 0 else cells[:0, 0]
        if len(chosen) == end - start and chosen.all():
            spans = [(note.start - begin / resolution, note.end - begin / resolution)]
        else:
            part = notes_of_roll(chosen[:, None], Keys(), resolution)
            first = (start - begin) / resolution
            spans = [(one.start + first, one.end + first) for one in part]
        for since, until in spans:
            own = note._replace(start=max(0.0, since), end=until, voice=0)
            found[column, round(own.start * resolution)] = own
    return _one_after_the_other(found)


def _one_after_the_other(notes: Mapping[tuple[int, int], Note]) -> list[Note]:
    """Notes by column and first step: one that still sounds when its key is struck again ends there."""
    ordered = sorted(notes.items(), key=lambda item: item[0])
    found = []
    for ((column, _), note), after in zip(ordered, [*ordered[1:], None], strict=True):
        end = min(note.end, after[1].start) if after is not None and after[0][0] == column else note.end
        found.append(note._replace(end=end))
    return sorted(found)


# Files

Parts = dict[str, list[Any]]


def piece_of_line(value: Any, name: str) -> Piece:
    """A piece of a list of steps, each a list of pitches: `[[60, 64, 67], [], [62]]`. Raises FaultError for others."""
    if not isinstance(value, list) or not value:
        raise FaultError("no list of steps" if value != [] else "an empty piece")
    steps = []
    for step in value:
        pitches = step if isinstance(step, list) else [step]
        if not all(isinstance(pitch, int | float) and float(pitch).is_integer() for pitch in pitches):
            raise FaultError("a step that is no list of pitches")
        # -1 and 0 stand for silence in rolls of this kind.
        kept = tuple(sorted({int(pitch) for pitch in pitches if pitch > 0}))
        if kept and kept[-1] > 127:
            raise FaultError("a pitch above 127")
        steps.append(kept)
    return _checked(steps, name)


def piece_of_matrix(matrix: Any, name: str) -> Piece:
    """A piece of a matrix `(T, 88)`, or `(T, 128)` by numbers of MIDI; other values than 0 sound."""
    found = np.asarray(matrix)
    if found.ndim != 2 or found.dtype.kind not in "buif":
        raise FaultError("no matrix of steps by keys")
    if found.shape[1] not in {88, 128} and found.shape[0] in {88, 128}:
        found = found.T
    if found.shape[1] not in {88, 128}:
        raise FaultError(f"a matrix of {found.shape[0]} x {found.shape[1]}, not steps x 88 or x 128 keys")
    first = LOW if found.shape[1] == 88 else 0
    filled = found[np.isfinite(found).all(axis=1)] if found.dtype.kind == "f" else found
    if len(filled) < len(found):
        raise FaultError("a matrix with values that are no numbers")
    return _checked([tuple((np.flatnonzero(row) + first).tolist()) for row in found], name)


def _checked(steps: list[tuple[int, ...]], name: str) -> Piece:
    if not any(steps):
        raise FaultError("a piece without notes")
    if len(steps) > MOST_STEPS:
        raise FaultError(f"a piece of more than {MOST_STEPS:,} steps")
    return Piece(name, steps=steps)


def read_mat(data: bytes) -> Parts:
    """The matrices of a MATLAB file, by part: `traindata`, `validdata`, `testdata`, each a cell of matrices."""
    require("scipy", extra="music", what="reading .mat files")
    import scipy.io

    if data[:512].find(b"MATLAB 7.3") >= 0:
        raise FaultError("a MATLAB file of version 7.3 (save it by -v7)")
    try:
        found = scipy.io.loadmat(io.BytesIO(data))
    # A damaged file raises errors of many kinds.
    except Exception as error:  # noqa: BLE001
        raise FaultError(
            f"a damaged MATLAB file ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from None
    return _by_part({name: value for name, value in found.items() if not name.startswith("__")})


def read_npz(data: bytes) -> Parts:
    """The matrices of a .npz or .npy file, by part where their names say one (`train_0`); (N, T, K) is N pieces."""
    try:
        found = np.load(io.BytesIO(data), allow_pickle=False)
        arrays = {"": found} if isinstance(found, np.ndarray) else {name: found[name] for name in found.files}
    except ValueError as error:
        if "allow_pickle" in str(error) or "pickle" in str(error):
            raise FaultError("a NumPy file of pickled objects (save one numeric array a piece)") from None
        raise FaultError(f"a damaged NumPy file ({error})") from None
    # Archives are damaged in many ways.
    except Exception as error:  # noqa: BLE001
        raise FaultError(f"a damaged NumPy file ({error})") from None
    return _by_part(arrays)


def _by_part(arrays: Mapping[str, Any]) -> Parts:
    parts: Parts = {}
    for name, value in arrays.items():
        part = part_of(name)
        if value.dtype == object and value.ndim > 1 and {np.size(cell) for cell in value.flat} == {1}:
            # A cell of numbers, one each: what becomes of equally long pieces in one array of objects.
            value = np.array([np.asarray(cell).item() for cell in value.flat]).reshape(value.shape)
        if value.dtype == object:
            parts.setdefault(part, []).extend(value.ravel().tolist())
        elif value.ndim == 3:
            parts.setdefault(part, []).extend(value)
        else:
            parts.setdefault(part, []).append(value)
    if not parts:
        raise FaultError("a file without matrices")
    return parts


def part_of(name: str) -> str:
    """The part that a name says: "train", "valid", "test"; else ""."""
    word = name.lower().removesuffix("data").strip("_- ")
    word = word.rstrip("0123456789").strip("_- ")
    return PARTS.get(word, "")


def read_json(text: str) -> Parts:
    """Pieces of JSON by part: an object of parts, a list of pieces, or one piece; a piece is a list of steps."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FaultError(f"no JSON ({error})") from None
    if isinstance(found, dict):
        parts: Parts = {}
        if not any(isinstance(pieces, list) for pieces in found.values()):
            raise ForeignError("an object of JSON without lists of pieces")
        for name, pieces in found.items():
            if not isinstance(pieces, list):
                raise FaultError(f"no list of pieces under {name!r}")
            parts.setdefault(part_of(name), []).extend(pieces)
        return parts
    if not isinstance(found, list):
        raise FaultError("no list of pieces")
    return {"": found if _nested(found) >= 3 else [found]}


def _nested(value: Any) -> int:
    """How deep lists lie in each other, by the first that is not empty."""
    depth = 0
    while isinstance(value, list):
        depth += 1
        value = next((inner for inner in value if inner != []), None)
    return depth
