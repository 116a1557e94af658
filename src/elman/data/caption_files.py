"""Files that say what pictures show: lines of names and captions, COCO's and Karpathy's JSON, tables."""

from __future__ import annotations

import ast
import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from elman.config import UserError, nearest
from elman.data.account import Account, Place
from elman.data.encoding import lines_of
from elman.data.pictures import SUFFIXES
from elman.data.table import Given, Table, read_table

__all__ = ["Said", "read_caption_file"]

NOTHING: Mapping[str, str] = MappingProxyType({})
# The file that a name means, if there is one.
Locate = Callable[[str], Path | None]

_PICTURES = """
picture image imagefile imagename imagepath imageid img imgpath filename file filepath path photo name id
"""
_CAPTIONS = """
caption captions sentence sentences text texts description descriptions comment raw title alttext alt utterance label
"""
PICTURES, CAPTIONS = (tuple(words.split()) for words in (_PICTURES, _CAPTIONS))
SAMPLE = 200
# A name, perhaps with the number of its caption, then what sets it apart from the caption.
_ENDINGS = "|".join(suffix[1:] for suffix in sorted(SUFFIXES, key=len, reverse=True))
_LINE = re.compile(rf"(?i)\s*(?P<name>[^\t|]*?\.(?:{_ENDINGS}))(?:#\w+)?\s*(?P<sign>[\t,|;])\s*(?P<rest>.*)")
_NUMBERED = re.compile(rf"(?i)\S+\.(?:{_ENDINGS})#\d+\s")


class Said(NamedTuple):
    """A caption: the picture's name as it is written, the words, and where they stand."""

    picture: str
    caption: str
    place: Place
    part: str = ""
    fields: Mapping[str, str] = NOTHING


def read_caption_file(
    path: Path, text: str, account: Account, form: str, chosen: Sequence[str], locate: Locate
) -> Iterator[Said]:
    """The captions of a file, each counted as read. chosen: the columns of the picture and of the captions, if named.

    Raises UserError where it is not what `form` says, or, with "auto", nothing that is known.
    """
    if form in {"auto", "coco", "karpathy"} and text.lstrip().startswith("{"):
        found = _corpus(path, text, account, form)
        if found is not None:
            yield from found
            return
    if form in {"coco", "karpathy"}:
        raise UserError(f"{path} is not JSON of the form {form}")
    if form == "lines" or (form == "auto" and _is_numbered(text)):
        yield from _lines(path, text, account)
        return
    own = Account()
    table = read_table(str(path), text, own, Given())
    broken = table is None or own.bad > 0.01 * max(own.read, 1)
    if form == "auto" and broken and not any(chosen) and _is_lines(text):
        yield from _lines(path, text, account)
        return
    if table is None or not table.rows:
        raise UserError(
            f"{path} is no table of captions: it needs a column of pictures' files, and one of captions"
        )
    account.merge(own)
    yield from _table(path, table, account, chosen, locate)


# Lines


def _sampled(text: str) -> list[str]:
    return [line for line in lines_of(text[:200_000]) if line.strip()][:SAMPLE]


def _is_numbered(text: str) -> bool:
    """`name.jpg#0`, a tab, a caption: the form of Flickr's token.txt."""
    lines = _sampled(text)
    return sum(bool(_NUMBERED.match(line)) for line in lines) > 0.9 * len(lines)


def _is_lines(text: str) -> bool:
    lines = _sampled(text)[1:]
    return bool(lines) and sum(bool(_LINE.match(line)) for line in lines) > 0.9 * len(lines)


def _lines(path: Path, text: str, account: Account) -> Iterator[Said]:
    """A name, a sign, and all that follows is the caption; a first line that is none names the columns."""
    account.found.append(f"{path}: a picture's name and a caption a line")
    for number, line in enumerate(lines_of(text), 1):
        match = _LINE.match(line)
        if match is None and number == 1 and not re.search(r"\.\w{2,5}\b", line):
            continue
        account.read += 1
        place = Place(str(path), number)
        if not line.strip():
            account.set_aside("blank line", place)
        elif match is None:
            account.fault("line without a picture's name", place)
        else:
            yield Said(match["name"].strip(), _unquoted(match["rest"], match["sign"]), place)


def _unquoted(rest: str, sign: str) -> str:
    """The caption, behind its number where it has one (Flickr30k's results.csv), its quotes taken off."""
    rest = re.sub(rf"^\d+\s*\{sign}\s*", "", rest) if sign == "|" else rest
    if rest.startswith('"') and rest.rstrip().endswith('"') and len(rest) > 1:
        return next(csv.reader([rest.strip()]), [rest])[0] if sign != "|" else rest.strip()[1:-1]
    return rest


# Corpora


def _corpus(path: Path, text: str, account: Account, form: str) -> list[Said] | None:
    """COCO's or Karpathy's JSON, or names with their captions; None where it is something else."""
    try:
        saved = json.loads(text)
    except (ValueError, RecursionError):
        return None
    images = saved.get("images")
    if isinstance(images, list) and isinstance(saved.get("annotations"), list) and form != "karpathy":
        account.found.append(f"{path}: COCO, {len(images):,} pictures")
        return list(_coco(path, saved, account))
    if isinstance(images, list) and any("sentences" in one for one in images[:1]) and form != "coco":
        account.found.append(f"{path}: Karpathy's JSON, {len(images):,} pictures")
        return list(_karpathy(path, images, account))
    if form == "auto" and saved and all(Path(name).suffix.lower() in SUFFIXES for name in saved):
        account.found.append(f"{path}: captions by the names of the pictures")
        return list(_named(path, saved, account))
    return None


