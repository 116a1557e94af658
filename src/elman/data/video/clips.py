"""Clips and their tags, from tables, folders and names as people have them.

A file or a folder is recognized by what it holds; what was recognized stands in the account; `Listing` overrides it.
A clip is a video, or a file of features or skeletons, a row of numbers a frame; or some rows of one table for all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from elman.config import UserError, nearest
from elman.data.account import Account, Place
from elman.data.audio.transcripts import pattern_of
from elman.data.encoding import decode, read_bytes
from elman.data.table import Table, TableRow, read_table
from elman.data.video.frames_table import Chosen, clips_of_frames, is_of_frames

__all__ = [
    "FEATURES",
    "VIDEOS",
    "Clip",
    "Form",
    "Listing",
    "Stretch",
    "clips_in",
    "is_video",
    "read_clips",
    "with_stretches",
]

Form = Literal["auto", "table", "frames", "folders", "names"]
_VIDEOS = ".mp4 .m4v .mov .avi .webm .mkv .gif .mpg .mpeg .ts .mts .ogv .wmv .flv .3gp .y4m"
VIDEOS = frozenset(_VIDEOS.split())
FEATURES = frozenset([".npy", ".npz", ".csv", ".tsv", ".txt", ".skeleton"])
TABLES = frozenset({".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".txt"})
NOTHING: Mapping[str, str] = MappingProxyType({})
# Fields and columns that say what a clip shows, and columns that name its file.
_LABELS = "label labels class classname action actions tag tags activity gesture sign category"
LABELS = tuple(_LABELS.split())
_FILES = """
path clippath videopath file filename filepath clip clipname video videofile videoname videoid features skeleton name id
"""
FILES = tuple(_FILES.split())
STARTS = ("start", "starttime", "timestart", "begin", "onset", "from")
ENDS = ("end", "endtime", "timeend", "stop", "offset", "to")
# Folders in which the files of a table may lie, from the table's own.
HOMES = ("", "clips", "videos", "video", "features", "skeletons", "data", "..", "../clips", "../videos")
SEPARATORS = ("|", ";", ",")
YES, NO = frozenset({"1", "1.0", "true", "yes"}), frozenset({"0", "0.0", "false", "no", ""})
SAMPLE = 50


class Stretch(NamedTuple):
    """A tag of a part of a clip, from `start` to `end` in seconds (None: to its end)."""

    label: str
    start: float = 0.0
    end: float | None = None


class Clip(NamedTuple):
    """A clip with its tags: a whole file, or from `start` to `end` in seconds.

    stretches: tags of parts of it. fields: all else that is known of it by name: columns of its table, parts of its
    name. values: its frames `(T, F)`, where one table holds those of all clips.
    """

    path: Path
    labels: tuple[str, ...]
    place: Place
    start: float = 0.0
    end: float | None = None
    stretches: tuple[Stretch, ...] = ()
    fields: Mapping[str, str] = NOTHING
    values: Any = None

    @property
    def name(self) -> str:
        """The file, and the part of it."""
        part = "" if not self.start and self.end is None else f"@{self.start:g}-{self.end or 0:g}"
        return f"{self.path.name}{part}"


@dataclass(frozen=True)
class Listing:
    """How clips are to be found; each default finds out.

    pattern: what the parts of a file's name mean, such as `{label}_{subject}_{take}`. label: the field that is the tag.
    clip_column, label_columns: of tables, by name or number from 1; several columns of tags say 0 or 1. separator:
    between several tags of a cell. feature_columns: of a table of frames. rate: its frames a second.
    """

    form: Form = "auto"
    pattern: str = ""
    label: str = ""
    clip_column: str = ""
    label_columns: tuple[str, ...] = ()
    separator: str = "auto"
    feature_columns: tuple[str, ...] = ()
    rate: float = 1.0
    encoding: str = "auto"


def is_video(path: Path) -> bool:
    """Whether a file is one of pictures, by its suffix."""
    return path.suffix.lower() in VIDEOS


def read_clips(paths: Sequence[str], account: Account, how: Listing = Listing()) -> list[Clip]:
    """The clips of files and folders, in order; what cannot be used is a fault in the account.

    Raises UserError where a path is missing, or holds no clips with tags. The clips are not opened.
    """
    found: list[Clip] = []
    for path in map(Path, paths):
        if not path.exists():
            beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
            raise UserError(f"no such file or folder: {path}{nearest(path.name, beside)}")
        found += list(_folder(path, account, how) if path.is_dir() else _table(path, account, how))
    return [_with_fields(clip, how) for clip in found]


def clips_in(folder: Path) -> list[Path]:
    """The videos of a folder and its folders, by name; where there are none the files of features."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    shown = sorted(
        file for file in files if not any(p.startswith(".") for p in file.relative_to(folder).parts)
    )
    videos = [file for file in shown if is_video(file)]
    return videos or [file for file in shown if file.suffix.lower() in FEATURES]


