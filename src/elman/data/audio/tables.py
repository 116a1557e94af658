"""Tables of recordings: which column names the file, which holds the transcript, and where the file lies."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from elman.config import UserError, nearest
from elman.data.audio.sound import FOREIGN, SUFFIXES
from elman.data.table import Table, TableRow

__all__ = ["Columns", "Row", "find_columns", "located", "row_of"]

_SOUNDS = """
path audiofilepath audiopath audiofile audio wavfilename wavpath wavfile wav filename filepath file clip clippath
recording sound id
"""
_TEXTS = """
sentence normalizedtranscription normalizedtext normalized transcript transcription transcripts text label class word
command emotion
"""
_SPEAKERS = "clientid speakerid speaker spkid spk userid reader"
SOUNDS, TEXTS, SPEAKERS = (tuple(words.split()) for words in (_SOUNDS, _TEXTS, _SPEAKERS))
# Folders in which the files of a table may lie, from the table's own.
FOLDERS = ("", "clips", "wavs", "wav", "audio", "recordings", "..", "../clips", "../wavs", "../audio")
SAMPLE = 20
# What a name without a suffix may have.
USUAL = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".sph")


class Columns(NamedTuple):
    """The columns by name; empty: find out. start, end: seconds; length: seconds from `start` on."""

    sound: str = ""
    text: str = ""
    speaker: str = ""
    start: str = ""
    end: str = ""
    length: str = ""

    def __str__(self) -> str:
        """Say it in words."""
        more = f", speakers in {self.speaker!r}" if self.speaker else ""
        part = f", from {self.start!r}" if self.start else ""
        return f"recordings in column {self.sound!r}{part}, transcripts in {self.text!r}{more}"


class Row(NamedTuple):
    """What a row of the table says."""

    path: Path
    text: str
    start: float
    end: float | None


def located(name: str, folder: Path) -> Path | None:
    """The file that a name means: as it stands, in the folder or one of its usual folders, with or without a suffix."""
    if not name.strip():
        return None
    given = Path(name.strip())
    homes = [given] if given.is_absolute() else [folder / home / given for home in FOLDERS]
    for path in homes:
        if path.is_file():
            return path
        if path.suffix.lower() not in SUFFIXES | FOREIGN:
            for suffix in USUAL:
                whole = path.with_name(path.name + suffix)
                if whole.is_file():
                    return whole
    return None


def find_columns(table: Table, path: Path, given: Columns) -> Columns:
    """The columns of a table. Raises UserError where they cannot be told."""
    plain = {re.sub(r"[\W_]+", "", column).lower(): column for column in reversed(table.columns)}
    sound = _column(given.sound, table, path, "--audio-column") or _sounds(table, path, plain)
    others = [column for column in table.columns if column != sound]
    text = _column(given.text, table, path, "--text-column") or _texts(table, others, plain)
    if not sound or not text:
        what, flag = (
            ("a column of recordings", "--audio-column") if not sound else ("transcripts", "--text-column")
        )
        raise UserError(
            f"{path} has no {what} that could be found; its columns are {', '.join(table.columns[:20])}: name it by "
            f"{flag}"
        )
    speaker = _column(given.speaker, table, path, "--speaker-column")
    speaker = speaker or next((plain[word] for word in SPEAKERS if word in plain), "")
    start = next((plain[word] for word in ("offset", "start", "starttime", "begin") if word in plain), "")
    end = next((plain[word] for word in ("end", "endtime", "stop") if word in plain), "") if start else ""
    length = plain.get("duration", "") if start and not end else ""
    return Columns(sound, text, speaker, start, end, length)


def _column(word: str, table: Table, path: Path, flag: str) -> str:
    if not word or word in table.columns:
        return word
    if word.isdecimal() and 0 < int(word) <= len(table.columns):
        return table.columns[int(word) - 1]
    hint = nearest(word, table.columns) or f"; its columns are {', '.join(table.columns[:20])}"
    raise UserError(f"{flag} {word}: {path} has no such column{hint}")


def _sounds(table: Table, path: Path, plain: Mapping[str, str]) -> str:
    """The first column by name whose cells name files, or look so; else any such column."""
    named = [plain[word] for word in SOUNDS if word in plain]
    for column in [*named, *table.columns]:
        cells = [str(row.values.get(column, "")) for row in table.rows[:SAMPLE]]
        if any(
            located(cell, path.parent) or Path(cell).suffix.lower() in SUFFIXES | FOREIGN
            for cell in cells
            if cell
        ):
            return column
    return ""


def _texts(table: Table, others: list[str], plain: Mapping[str, str]) -> str:
    named = [plain[word] for word in TEXTS if plain.get(word) in others]
    if named or not others:
        return named[0] if named else ""

    def size(column: str) -> int:
        return sum(len(str(row.values.get(column) or "")) for row in table.rows[:1000])

    # Of equal ones the last: LJSpeech has the text as it is spoken behind the text as it is written.
    return max(reversed(others), key=size)


def row_of(row: TableRow, columns: Columns, folder: Path) -> Row | str:
    """What a row says, or what is wrong with it."""
    name, text = row.values.get(columns.sound), row.values.get(columns.text)
    said = " ".join(str(text).split()) if text is not None else ""
    if not said:
        return "empty transcript"
    path = located(str(name), folder) if name is not None else None
    if path is None:
        return "no such recording"
    start = _seconds(row.values.get(columns.start), 0.0) if columns.start else 0.0
    length = _seconds(row.values.get(columns.length), math.nan) if columns.length else math.nan
    end = _seconds(row.values.get(columns.end), math.nan) if columns.end else start + length
    return Row(path, said, start, None if math.isnan(end) else end)


def _seconds(cell: Any, default: float) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return default
