"""Labelled texts with their places, from tables, JSON, fastText, trees, folders and aligned files.

A file or a folder is recognized by what it holds, not by its name; what was recognized stands in the account.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

from elman.data.account import Account, Place
from elman.data.columns import Chosen, Roles, cell_labels, find_roles, is_flag
from elman.data.encoding import decode, lines_of, read_bytes
from elman.data.table import Given, Table, TableRow, read_table
from elman.data.trees import SENTIMENTS, is_tree, parse_tree
from elman.errors import UserError, nearest

__all__ = ["LABEL_FILES", "Example", "Form", "Reading", "class_of", "parts_of", "read_labelled", "read_names"]

Form = Literal["auto", "table", "fasttext", "trees", "lines"]
Part = Literal["train", "valid", "test"]

PREFIX = "__label__"
_FASTTEXT = re.compile(rf"(?:(?<=\s)|^){PREFIX}(\S+)(?:\s|$)")
PARTS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
}
# Files that name the labels, one a line, beside the data.
LABEL_FILES = ("labels.txt", "label_names.txt", "classes.txt", "class_names.txt")
# Files that lie beside data and are none.
NOT_DATA = re.compile(
    r"(?i)(readme|licen[cs]e|changelog|copying)\b|.*\.(md|py|sh|zip|gz|png|jpg|pdf|toml|yaml|yml)$"
)


class Example(NamedTuple):
    """A text with its labels and its place; group: what it must not be parted from; time: by which it is ordered.

    phrase: a part of a sentence, for training only. listed: its labels came as a list, so none at all is an answer.
    """

    text: str
    labels: tuple[str, ...]
    place: Place
    group: str = ""
    time: str = ""
    phrase: bool = False
    listed: bool = False


@dataclass(frozen=True)
class Reading:
    """How files are to be read; each default finds out.

    roles: which columns of a table are text and labels, by the names of all its columns. What is found is put there, so
    that the parts of one data set are read alike; None keeps nothing.
    """

    form: Form = "auto"
    encoding: str = "auto"
    given: Given = field(default_factory=Given)
    chosen: Chosen = field(default_factory=Chosen)
    group: str = ""
    time: str = ""
    glob: str = "**/*"
    phrases: bool = True
    roles: dict[tuple[str, ...], Roles] | None = None


def read_labelled(
    paths: Sequence[str], account: Account, how: Reading = Reading(), *, labels: Sequence[str] = ()
) -> list[Example]:
    """The examples of files and folders, in order. labels: files whose lines are the labels of the lines of `paths`.

    Faults go into the account: rows without text or label, broken rows. Raises UserError where a file cannot be read.
    """
    if labels:
        return _aligned(paths, labels, account, how)
    found: list[Example] = []
    for path in map(Path, paths):
        _check(path)
        reader = read_folder if path.is_dir() else read_file
        found += reader(path, account, how)
    return found


def _check(path: Path) -> None:
    if not path.exists():
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = nearest(path.name, beside, form=str(path.parent / "{}"))
        raise UserError(f"no such file or folder: {path}{hint}")


def _text_of(path: Path, account: Account, how: Reading) -> str:
    decoded = decode(read_bytes(path), str(path), how.encoding)
    if decoded.odd:
        account.remark("lines in cp1252, not UTF-8", [Place(str(path), line) for line in decoded.odd])
    if decoded.encoding not in {"utf-8", "utf-8 and cp1252"}:
        account.found.append(f"{path}: {decoded.encoding}")
    return decoded.text


# Files


def read_file(path: Path, account: Account, how: Reading, part_of: str = "") -> list[Example]:
    """The examples of one file. part_of: the class that all its lines have, for a file named by a class."""
    name, text = str(path), _text_of(path, account, how)
    if not text.strip():
        raise UserError(f"{path} is empty")
    form = recognize(text) if how.form == "auto" else how.form
    if form == "lines" and part_of:
        account.found.append(f"{path}: a text a line, all of them {part_of!r}")
        return list(_lines(name, text, account, (part_of,)))
    if form == "fasttext":
        account.found.append(f"{path}: fastText, labels behind {PREFIX}")
        return list(_fasttext(name, text, account))
    if form == "trees":
        return list(_trees(name, text, account, phrases=how.phrases))
    before = account.read
    table = read_table(name, text, account, how.given)
    if table is None:
        raise UserError(
            f"{path} is neither a table, JSON, fastText nor trees: it has no labels; give the labels of its "
            f"lines by --labels-from, or its delimiter by --delimiter"
        )
    return _rows(name, table, account, how, before)


def recognize(text: str) -> Form:
    """Trees, fastText, or else a table."""
    first = [line for line in lines_of(text[: 1 << 18]) if line.strip()][:100]
    if len(text) > 1 << 18 and len(first) > 1:
        first.pop()
    for form, test in (("trees", is_tree), ("fasttext", lambda line: bool(_FASTTEXT.search(line)))):
        tests: Callable[[str], bool] = test
        if first and sum(map(tests, first)) > 0.5 * len(first):
            return "trees" if form == "trees" else "fasttext"
    return "table"


def _lines(name: str, text: str, account: Account, labels: tuple[str, ...]) -> Iterator[Example]:
    for number, line in enumerate(lines_of(text), 1):
        account.read += 1
        place = Place(name, number)
        if line.strip():
            yield Example(line, labels, place)
        else:
            account.set_aside("blank line", place)


def _fasttext(name: str, text: str, account: Account) -> Iterator[Example]:
    for number, line in enumerate(lines_of(text), 1):
        account.read += 1
        place, labels = Place(name, number), _FASTTEXT.findall(line)
        rest = _FASTTEXT.sub("", line).strip()
        if not line.strip():
            account.set_aside("blank line", place)
        elif not labels:
            account.fault("no label", place)
        elif not rest:
            account.fault("empty text", place)
        else:
            yield Example(rest, tuple(dict.fromkeys(labels)), place)


def _trees(name: str, text: str, account: Account, *, phrases: bool) -> Iterator[Example]:
    sentences = inside = 0
    for number, line in enumerate(lines_of(text), 1):
        place = Place(name, number)
        tree = parse_tree(line) if line.strip() else None
        if tree is None:
            account.read += 1
            table = account.fault if line.strip() else account.set_aside
            table("broken tree" if line.strip() else "blank line", place)
            continue
        kept = tree if phrases else tree[:1]
        account.read += len(kept)
        sentences, inside = sentences + 1, inside + len(tree) - 1
        for at, phrase in enumerate(kept):
            yield Example(phrase.text, (_sentiment(phrase.label),), place, group=str(place), phrase=at > 0)
    use = "read, for training" if phrases else "not read: they are for training only"
    account.found.append(f"{name}: trees, {sentences:,} sentences; the {inside:,} phrases in them are {use}")


def _sentiment(label: str) -> str:
    return SENTIMENTS[int(label)] if label in {"0", "1", "2", "3", "4"} else label


# Tables


def _rows(name: str, table: Table, account: Account, how: Reading, before: int) -> list[Example]:
    """before: how many rows were read when this table was not."""
    if not table.rows:
        if table.named and account.read == before:
            raise UserError(f"{name} has a header ({', '.join(table.columns[:20])}) and no row below it")
        return []
    kept = {} if how.roles is None else how.roles
    if table.columns not in kept:
        kept[table.columns] = find_roles(table, name, how.chosen)
    roles = kept[table.columns]
    account.found.append(f"{name}: {table.found}; {roles}")
    found = [_example(row, roles, account, how) for row in table.rows]
    return [example for example in found if example is not None]


def _example(row: TableRow, roles: Roles, account: Account, how: Reading) -> Example | None:
    text = row.values.get(roles.text)
    if not isinstance(text, str) or not text.strip():
        empty = text is None or isinstance(text, str) or str(text) == "nan"
        account.fault("empty text" if empty else "text that is no text", row.place)
        return None
    labels, listed = _labels(row, roles)
    if labels is None:
        account.fault("label that is neither 0 nor 1" if roles.one_hot else "empty label", row.place)
        return None
    group, time = (_cell(row, name) for name in (how.group, how.time))
    return Example(text, tuple(dict.fromkeys(labels)), row.place, group, time, listed=listed)


def _labels(row: TableRow, roles: Roles) -> tuple[list[str] | None, bool]:
    """The labels of a row, and whether none at all would be an answer."""
    if not roles.one_hot:
        cell = row.values.get(roles.labels[0])
        labels = cell_labels(cell, roles.separator)
        listed = isinstance(cell, list | dict) or (isinstance(cell, str) and cell.strip().startswith("["))
        return (None if labels == [] and not listed else labels), listed
    cells = {column: row.values.get(column) for column in roles.labels}
    if not all(map(is_flag, cells.values())):
        return None, True
    return [column for column, cell in cells.items() if _true(cell)], True


def _true(cell: object) -> bool:
    return str(cell).strip().lower() in {"1", "1.0", "true"}


def _cell(row: TableRow, name: str) -> str:
    if not name:
        return ""
    if name not in row.values:
        raise UserError(f"{row.place} has no column {name!r}; its columns are {', '.join(row.values)}")
    return str(row.values[name])


# Aligned files


def _aligned(paths: Sequence[str], labels: Sequence[str], account: Account, how: Reading) -> list[Example]:
    if len(paths) != len(labels):
        raise UserError(f"{len(labels)} files of labels for {len(paths)} files of texts: give one for each")
    found: list[Example] = []
    for text_path, label_path in zip(map(Path, paths), map(Path, labels), strict=True):
        _check(text_path)
        _check(label_path)
        texts, answers = (lines_of(_text_of(path, account, how)) for path in (text_path, label_path))
        if len(texts) != len(answers):
            raise UserError(
                f"{text_path} has {len(texts):,} lines, {label_path} has {len(answers):,}: line by line they belong "
                f"together, so mend the file that lost or won lines"
            )
        account.found.append(f"{text_path}: a text a line, its labels in {label_path}")
        for number, (text, answer) in enumerate(zip(texts, answers, strict=True), 1):
            account.read += 1
            place = Place(str(text_path), number)
            separator = "" if how.chosen.separator in {"auto", "none"} else how.chosen.separator
            own = cell_labels(answer.replace(PREFIX, ""), separator)
            if not text.strip():
                account.fault("empty text", place)
            elif own is None:
                account.fault("empty label", place)
            else:
                found.append(Example(text, tuple(dict.fromkeys(own)), place))
    return found


# Folders


def parts_of(folder: Path) -> dict[str, list[Path]]:
    """The files or folders called train, valid (val, dev, validation) and test; empty where none is called train."""
    parts: dict[str, list[Path]] = {}
    for path in _inside(folder):
        word = re.split(r"[._-]", path.name.lower())[0]
        if word in PARTS:
            parts.setdefault(PARTS[word], []).append(path)
    return parts if "train" in parts else {}


def _inside(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if not path.name.startswith(".") and not NOT_DATA.match(path.name)
    )


def read_folder(folder: Path, account: Account, how: Reading) -> list[Example]:
    """The examples of a folder: a folder a class with a text a file, or files of rows, or a file a class.

    A class may have folders inside. Files that are passed over (hidden ones, READMEs, names of labels) are no data.
    """
    inside = [path for path in _inside(folder) if path.name not in LABEL_FILES]
    folders = [path for path in inside if path.is_dir()]
    files = [path for path in inside if path.is_file()]
    if len(folders) > 1:
        return _class_folders(folder, folders, files, account, how)
    if not files and folders:
        return read_folder(folders[0], account, how)
    if not files:
        raise UserError(f"{folder} holds no files to read")
    return [
        example
        for path in files
        for example in read_file(path, account, _of_class(path, how), part_of=class_of(path))
    ]


def class_of(path: Path) -> str:
    """The class that a file's name says: `pos` for `pos.txt` and for `rt-polarity.pos`."""
    plain = path.suffix.lower() in {"", ".txt", ".text", ".lst"}
    return path.stem if plain else path.suffix.removeprefix(".")