def with_stretches(clips: Sequence[Clip]) -> list[Clip]:
    """Rows that name parts of one file as one clip with stretches; whole clips as clips with one stretch a tag."""
    found: dict[Path, Clip] = {}
    for number, clip in enumerate(clips):
        own = clip.stretches or tuple(Stretch(label, clip.start, clip.end) for label in clip.labels)
        key = clip.path if clip.values is None else Path(str(number))
        first = found.get(key)
        if first is None:
            found[key] = clip._replace(stretches=own, start=0.0, end=None)
        else:
            found[key] = first._replace(stretches=(*first.stretches, *own))
    return [
        clip._replace(labels=tuple(dict.fromkeys(stretch.label for stretch in clip.stretches)))
        for clip in found.values()
    ]


def _with_fields(clip: Clip, how: Listing) -> Clip:
    """What the file's name says of the clip, beside what its table says."""
    if not how.pattern:
        return clip
    match = pattern_of(how.pattern).search(_bare(clip.path))
    return clip._replace(fields={**clip.fields, **(match.groupdict() if match else {})})


def _bare(path: Path) -> str:
    return path.with_suffix("").as_posix()


# Folders


def _folder(folder: Path, account: Account, how: Listing) -> Iterator[Clip]:
    form: str = how.form
    if form == "auto":
        form = next((name for name, (fits, _) in FORMS.items() if fits(folder, how)), "auto")
    if form not in FORMS:
        _refuse(folder)
    yield from FORMS[form][1](folder, account, how)


def _refuse(folder: Path) -> None:
    files = clips_in(folder)
    if not files:
        raise UserError(
            f"{folder} holds no clips ({', '.join(sorted(VIDEOS)[:6])}, ...; features: .npy, .csv, ...)"
        )
    raise UserError(
        f"{folder} holds {len(files):,} clips, the first {files[0].name}, and no tags: put them into a folder for each "
        f"class, give a table of them, or --pattern with what the parts of a name mean, such as "
        f"'{{label}}_{{subject}}_{{take}}'"
    )


def _label_field(how: Listing) -> str:
    """The field of the pattern that is the tag; empty where it has none."""
    words = (how.label,) if how.label else LABELS
    return next((word for word in words if f"{{{word}}}" in how.pattern), "")


def _is_named(folder: Path, how: Listing) -> bool:
    return bool(_label_field(how))


def _named(folder: Path, account: Account, how: Listing) -> Iterator[Clip]:
    pattern, field = pattern_of(how.pattern), _label_field(how)
    account.found.append(f"{folder}: tags in the names of the files, {how.pattern}")
    for path in clips_in(folder):
        account.read += 1
        match = pattern.search(_bare(path))
        if match is None:
            account.fault("name that does not fit the pattern", Place(str(path)))
        else:
            yield Clip(path, (match[field],), Place(str(path)))


def _has_classes(folder: Path, how: Listing) -> bool:
    return sum(bool(clips_in(home)) for home in _homes(folder)) > 1


def _homes(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _classes(folder: Path, account: Account, how: Listing) -> Iterator[Clip]:
    homes = _homes(folder)
    names = [home.name for home in homes if not home.name.startswith("_")]
    account.found.append(f"{folder}: a folder a class ({', '.join(names[:12])}{', ...' * (len(names) > 12)})")
    for home in homes:
        for path in clips_in(home):
            account.read += 1
            if home.name.startswith("_"):
                account.set_aside(f"clip in {home.name}, which is no class", Place(str(path)))
            else:
                yield Clip(path, (home.name,), Place(str(path)))


def _tables_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in TABLES and path.is_file())


