"""Files and folders of music -> pieces, each with its place, and an account: of every file, why it gave nothing.

read 408 files, used 401, left out 7: 3 a MIDI file without notes (a.mid, b.mid, c.mid), 2 nothing but drums (...)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from elman.config import UserError, check_regular, nearest
from elman.data.account import Account, Place
from elman.data.encoding import decode, read_bytes
from elman.data.inputs import files_of
from elman.data.music import rolls
from elman.data.music.abc import read_abc
from elman.data.music.midi import read_midi
from elman.data.music.musicxml import read_musicxml
from elman.data.music.piece import FaultError, ForeignError, Piece

__all__ = [
    "SUFFIXES",
    "Collection",
    "Drums",
    "Located",
    "Reading",
    "parts_of_folder",
    "pieces_of_file",
    "read_collection",
]

Drums = Literal["drop", "keep", "only"]
MIDI = {".mid", ".midi", ".kar", ".rmi", ".smf"}
LINES = {".jsonl", ".txt", ".ndjson"}
XML = {".xml", ".musicxml", ".mxl"}
SUFFIXES = (*sorted(MIDI), *sorted(XML), ".abc", ".mat", ".npz", ".npy", ".json", *sorted(LINES))


class Reading(NamedTuple):
    """How files are read. drums: whether percussion is left out, kept beside the others, or all there is.

    drum_channel: the channel of MIDI files, from 1, whose notes are percussion; 0: none is.
    """

    drums: Drums = "drop"
    drum_channel: int = 10


class Located(NamedTuple):
    """A piece, the part that its file says ("" where it says none), and where it comes from."""

    piece: Piece
    part: str
    place: Place


class Foreign(tuple[str, Place]):
    """(reason, place) of a file that is no music though its ending allows it."""

    __slots__ = ()


@dataclass
class Collection:
    """What was read. account: of the pieces; a file that gives none counts as one."""

    pieces: list[Located] = field(default_factory=list)
    account: Account = field(default_factory=lambda: Account("pieces"))


def read_collection(paths: Sequence[str], how: Reading) -> Collection:
    """The pieces of files and folders, in order. Raises UserError for a path that is not there."""
    found = Collection()
    counts: dict[str, int] = {}
    for file, named in _files(paths, found.account):
        for located in pieces_of_file(file, how):
            found.account.read += 1
            if not isinstance(located, Located):
                foreign = isinstance(located, Foreign) and not named
                (found.account.set_aside if foreign else found.account.fault)(*located)
                continue
            counts[file.suffix.lower()] = counts.get(file.suffix.lower(), 0) + 1
            for remark in located.piece.remarks:
                found.account.remark(remark, located.place)
            found.pieces.append(located)
    if counts:
        kinds = ", ".join(f"{count:,} of {suffix or 'no suffix'}" for suffix, count in sorted(counts.items()))
        found.account.found.append(f"pieces: {kinds}")
    return found


def _files(paths: Sequence[str], account: Account) -> Iterator[tuple[Path, bool]]:
    """The files of music, and whether each was named; others in a folder are set aside."""
    for path in paths:
        if not Path(path).exists():
            beside = [entry.name for entry in Path(path).absolute().parent.glob("*")]
            raise UserError(f"no such file or folder: {path}{nearest(Path(path).name, beside)}")
        check_regular(Path(path))
        if not Path(path).is_dir():
            yield Path(path), True
            continue
        for file in files_of(path):
            if file.suffix.lower() in SUFFIXES:
                yield file, False
            else:
                account.read += 1
                account.set_aside(f"not music by its name ({file.suffix or 'no suffix'})", Place(str(file)))


def parts_of_folder(folder: Path) -> dict[str, list[str]]:
    """Folders or files called train, valid and test in a folder, by part; nothing where there is no train."""
    found: dict[str, list[str]] = {}
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() or entry.suffix.lower() in SUFFIXES:
            part = rolls.part_of(entry.stem if entry.is_file() else entry.name)
            if part:
                found.setdefault(part, []).append(str(entry))
    return found if "train" in found and len(found) > 1 else {}


def pieces_of_file(path: Path, how: Reading) -> Iterator[Located | tuple[str, Place]]:
    """The pieces of a file in order, each with its place; in the place of one that cannot be used (reason, place).

    A file that gives none at all is one such place.
    """
    try:
        data = read_bytes(path)
        yield from _read(path, data, how)
    except ForeignError as fault:
        yield Foreign((str(fault), Place(str(path))))
    except FaultError as fault:
        yield str(fault), Place(str(path))
    except UserError as error:
        if "pip install" in str(error):
            raise
        yield str(error), Place(str(path))


def _read(path: Path, data: bytes, how: Reading) -> Iterator[Located | tuple[str, Place]]:
    suffix, name = path.suffix.lower(), path.stem
    if suffix in MIDI or data[:4] == b"MThd":
        for piece in read_midi(data, name, drum_channel=how.drum_channel):
            yield _with_drums(piece, how.drums, Place(str(path)))
    elif suffix in XML:
        yield _with_drums(read_musicxml(data, name), how.drums, Place(str(path)))
    elif suffix == ".abc":
        for number, found in enumerate(read_abc(decode(data, str(path)).text, name), 1):
            if isinstance(found, Piece):
                yield Located(found, "", Place(f"{path} tune {number}"))
            else:
                yield found[0], Place(str(path), found[1])
    elif suffix in LINES:
        every = _lines(path, decode(data, str(path)).text)
        yield from _some(every) if suffix == ".txt" else every
    else:
        readers: dict[str, Callable[[], rolls.Parts]] = {
            ".mat": lambda: rolls.read_mat(data),
            ".npz": lambda: rolls.read_npz(data),
            ".npy": lambda: rolls.read_npz(data),
            ".json": lambda: rolls.read_json(decode(data, str(path)).text),
        }
        if suffix not in readers:
            raise FaultError(f"no file of music that is known ({', '.join(SUFFIXES)})")
        make = rolls.piece_of_line if suffix == ".json" else rolls.piece_of_matrix
        yield from _members(path, readers[suffix](), make)


def _members(
    path: Path, parts: rolls.Parts, make: Callable[[Any, str], Piece]
) -> Iterator[Located | tuple[str, Place]]:
    for part, values in parts.items():
        for number, value in enumerate(values, 1):
            label = f"{part or 'piece'} {number}"
            place = Place(f"{path} {label}")
            try:
                yield Located(make(value, f"{path.stem} {label}"), part, place)
            except FaultError as fault:
                yield str(fault), place


def _lines(path: Path, text: str) -> Iterator[Located | tuple[str, Place]]:
    """A piece a line; empty lines are none."""
    empty = True
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            empty = False
            place = Place(str(path), number)
            try:
                yield Located(piece_of_text(line, f"{path.stem} {number}"), "", place)
            except FaultError as fault:
                yield str(fault), place
    if empty:
        raise FaultError("empty file")


def _some(
    found: Iterable[Located | tuple[str, Place]],
) -> Iterator[Located | tuple[str, Place]]:
    """The pieces of lines, if any of them is one. Raises ForeignError for other texts."""
    every = list(found)
    if not any(isinstance(one, Located) for one in every):
        raise ForeignError("a text of which no line is a piece")
    yield from every


def piece_of_text(line: str, name: str) -> Piece:
    """A piece of a line of JSON. Raises FaultError where it is none."""
    import json

    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise FaultError("no list of steps") from None
    return rolls.piece_of_line(value, name)


def _with_drums(piece: Piece, drums: Drums, place: Place) -> Located | tuple[str, Place]:
    """The piece with its percussion left out, kept, or alone."""
    if drums != "keep":
        kept = [note for note in piece.notes if note.drum == (drums == "only")]
        if not kept:
            return ("nothing but drums (--drums keep)" if drums == "drop" else "no drums"), place
        piece.notes = kept
    return Located(piece, "", place)
