"""Pictures with what is said about them, from tables, corpora and folders as people have them.

A file or a folder is recognized by what it holds; what was recognized stands in the account; `Listing` overrides it.
A picture leaves with all of its captions: two rows about one file are one picture.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

from elman.config import UserError, nearest
from elman.data.account import Account, Place
from elman.data.caption_files import Said, read_caption_file
from elman.data.encoding import decode, read_bytes
from elman.data.pictures import SUFFIXES, pictures_in

__all__ = ["Captioned", "Form", "Listing", "captions_in", "read_captions"]

Form = Literal["auto", "table", "lines", "coco", "karpathy", "sidecar", "names"]
TABLES = frozenset({".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".txt", ".token"})
NOT_DATA = re.compile(r"(?i)(readme|licen[cs]e|changelog|copying)\b")
PARTS = {"train": "train", "restval": "train", "training": "train", "valid": "valid", "val": "valid"}
PARTS |= {"validation": "valid", "dev": "valid", "test": "test", "testing": "test"}
NOTHING: Mapping[str, str] = MappingProxyType({})


class Captioned(NamedTuple):
    """A picture with its captions, in order.

    place: of the first of them. part: what the data call its part (train, valid, test), or nothing. fields: all else
    that is known of it by name: columns of its table.
    """

    path: Path
    captions: tuple[str, ...]
    place: Place
    part: str = ""
    fields: Mapping[str, str] = NOTHING


@dataclass(frozen=True)
class Listing:
    """How captions are to be found; each default finds out.

    pictures: the folder in which the files lie that captions name. picture_column, caption_columns: of tables, by name
    or number from 1.
    """

    form: Form = "auto"
    pictures: str = ""
    picture_column: str = ""
    caption_columns: tuple[str, ...] = ()
    encoding: str = "auto"


def read_captions(paths: Sequence[str], account: Account, how: Listing = Listing()) -> list[Captioned]:
    """The pictures of files and folders with their captions, in order; what cannot be used is a fault in the account.

    Raises UserError where a path is missing, or holds no pictures with captions. The pictures are not opened.
    """
    found = _Gathered()
    for path in map(Path, paths):
        if not path.exists():
            beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
            raise UserError(f"no such file or folder: {path}{nearest(path.name, beside)}")
        if path.is_dir():
            _folder(path, account, how, found)
        else:
            _file(path, account, how, found)
    return found.pictures()


class _Gathered:
    """Captions by the picture that they are about."""

    def __init__(self) -> None:
        self._known: dict[Path, Captioned] = {}

    def add(self, path: Path, said: Said) -> None:
        key = path.resolve()
        before = self._known.get(key)
        if before is None:
            self._known[key] = Captioned(path, (said.caption,), said.place, said.part, said.fields)
        else:
            self._known[key] = before._replace(captions=(*before.captions, said.caption))

    def pictures(self) -> list[Captioned]:
        return list(self._known.values())


@dataclass
class _Homes:
    """Where the files lie that a list names: the folder that is given, or those around the list."""

    folders: list[Path]
    missing: int = 0
    known: dict[str, Path | None] = field(default_factory=dict)

    @classmethod
    def around(cls, file: Path, how: Listing) -> _Homes:
        if how.pictures:
            home = Path(how.pictures)
            if not home.is_dir():
                raise UserError(f"--pictures {home}: no such folder")
            return cls([home, *_inner(home)])
        here = file.parent
        return cls([here, *_inner(here), here.parent, *_inner(here.parent)])

    def __call__(self, name: str) -> Path | None:
        """The file that a name means, with or without its ending; None where there is none."""
        if name not in self.known:
            self.known[name] = self._located(name.strip().replace("\\", "/"))
        return self.known[name]

    def _located(self, name: str) -> Path | None:
        if not name:
            return None
        names = [name] if Path(name).suffix.lower() in SUFFIXES else [name, *(name + s for s in USUAL)]
        homes = [Path()] if Path(name).is_absolute() else self.folders
        return next((home / one for home in homes for one in names if (home / one).is_file()), None)


# The endings that are tried where a name has none.
USUAL = (".jpg", ".png", ".jpeg", ".webp", ".gif", ".JPG", ".PNG")


def _inner(folder: Path) -> list[Path]:
    """The folders in a folder, but for hidden ones."""
    try:
        inside = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError:
        return []
    return [entry for entry in inside if entry.is_dir()]


# Folders


def _folder(folder: Path, account: Account, how: Listing, found: _Gathered) -> None:
    lists = captions_in(folder) if how.form not in {"sidecar", "names"} else []
    if lists:
        for path in lists:
            _file(path, account, how, found)
        return
    pictures = pictures_in(folder)
    if not pictures:
        raise UserError(
            f"{folder} holds neither a table of captions nor pictures ({', '.join(USUAL[:5])}, ...)"
        )
    if how.form == "names":
        account.found.append(f"{folder}: captions in the names of the pictures")
        for path in pictures:
            account.read += 1
            caption = " ".join(re.split(r"[\s_-]+", path.stem)).strip()
            found.add(path, Said(str(path), caption, Place(str(path))))
        return
    if not any(path.with_suffix(".txt").is_file() for path in pictures):
        raise UserError(
            f"{folder} holds {len(pictures):,} pictures, the first {pictures[0].name}, and no captions: give a table "
            f"of them, a text file beside each, or --form names where the names say what is seen"
        )
    account.found.append(f"{folder}: a text file beside each picture, a caption a line")
    for path in pictures:
        _sidecar(path, account, how, found)


def captions_in(folder: Path) -> list[Path]:
    """The tables in a folder; a text file that lies beside its own picture is none."""
    inside = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    names = {entry.stem for entry in inside if entry.suffix.lower() in SUFFIXES}
    return [
        entry
        for entry in inside
        if entry.is_file()
        and entry.suffix.lower() in TABLES
        and not NOT_DATA.match(entry.name)
        and entry.stem not in names
    ]


def _sidecar(path: Path, account: Account, how: Listing, found: _Gathered) -> None:
    beside = path.with_suffix(".txt")
    if not beside.is_file():
        account.read += 1
        account.fault("picture without a caption", Place(str(path)))
        return
    text = decode(read_bytes(beside), str(beside), how.encoding).text
    lines = [(number, " ".join(line.split())) for number, line in enumerate(text.split("\n"), 1)]
    written = [(number, line) for number, line in lines if line]
    account.read += max(1, len(written))
    if not written:
        account.fault("empty caption", Place(str(beside)))
    for number, line in written:
        found.add(path, Said(str(path), line, Place(str(beside), number)))


# Files


def _file(path: Path, account: Account, how: Listing, found: _Gathered) -> None:
    homes = _Homes.around(path, how)
    decoded = decode(read_bytes(path), str(path), how.encoding)
    if decoded.odd:
        account.remark("lines in cp1252, not UTF-8", [Place(str(path), line) for line in decoded.odd])
    if not decoded.text.strip():
        raise UserError(f"{path} is empty")
    form = how.form if how.form not in {"sidecar", "names"} else "auto"
    chosen = (how.picture_column, *how.caption_columns)
    rows = 0
    for said in _usable(read_caption_file(path, decoded.text, account, form, chosen, homes), account):
        rows += 1
        picture = homes(said.picture)
        if picture is None:
            account.fault("no such picture", said.place)
            homes.missing += 1
        else:
            found.add(picture, said)
    if rows and homes.missing == rows:
        where = ", ".join(str(folder) for folder in homes.folders[:3])
        raise UserError(
            f"{path}: none of the pictures that it names was found in {where}, ...; name their folder by --pictures"
        )


def _usable(rows: Iterator[Said], account: Account) -> Iterator[Said]:
    for said in rows:
        caption = " ".join(said.caption.split())
        if not said.picture.strip():
            account.fault("no picture named", said.place)
        elif not caption:
            account.fault("empty caption", said.place)
        else:
            yield said._replace(caption=caption, part=PARTS.get(said.part.lower(), ""))
