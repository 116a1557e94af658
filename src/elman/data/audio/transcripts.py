"""Recordings and what is said in them, from tables, corpora and folders as people have them.

A file or a folder is recognized by what it holds; what was recognized stands in the account; `Listing` overrides it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

from elman.config import UserError, nearest
from elman.data.account import Account, Place
from elman.data.audio.segments import SEGMENTED, Segment, read_marks, read_segments, utterances
from elman.data.audio.sound import FOREIGN, SUFFIXES
from elman.data.audio.tables import Columns, find_columns, located, row_of
from elman.data.encoding import decode, lines_of, read_bytes
from elman.data.table import read_table

__all__ = ["Form", "Listing", "Recording", "pattern_of", "read_recordings", "recordings_in"]

Form = Literal["auto", "table", "kaldi", "librispeech", "ctm", "sidecar", "folders", "names"]
TABLES = frozenset({".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".txt", ".manifest"})
SIDECARS = (".txt", ".lab", *SEGMENTED)
NOTHING: Mapping[str, str] = MappingProxyType({})
# Fields of a pattern that say what is heard.
SAID = ("text", "label", "class", "word")


class Recording(NamedTuple):
    """A piece of sound with its transcript: a whole file, or from `start` to `end` in seconds.

    fields: all else that is known of it by name: columns of its table, parts of its name.
    """

    path: Path
    text: str
    place: Place
    start: float = 0.0
    end: float | None = None
    speaker: str = ""
    fields: Mapping[str, str] = NOTHING


@dataclass(frozen=True)
class Listing:
    """How recordings are to be found; each default finds out.

    pattern: what the parts of a file's name mean, such as `{text}_{speaker}_{index}`. audio_column, text_column,
    speaker_column: of tables, by name or number from 1.
    """

    form: Form = "auto"
    pattern: str = ""
    audio_column: str = ""
    text_column: str = ""
    speaker_column: str = ""
    encoding: str = "auto"


def read_recordings(paths: Sequence[str], account: Account, how: Listing = Listing()) -> list[Recording]:
    """The recordings of files and folders, in order; what cannot be used is a fault in the account.

    Raises UserError where a path is missing, or holds no recordings with transcripts. The sound is not opened.
    """
    found: list[Recording] = []
    for path in map(Path, paths):
        if not path.exists():
            beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
            raise UserError(f"no such file or folder: {path}{nearest(path.name, beside)}")
        if path.is_dir():
            found += _folder(path, account, how)
        elif path.suffix.lower() == ".ctm":
            found += _marked(path, account, how)
        else:
            found += _table(path, account, how)
    return [_with_fields(recording, how) for recording in found]


def recordings_in(folder: Path) -> list[Path]:
    """The sound files of a folder and its folders, by name; hidden ones are passed over."""
    known = SUFFIXES | FOREIGN
    files = (file for file in folder.rglob("*") if file.suffix.lower() in known and file.is_file())
    return sorted(
        file for file in files if not any(p.startswith(".") for p in file.relative_to(folder).parts)
    )


# Folders


def _folder(folder: Path, account: Account, how: Listing) -> Iterator[Recording]:
    form: str = how.form
    if form == "auto":
        form = next((name for name, (fits, _) in FORMS.items() if fits(folder, how)), "auto")
    if form == "auto":
        _refuse(folder)
    yield from FORMS[form][1](folder, account, how)


def _refuse(folder: Path) -> None:
    files = recordings_in(folder)
    if not files:
        raise UserError(f"{folder} holds no recordings ({', '.join(sorted(SUFFIXES)[:6])}, ...)")
    raise UserError(
        f"{folder} holds {len(files):,} recordings, the first {files[0].name}, and no transcripts: give a table of "
        f"them, a text file beside each, or --pattern with what the parts of a name mean, such as "
        f"'{{text}}_{{speaker}}_{{index}}'"
    )


def _is_named(folder: Path, how: Listing) -> bool:
    return any(f"{{{word}}}" in how.pattern for word in SAID)


def _named(folder: Path, account: Account, how: Listing) -> Iterator[Recording]:
    pattern = pattern_of(how.pattern)
    account.found.append(f"{folder}: transcripts in the names of the files, {how.pattern}")
    for path in recordings_in(folder):
        account.read += 1
        match = pattern.search(_bare(path))
        fields = match.groupdict() if match else {}
        said = next((fields[word] for word in SAID if fields.get(word)), "")
        if not said:
            account.fault("name that does not fit the pattern", Place(str(path)))
            continue
        yield Recording(path, said, Place(str(path)))


def pattern_of(pattern: str) -> re.Pattern[str]:
    """A pattern of names as a regular expression. Raises UserError for one without fields, or with one twice."""
    pieces = re.split(r"\{(\w+)\}", pattern)
    names = pieces[1::2]
    if not names or len(set(names)) < len(names) or any(not name.isidentifier() for name in names):
        raise UserError(
            f"--pattern {pattern}: expected fields in braces, each once, such as {{text}}_{{speaker}}_{{index}}"
        )
    written = "".join(
        f"(?P<{piece}>[^/]+{'?' if at < len(pieces) - 2 else ''})" if at % 2 else re.escape(piece)
        for at, piece in enumerate(pieces)
    )
    return re.compile(rf"(?:^|/){written}$")


def _bare(path: Path) -> str:
    return path.with_suffix("").as_posix()


def _with_fields(recording: Recording, how: Listing) -> Recording:
    """What the file's name says of the recording, beside what its table says; and who speaks."""
    fields = dict(recording.fields)
    if how.pattern:
        match = pattern_of(how.pattern).search(_bare(recording.path))
        fields |= match.groupdict() if match else {}
    return recording._replace(fields=fields, speaker=recording.speaker or fields.get("speaker", ""))