def _has_table(folder: Path, how: Listing) -> bool:
    return any(_lists_clips(path, how) for path in _tables_in(folder)[:SAMPLE])


def _lists_clips(path: Path, how: Listing) -> bool:
    try:
        table = _read(path, Account(), how)
        return bool(_file_column(table, path, how))
    except UserError:
        return False


def _of_tables(folder: Path, account: Account, how: Listing) -> Iterator[Clip]:
    for path in _tables_in(folder):
        if how.form == "table" or _lists_clips(path, how):
            yield from _table(path, account, how)


Fits = Callable[[Path, Listing], bool]
Reader = Callable[[Path, Account, Listing], Iterator[Clip]]


# Tables


def _read(path: Path, account: Account, how: Listing) -> Table:
    text = decode(read_bytes(path), str(path), how.encoding).text
    table = read_table(str(path), text, account)
    if table is None or not table.rows:
        raise UserError(f"{path} is no table of clips: it needs a column of file names, and one of tags")
    return table


def _table(path: Path, account: Account, how: Listing) -> Iterator[Clip]:
    if path.suffix.lower() not in TABLES:
        raise UserError(f"{path} is one clip; give a table of clips with their tags, or a folder")
    own = Account(account.unit)
    table = _read(path, own, how)
    if how.form == "frames" or (
        how.form == "auto" and not _file_column(table, path, how) and is_of_frames(table)
    ):
        chosen = Chosen(how.clip_column, how.label_columns, how.feature_columns)
        # Clips are counted here, and of the rows those that are lost.
        account.read += own.read - own.used
        for reason, at in own.faults.items():
            account.faults.setdefault(reason, []).extend(at)
        for reason, at in own.aside.items():
            account.aside.setdefault(reason, []).extend(at)
        yield from _of_frames(table, path, account, chosen, how)
        return
    account.merge(own)
    yield from _listed(table, path, account, how)


def _listed(table: Table, path: Path, account: Account, how: Listing) -> Iterator[Clip]:
    plain = _plain(table)
    files = _file_column(table, path, how)
    if not files:
        raise UserError(
            f"{path} has no column of clips that could be found; its columns are {', '.join(table.columns[:20])}: name "
            f"it by --clip-column, and see that the files lie beside the table"
        )
    labels = _label_columns(table, path, files, how)
    start = next((plain[word] for word in STARTS if word in plain), "")
    end = next((plain[word] for word in ENDS if word in plain), "") if start else ""
    separator = _separator(table, labels, how)
    several = f", several of a cell apart by {separator!r}" if separator else ""
    part = f", from {start!r} to {end or 'the end'!r}" if start else ""
    account.found.append(
        f"{path}: {table.found}; clips in column {files!r}{part}, tags in {', '.join(map(repr, labels))}{several}"
    )
    for row in table.rows:
        where = located(str(row.values.get(files) or ""), path.parent)
        if where is None:
            account.fault("no such clip", row.place)
            continue
        found = _labels_of(row, labels, separator)
        times = _time(row, start), _time(row, end)
        if isinstance(found, str):
            account.fault(found, row.place)
        elif (start and times[0] is None) or (times[1] is not None and times[1] <= (times[0] or 0.0)):
            account.fault("times that are none", row.place)
        else:
            fields = {name: str(value) for name, value in row.values.items() if value is not None}
            yield Clip(where, found, row.place, times[0] or 0.0, times[1], (), fields)


def _plain(table: Table) -> dict[str, str]:
    return {re.sub(r"[\W_]+", "", column).lower(): column for column in reversed(table.columns)}


def _column(word: str, table: Table, path: Path, flag: str) -> str:
    if word in table.columns:
        return word
    if word.isdecimal() and 0 < int(word) <= len(table.columns):
        return table.columns[int(word) - 1]
    hint = nearest(word, table.columns) or f"; its columns are {', '.join(table.columns[:20])}"
    raise UserError(f"{flag} {word}: {path} has no such column{hint}")