def _coco(path: Path, saved: Mapping[str, Any], account: Account) -> Iterator[Said]:
    names = {image.get("id"): str(image.get("file_name", "")) for image in saved["images"]}
    for entry in saved["annotations"]:
        account.read += 1
        place = Place(f"{path}#{entry.get('id', '?')}")
        if entry.get("image_id") not in names:
            account.fault("caption of a picture that is not listed", place)
        else:
            yield Said(names[entry["image_id"]], str(entry.get("caption") or ""), place)


def _karpathy(path: Path, images: Sequence[Mapping[str, Any]], account: Account) -> Iterator[Said]:
    for number, image in enumerate(images):
        folder, name = str(image.get("filepath") or ""), str(image.get("filename") or "")
        for sentence in image.get("sentences") or ():
            account.read += 1
            caption = sentence.get("raw") or " ".join(sentence.get("tokens") or ())
            place = Place(f"{path}#{sentence.get('sentid', number)}")
            yield Said(f"{folder}/{name}" if folder else name, caption, place, str(image.get("split") or ""))


def _named(path: Path, saved: Mapping[str, Any], account: Account) -> Iterator[Said]:
    for name, captions in saved.items():
        for caption in captions if isinstance(captions, list) else [captions]:
            account.read += 1
            yield Said(name, str(caption or ""), Place(f"{path}#{name}"))


# Tables


def _table(
    path: Path, table: Table, account: Account, chosen: Sequence[str], locate: Locate
) -> Iterator[Said]:
    picture, captions = _columns(path, table, chosen, locate)
    shown = ", ".join(map(repr, captions[:5]))
    account.found.append(f"{path}: {table.found}; pictures in column {picture!r}, captions in {shown}")
    for row in table.rows:
        fields = {name: str(value) for name, value in row.values.items() if value is not None}
        cells = [caption for name in captions for caption in _captions(row.values.get(name))]
        # A row is counted already; each further caption of it is one more.
        account.read += max(0, len(cells) - 1)
        for caption in cells or [""]:
            yield Said(fields.get(picture, ""), caption, row.place, fields.get("split", ""), fields)


def _captions(cell: Any) -> list[str]:
    """The captions in a cell: a text, or a list as JSON or Python writes it."""
    if isinstance(cell, str) and re.match(r"\s*\[.*\]\s*$", cell, re.DOTALL):
        for read in (json.loads, ast.literal_eval):
            try:
                cell = read(cell)
                break
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
    if isinstance(cell, dict):
        cell = cell.get("raw") or cell.get("caption") or ""
    if isinstance(cell, list):
        return [caption for one in cell for caption in _captions(one)]
    return [] if cell is None or not str(cell).strip() else [str(cell)]


def _columns(path: Path, table: Table, chosen: Sequence[str], locate: Locate) -> tuple[str, tuple[str, ...]]:
    plain = {re.sub(r"[\W_]+", "", column).lower(): column for column in reversed(table.columns)}
    picture = _column(chosen[0], path, table, "--picture-column") or _pictures(table, plain, locate)
    captions = tuple(_column(word, path, table, "--caption-column") for word in chosen[1:] if word)
    captions = captions or _texts(table, plain, picture)
    if not picture or not captions:
        what, flag = ("pictures", "--picture-column") if not picture else ("captions", "--caption-column")
        raise UserError(
            f"{path} has no column of {what} that could be found; its columns are "
            f"{', '.join(table.columns[:20])}: name it by {flag}"
        )
    return picture, captions


def _column(word: str, path: Path, table: Table, flag: str) -> str:
    if not word or word in table.columns:
        return word
    if word.isdecimal() and 0 < int(word) <= len(table.columns):
        return table.columns[int(word) - 1]
    hint = nearest(word, table.columns) or f"; its columns are {', '.join(table.columns[:20])}"
    raise UserError(f"{flag} {word}: {path} has no such column{hint}")


def _pictures(table: Table, plain: Mapping[str, str], locate: Locate) -> str:
    """The first column by name whose cells name files, or look so; else any such column."""
    named = [plain[word] for word in PICTURES if word in plain]
    for column in [*named, *table.columns]:
        cells = [str(row.values.get(column) or "") for row in table.rows[:20]]
        if any(Path(cell).suffix.lower() in SUFFIXES or locate(cell) for cell in cells if cell):
            return column
    return ""


def _texts(table: Table, plain: Mapping[str, str], picture: str) -> tuple[str, ...]:
    """The column of captions; all of them where they are numbered (caption_0, caption_1, ...)."""
    others = [column for column in table.columns if column != picture]
    for word in CAPTIONS:
        if plain.get(word) in others:
            return (plain[word],)
        numbered = [
            column for column in others if re.fullmatch(rf"{word}\d+", re.sub(r"[\W_]+", "", column).lower())
        ]
        if numbered:
            return tuple(numbered)

    def size(column: str) -> int:
        cells = [row.values.get(column) for row in table.rows[:1000]]
        return sum(len(str(cell)) for cell in cells if isinstance(cell, str | list))

    largest = max(others, key=size, default="")
    return (largest,) if largest and size(largest) else ()