def _is_kaldi(folder: Path, how: Listing) -> bool:
    return (folder / "wav.scp").is_file() and (folder / "text").is_file()


def _kaldi(folder: Path, account: Account, how: Listing) -> Iterator[Recording]:
    """`text`, `wav.scp`, and `segments` and `utt2spk` where they are."""
    sounds = {name: rest for _, name, rest in _keyed(folder / "wav.scp", how)}
    cut = folder / "segments"
    segments = {name: rest.split() for _, name, rest in _keyed(cut, how)} if cut.is_file() else None
    speakers = folder / "utt2spk"
    who = {name: rest for _, name, rest in _keyed(speakers, how)} if speakers.is_file() else {}
    account.found.append(
        f"{folder}: Kaldi, transcripts in text, recordings in wav.scp{', segments' * bool(segments)}"
    )
    for line, name, text in _keyed(folder / "text", how):
        account.read += 1
        place = Place(str(folder / "text"), line)
        source, start, end = name, 0.0, None
        if segments is not None:
            try:
                source, *times = segments[name]
                start, end = map(float, times[:2])
            except (KeyError, ValueError):
                account.fault("utterance without a segment", place)
                continue
        sound = sounds.get(source, "")
        if not sound:
            account.fault("utterance without a recording", place)
        elif sound.endswith("|"):
            account.fault("command in wav.scp, which is not run: write its sound to a file", place)
        elif not text:
            account.fault("empty transcript", place)
        else:
            path = located(sound, folder) or folder / sound
            yield Recording(path, text, place, start, end, who.get(name, ""))


def _keyed(path: Path, how: Listing) -> Iterator[tuple[int, str, str]]:
    """Line, first word and the rest of each line that is not blank."""
    for number, line in enumerate(lines_of(decode(read_bytes(path), str(path), how.encoding).text), 1):
        if line.strip():
            name, *rest = line.split(maxsplit=1)
            yield number, name, rest[0].strip() if rest else ""


def _is_librispeech(folder: Path, how: Listing) -> bool:
    return next(folder.rglob("*.trans.txt"), None) is not None


def _librispeech(folder: Path, account: Account, how: Listing) -> Iterator[Recording]:
    lists = sorted(folder.rglob("*.trans.txt"))
    account.found.append(
        f"{folder}: LibriSpeech, {len(lists):,} lists of transcripts; the speaker in front of the name"
    )
    for path in lists:
        for line, name, text in _keyed(path, how):
            account.read += 1
            sound = located(name, path.parent)
            if sound is None or not text:
                account.fault("empty transcript" if sound else "no such recording", Place(str(path), line))
            else:
                yield Recording(sound, text, Place(str(path), line), speaker=name.split("-")[0])


def _has_marks(folder: Path, how: Listing) -> bool:
    return next(folder.rglob("*.ctm"), None) is not None


def _of_marks(folder: Path, account: Account, how: Listing) -> Iterator[Recording]:
    for path in sorted(folder.rglob("*.ctm")):
        yield from _marked(path, account, how)