def _file_column(table: Table, path: Path, how: Listing) -> str:
    """The first column by name whose cells name clips, or look so; else any such column."""
    if how.clip_column:
        return _column(how.clip_column, table, path, "--clip-column")
    plain = _plain(table)
    named = [plain[word] for word in FILES if word in plain]
    for column in dict.fromkeys([*named, *table.columns]):
        cells = [str(row.values.get(column, "")) for row in table.rows[:SAMPLE]]
        if any(located(cell, path.parent) or Path(cell).suffix.lower() in VIDEOS for cell in cells if cell):
            return column
    return ""


def _label_columns(table: Table, path: Path, files: str, how: Listing) -> tuple[str, ...]:
    if how.label_columns:
        return tuple(_column(word, table, path, "--label-column") for word in how.label_columns)
    plain = _plain(table)
    words = (re.sub(r"[\W_]+", "", how.label).lower(),) if how.label else LABELS
    found = next((plain[word] for word in words if word in plain and plain[word] != files), "")
    others = [column for column in table.columns if column != files]
    if not found and len(others) == 1:
        found = others[0]
    if not found:
        raise UserError(
            f"{path} has no column of tags that could be found; its columns are {', '.join(table.columns[:20])}: name "
            f"it by --label-column"
        )
    return (found,)


def _separator(table: Table, labels: Sequence[str], how: Listing) -> str:
    if how.separator == "none" or len(labels) > 1:
        return ""
    if how.separator != "auto":
        return how.separator
    cells = [str(row.values.get(labels[0]) or "") for row in table.rows]
    return next((sign for sign in SEPARATORS if any(sign in cell for cell in cells)), "")


def _labels_of(row: TableRow, columns: Sequence[str], separator: str) -> tuple[str, ...] | str:
    """The tags of a row, of which there may be none where there may be several; or what is wrong with it."""
    if len(columns) > 1:
        cells = {name: str(row.values.get(name, "")).strip().lower() for name in columns}
        wrong = [cell for cell in cells.values() if cell not in {"0", "1", "0.0", "1.0", "true", "false", ""}]
        return (
            "tag that is neither 0 nor 1"
            if wrong
            else tuple(n for n, c in cells.items() if c in {"1", "1.0", "true"})
        )
    cell = row.values.get(columns[0])
    if isinstance(cell, list):
        return tuple(str(entry) for entry in cell)
    words = [word.strip() for word in (str(cell or "").split(separator) if separator else [str(cell or "")])]
    found = tuple(dict.fromkeys(word for word in words if word))
    return found if found or separator else "empty tag"


def _time(row: TableRow, column: str) -> float | None:
    """Seconds: a number, or hours, minutes and seconds with colons between them."""
    try:
        total = 0.0
        for part in str(row.values.get(column, "")).split(":"):
            total = 60 * total + float(part)
    except ValueError:
        return None
    return total if column and math.isfinite(total) and total >= 0 else None


def located(name: str, folder: Path) -> Path | None:
    """The file that a name means: as it stands, in the folder or one of its usual folders, with or without a suffix."""
    if not name.strip():
        return None
    given = Path(name.strip())
    for path in [given] if given.is_absolute() else [folder / home / given for home in HOMES]:
        if path.is_file():
            return path
        if path.suffix.lower() not in VIDEOS | FEATURES:
            for suffix in (".mp4", ".avi", ".mkv", ".webm", ".mov", ".gif", ".npy", ".npz", ".skeleton"):
                if (whole := path.with_name(path.name + suffix)).is_file():
                    return whole
    return None


def _of_frames(table: Table, path: Path, account: Account, chosen: Chosen, how: Listing) -> Iterator[Clip]:
    found = clips_of_frames(table, path, chosen, how.label)
    account.found.append(f"{path}: {table.found}; {found.words}")
    for one in found.clips:
        account.read += 1
        if one.fault:
            account.fault(one.fault, one.place)
            continue
        own = tuple(dict.fromkeys(label for label, _, _ in one.stretches if label))
        parts = tuple(Stretch(label, a / how.rate, b / how.rate) for label, a, b in one.stretches if label)
        whole = len(one.stretches) == 1
        name = Path(one.name)
        yield Clip(
            name, own, one.place, stretches=() if whole else parts, fields=one.fields, values=one.values
        )


# In the order in which a folder is asked.
FORMS: dict[str, tuple[Fits, Reader]] = {
    "names": (_is_named, _named),
    "table": (_has_table, _of_tables),
    "folders": (_has_classes, _classes),
}