def _of_class(path: Path, how: Reading) -> Reading:
    """Lines of text where a file of a folder is no table and has no labels inside."""
    if how.form != "auto":
        return how
    text = decode(read_bytes(path), str(path), how.encoding).text
    if recognize(text) != "table":
        return how
    table = read_table(str(path), text, Account(), how.given)
    if table is not None and (table.named or (len(table.columns) > 1 and _has_roles(table, how))):
        return how
    return replace(how, form="lines")


def _has_roles(table: Table, how: Reading) -> bool:
    try:
        roles = find_roles(table, "", how.chosen)
    except UserError:
        return False
    # A class stands in its cell by itself: short, and again in other rows.
    cells = [str(row.values.get(roles.labels[0], "")) for row in table.rows[:500]]
    return max(map(len, cells), default=0) <= 60 and len(set(cells)) <= max(2, len(cells) / 2)


def _class_folders(
    folder: Path, classes: Sequence[Path], loose: Sequence[Path], account: Account, how: Reading
) -> list[Example]:
    found: list[Example] = []
    for path in loose:
        account.read += 1
        account.set_aside("file beside the folders of the classes", Place(str(path)))
    for home in classes:
        for path in sorted(home.glob(how.glob)):
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(home).parts):
                account.read += 1
                text = _text_or_fault(path, account, how)
                if text:
                    found.append(Example(text, (home.name,), Place(str(path))))
    account.found.append(
        f"{folder}: a folder a class ({', '.join(home.name for home in classes)}), a text a file"
    )
    return found


def _text_or_fault(path: Path, account: Account, how: Reading) -> str:
    """The text of a file; nothing, and a fault in the account, where it holds none."""
    try:
        text = _text_of(path, account, how)
    except UserError:
        account.fault("file that is not text", Place(str(path)))
        return ""
    if not text.strip():
        account.fault("empty file", Place(str(path)))
        return ""
    return text


def read_names(path: Path, encoding: str = "auto") -> list[str]:
    """The names of labels, one a line; the number of a label is its line, from 0 (or from 1, if no label is 0)."""
    names = [line.strip() for line in lines_of(decode(read_bytes(path), str(path), encoding).text)]
    while names and not names[-1]:
        names.pop()
    doubled = [name for name in names if not name or names.count(name) > 1]
    if not names or doubled:
        what = f"{doubled[0]!r} twice, or no name in a line" if doubled else "no names"
        raise UserError(f"{path} holds {what}; it needs one name of a label a line")
    return names