def _marked(path: Path, account: Account, how: Listing) -> Iterator[Recording]:
    """A CTM: words with times, of one recording or of many."""
    marks, wrong = read_marks(decode(read_bytes(path), str(path), how.encoding).text)
    account.found.append(f"{path}: CTM, {len(marks):,} words with times, put together between pauses")
    for line in wrong:
        account.read += 1
        account.fault("line that is no word with times", Place(str(path), line))
    for name, piece in utterances(marks):
        account.read += 1
        place = Place(str(path), piece.line)
        sound = located(name, path.parent)
        if sound is None:
            account.fault("no such recording", place)
        else:
            yield Recording(sound, piece.text, place, piece.start, piece.end)


def _tables_in(folder: Path) -> list[Path]:
    """Tables in a folder, of which one that is a list of the others is taken alone."""
    tables = sorted(
        path for path in folder.iterdir() if path.suffix.lower() in TABLES - {".txt"} and path.is_file()
    )
    named = [
        path for path in tables if path.stem.lower() in {"metadata", "transcripts", "validated", "manifest"}
    ]
    return named[:1] or tables


def _has_table(folder: Path, how: Listing) -> bool:
    for path in _tables_in(folder):
        try:
            if list(_table(path, Account(), how)):
                return True
        except UserError:
            continue
    return False


def _of_tables(folder: Path, account: Account, how: Listing) -> Iterator[Recording]:
    for path in _tables_in(folder):
        yield from _table(path, account, how)


def _sidecar(path: Path) -> Path | None:
    return next((path.with_suffix(suffix) for suffix in SIDECARS if path.with_suffix(suffix).is_file()), None)


def _has_sidecars(folder: Path, how: Listing) -> bool:
    return any(_sidecar(path) for path in recordings_in(folder)[:50])


def _sidecars(folder: Path, account: Account, how: Listing) -> Iterator[Recording]:
    account.found.append(f"{folder}: a transcript beside each recording ({', '.join(SIDECARS)})")
    for path in recordings_in(folder):
        beside = _sidecar(path)
        if beside is None:
            account.read += 1
            account.fault("recording without a transcript", Place(str(path)))
            continue
        text = decode(read_bytes(beside), str(beside), how.encoding).text
        pieces = read_segments(text, beside.suffix)
        if pieces is not None and not pieces:
            account.read += 1
            account.fault(f"{beside.suffix} without segments", Place(str(beside)))
        for piece in pieces if pieces is not None else [Segment(0.0, None, " ".join(text.split()), 0)]:
            account.read += 1
            place = Place(str(beside), piece.line)
            if piece.text:
                yield Recording(path, piece.text, place, piece.start, piece.end)
            elif pieces is None:
                account.fault("empty transcript", place)
            else:
                account.set_aside("segment without words", place)


def _has_classes(folder: Path, how: Listing) -> bool:
    homes = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sum(bool(recordings_in(home)) for home in homes) > 1


def _classes(folder: Path, account: Account, how: Listing) -> Iterator[Recording]:
    homes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    names = [home.name for home in homes if not home.name.startswith("_")]
    account.found.append(
        f"{folder}: a folder a word or class ({', '.join(names[:12])}{', ...' * (len(names) > 12)})"
    )
    for home in homes:
        for path in recordings_in(home):
            account.read += 1
            if home.name.startswith("_"):
                account.set_aside(f"recording in {home.name}, which is no class", Place(str(path)))
            else:
                yield Recording(path, home.name, Place(str(path)))


Fits = Callable[[Path, Listing], bool]
Reader = Callable[[Path, Account, Listing], Iterator[Recording]]


# Tables


def _table(path: Path, account: Account, how: Listing) -> Iterator[Recording]:
    text = decode(read_bytes(path), str(path), how.encoding).text
    table = read_table(str(path), text, account)
    if table is None or not table.rows:
        raise UserError(
            f"{path} is no table of recordings: it needs a column of file names, and one of transcripts"
        )
    columns = find_columns(table, path, Columns(how.audio_column, how.text_column, how.speaker_column))
    account.found.append(f"{path}: {table.found}; {columns}")
    for row in table.rows:
        found = row_of(row, columns, path.parent)
        if isinstance(found, str):
            account.fault(found, row.place)
        else:
            fields = {name: str(value) for name, value in row.values.items() if value is not None}
            speaker = fields.get(columns.speaker, "")
            yield Recording(found.path, found.text, row.place, found.start, found.end, speaker, fields)


# In the order in which a folder is asked.
FORMS: dict[str, tuple[Fits, Reader]] = {
    "names": (_is_named, _named),
    "kaldi": (_is_kaldi, _kaldi),
    "librispeech": (_is_librispeech, _librispeech),
    "ctm": (_has_marks, _of_marks),
    "table": (_has_table, _of_tables),
    "sidecar": (_has_sidecars, _sidecars),
    "folders": (_has_classes, _classes),
}
