"""Text from the user's files: UTF-8 files, folders of them, JSON lines; and its division into train, valid and test."""

from __future__ import annotations

import json
import random
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from elman.config import UserError, check_regular, nearest, pasted
from elman.data.account import Account, Place

__all__ = ["Division", "divide", "read_text", "read_texts", "standard_library"]

Pieces = Callable[[Path, str], list[str]]

# From so many documents on, a share is made of whole documents.
MANY = 20
JSON_LINES = {".jsonl", ".ndjson"}
# Parts of the standard library that are tables, translations of other trees, or tests.
NOT_SOURCE = {
    "__pycache__",
    "dist-packages",
    "encodings",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "site-packages",
}
TESTS = {"idle_test", "test", "tests"}


class Division(NamedTuple):
    """The documents of each part."""

    train: list[str]
    valid: list[str]
    test: list[str]


def read_texts(
    paths: Iterable[str],
    *,
    glob: str,
    field: str,
    account: Account | None = None,
    pieces: Pieces | None = None,
) -> list[str]:
    """The documents under the given paths, in the order given (a folder's files by name).

    A file is one document, a line of a .jsonl file is one (its `field`). Line ends become a single newline and a byte
    order mark is dropped. In a folder, hidden and binary files are passed over. The account (of files) is told what was
    read and what was not.
    Raises UserError for a path that is missing, empty or not UTF-8.
    """
    texts: list[str] = []
    account = Account("files") if account is None else account
    for path in map(Path, paths):
        if not path.exists():
            raise UserError(f"no such file or folder: {path}{_beside(path)}")
        found = (
            _read_folder(path, glob, field, account, pieces)
            if path.is_dir()
            else _read_file(path, field, pieces)
        )
        account.read += not path.is_dir()
        if not any(found):
            raise UserError(f"{path} is empty: it holds no text to learn from")
        texts += [text for text in found if text]
    return texts


def _beside(path: Path) -> str:
    if not path.parent.is_dir():
        return ""
    return nearest(path.name, [entry.name for entry in path.parent.iterdir()], form=str(path.parent / "{}"))


def _read_folder(folder: Path, glob: str, field: str, account: Account, pieces: Pieces | None) -> list[str]:
    try:
        found = sorted(path for path in folder.glob(glob) if path.is_file())
    except (ValueError, NotImplementedError, IndexError) as error:
        raise UserError(f"--glob {glob!r} is not a pattern: {error}") from None
    inside = [path for path in found if not _hidden(path, folder)]
    if not inside:
        raise UserError(f"no file in {folder} fits --glob {glob!r}{_kinds(folder)}")
    account.read += len(found)
    texts: list[str] = []
    for path in found:
        if _hidden(path, folder):
            account.set_aside("hidden", Place(str(path)))
        elif _binary(path):
            account.set_aside("binary", Place(str(path)))
        else:
            here = _read_file(path, field, pieces)
            texts += here
            if not any(here):
                account.set_aside("empty", Place(str(path)))
    return texts


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _kinds(folder: Path) -> str:
    kinds = Counter(path.suffix for path in folder.rglob("*") if path.is_file() and path.suffix)
    found = ", ".join(f"{suffix} ({count})" for suffix, count in kinds.most_common(5))
    return f"; it holds {found}" if found else "; it holds no files"


def _binary(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b"\0" in file.read(8192)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def _is_utf16(raw: bytes) -> bool:
    """Whether it has UTF-16's mark, or its zero bytes stand all in even or all in odd places."""
    even, odd = raw[0:8192:2].count(0), raw[1:8192:2].count(0)
    alike = min(even, odd) * 20 < max(even, odd) and max(even, odd) * 2 > min(len(raw), 8192) // 2
    return raw[:2] in {b"\xff\xfe", b"\xfe\xff"} or alike


def _read_file(path: Path, field: str, pieces: Pieces | None) -> list[str]:
    text = read_text(path)
    if path.suffix.lower() in JSON_LINES:
        return _json_lines(path, text, field)
    return [text] if pieces is None else pieces(path, text)


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, its line ends as newlines. Raises UserError for a file that is none."""
    check_regular(path)
    try:
        raw = path.read_bytes()
        if _is_utf16(raw):
            raise UserError(f"{path} is UTF-16 text, not UTF-8; {_converted(path, 'utf-16')}")
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        if _binary(path):
            raise UserError(f"{path} is not text: it holds zero bytes; name UTF-8 text files") from None
        raise UserError(
            f"{path} is not UTF-8 text (byte 0x{error.object[error.start]:02x} at offset {error.start}); "
            f"{_converted(path, 'cp1252')}"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _converted(path: Path, encoding: str) -> str:
    return f"convert it, for example: iconv -f {encoding} -t utf-8 {pasted(path)} > converted.txt"


def _json_lines(path: Path, text: str, field: str) -> list[str]:
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(
                f"{path}:{number} is not a JSON object: {error.msg} (column {error.colno})"
            ) from None
        if not isinstance(record, dict) or not isinstance(record.get(field), str):
            raise UserError(f"{path}:{number} {_no_field(record, field)}")
        found.append(record[field])
    return found


def _no_field(record: object, field: str) -> str:
    if not isinstance(record, dict):
        return f"holds a {type(record).__name__}, not an object with a text under {field!r}"
    if field in record:
        return f"has a {type(record[field]).__name__} under {field!r}, not a text"
    words = [name for name, value in record.items() if isinstance(value, str)]
    keys = f"its texts are {', '.join(words)}: choose one by --field" if words else "it has no texts"
    return f"has no text under {field!r}; {keys}"


def standard_library() -> list[str]:
    """The source files of this Python's own standard library, without tests and tables: text that every machine has."""
    root = Path(sysconfig.get_paths()["stdlib"])
    skipped = NOT_SOURCE | TESTS
    paths = [path for path in root.rglob("*.py") if not skipped & set(path.relative_to(root).parts)]
    texts = [text for path in sorted(paths) if (text := path.read_text(encoding="utf-8", errors="replace"))]
    if not texts:
        raise UserError(
            f"this Python has no sources of its standard library ({root}); name your own text by --data"
        )
    return texts


def divide(texts: Sequence[str], *, valid: float, test: float, seed: int) -> Division:
    """Cut off the shares for validation and test (of the characters).

    From 20 documents on, whole documents are drawn with `seed`; of fewer, each one gives its end, cut at a line.
    """
    if len(texts) >= MANY:
        return _draw(texts, valid, test, seed)
    parts = [_ends(text, valid, test) for text in texts]
    return Division(*([part[i] for part in parts if part[i]] for i in range(3)))


def _draw(texts: Sequence[str], valid: float, test: float, seed: int) -> Division:
    order = list(range(len(texts)))
    random.Random(seed).shuffle(order)
    total = sum(map(len, texts))
    drawn: list[set[int]] = []
    for share in (valid, test):
        part: set[int] = set()
        while order and sum(len(texts[i]) for i in part) < share * total:
            part.add(order.pop())
        drawn.append(part)
    pick = [[text for i, text in enumerate(texts) if i in part] for part in (set(order), *drawn)]
    return Division(*pick)


def _ends(text: str, valid: float, test: float) -> tuple[str, str, str]:
    first = _line_start(text, round(len(text) * (1 - valid - test))) if valid + test else len(text)
    second = max(first, _line_start(text, round(len(text) * (1 - test)))) if test else len(text)
    return text[:first], text[first:second], text[second:]


def _line_start(text: str, at: int) -> int:
    """The start of the line that `at` lies in; `at` itself where the text has no line before it."""
    return text.rfind("\n", 0, at) + 1 or at
