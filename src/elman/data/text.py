"""Text from the user's files: UTF-8 files, folders of them, JSON lines; and its division into train, valid and test."""

from __future__ import annotations

import codecs
import io
import json
import random
import sysconfig
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from elman.config import UserError, check_regular, nearest, pasted
from elman.data.account import Account, Place
from elman.data.pieces import BLOCK, Piece, split, whole

__all__ = [
    "MANY",
    "Division",
    "bounds",
    "chunks_of",
    "divide",
    "drawn",
    "files_under",
    "pieces_under",
    "places",
    "read_text",
    "read_texts",
    "standard_library",
]

# The documents of a file, of its path and its text in chunks.
Cut = Callable[[Path, Iterator[str]], Iterator[Piece]]

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
    cut: Cut | None = None,
) -> list[str]:
    """The documents under the given paths, each whole; see `pieces_under`."""
    texts: list[str] = []
    held: list[str] = []
    for text, last in pieces_under(paths, glob=glob, field=field, account=account, cut=cut):
        held.append(text)
        if last:
            texts.append("".join(held))
            held = []
    return texts


def pieces_under(
    paths: Iterable[str],
    *,
    glob: str,
    field: str,
    account: Account | None = None,
    cut: Cut | None = None,
) -> Iterator[Piece]:
    """The documents under the given paths in pieces, in the order given (a folder's files by name).

    A file is one document, or what `cut` makes of it; a line of a .jsonl file is one (its `field`). Line ends become a
    single newline and a byte order mark is dropped. In a folder, hidden and binary files are passed over. The account
    (of files) is told what was read and what was not.
    Raises UserError for a path that is missing, empty or not UTF-8.
    """
    account = Account("files") if account is None else account
    for path in map(Path, paths):
        _check_there(path)
        account.read += not path.is_dir()
        found = (
            _folder_pieces(path, glob, field, account, cut)
            if path.is_dir()
            else _file_pieces(path, field, cut)
        )
        empty = True
        for piece in found:
            empty = False
            yield piece
        if empty:
            raise UserError(f"{path} is empty: it holds no text to learn from")


def files_under(paths: Iterable[str], glob: str) -> list[Path]:
    """The files that are read under the given paths, the binary ones among them. Raises UserError as `pieces_under`."""
    found: list[Path] = []
    for path in map(Path, paths):
        _check_there(path)
        if not path.is_dir():
            check_regular(path)
        inside = _inside(path, glob) if path.is_dir() else [path]
        found += [file for file in inside if file == path or not _hidden(file, path)]
    return found


def _check_there(path: Path) -> None:
    if not path.exists():
        raise UserError(f"no such file or folder: {path}{_beside(path)}")


def _beside(path: Path) -> str:
    if not path.parent.is_dir():
        return ""
    return nearest(path.name, [entry.name for entry in path.parent.iterdir()], form=str(path.parent / "{}"))


def _inside(folder: Path, glob: str) -> list[Path]:
    try:
        found = sorted(path for path in folder.glob(glob) if path.is_file())
    except (ValueError, NotImplementedError, IndexError) as error:
        raise UserError(f"--glob {glob!r} is not a pattern: {error}") from None
    if all(_hidden(path, folder) for path in found):
        raise UserError(f"no file in {folder} fits --glob {glob!r}{_kinds(folder)}")
    return found


def _folder_pieces(folder: Path, glob: str, field: str, account: Account, cut: Cut | None) -> Iterator[Piece]:
    found = _inside(folder, glob)
    account.read += len(found)
    for path in found:
        if _hidden(path, folder):
            account.set_aside("hidden", Place(str(path)))
        elif _binary(path):
            account.set_aside("binary", Place(str(path)))
        else:
            empty = True
            for piece in _file_pieces(path, field, cut):
                empty = False
                yield piece
            if empty:
                account.set_aside("empty", Place(str(path)))


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


def _file_pieces(path: Path, field: str, cut: Cut | None) -> Iterator[Piece]:
    chunks = chunks_of(path)
    if path.suffix.lower() in JSON_LINES:
        return (Piece(text) for text in _json_lines(path, chunks, field) if text)
    return whole(chunks) if cut is None else cut(path, chunks)


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, its line ends as newlines. Raises UserError for a file that is none."""
    return "".join(chunks_of(path))


def chunks_of(path: Path) -> Iterator[str]:
    """The text of a UTF-8 file, about `BLOCK` bytes at a time. Raises UserError as `read_text`."""
    check_regular(path)
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")(), translate=True)
    read = 0
    try:
        with path.open("rb") as file:
            if _is_utf16(file.read(8192)):
                raise UserError(f"{path} is UTF-16 text, not UTF-8; {_converted(path, 'utf-16')}")
            file.seek(0)
            while block := file.read(BLOCK):
                read += len(block)
                yield decoder.decode(block)
            yield decoder.decode(b"", final=True)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        if _binary(path):
            raise UserError(f"{path} is not text: it holds zero bytes; name UTF-8 text files") from None
        # What the decoder was given ends with the last byte that was read.
        at = read - len(error.object) + error.start
        raise UserError(
            f"{path} is not UTF-8 text (byte 0x{error.object[error.start]:02x} at offset {at}); "
            f"{_converted(path, 'cp1252')}"
        ) from None


def _converted(path: Path, encoding: str) -> str:
    return f"convert it, for example: iconv -f {encoding} -t utf-8 {pasted(path)} > converted.txt"


def _json_lines(path: Path, chunks: Iterator[str], field: str) -> Iterator[str]:
    for number, line in enumerate(split(chunks, "\n"), 1):
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
        yield record[field]


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
        part = drawn([len(text) for text in texts], valid, test, seed)
        return Division(
            *([text for text, own in zip(texts, part, strict=True) if own == i] for i in range(3))
        )
    parts = [_ends(text, valid, test) for text in texts]
    return Division(*([part[i] for part in parts if part[i]] for i in range(3)))


def drawn(lengths: Sequence[int], valid: float, test: float, seed: int) -> bytearray:
    """The part of each document (0: train, 1: valid, 2: test), from the characters of each."""
    order = array("q", range(len(lengths)))
    # An array is mixed as a list of the same length would be.
    random.Random(seed).shuffle(order)
    total = sum(lengths)
    part = bytearray(len(lengths))
    for number, share in enumerate((valid, test), 1):
        taken = 0
        while order and taken < share * total:
            last = order.pop()
            part[last] = number
            taken += lengths[last]
    return part


def places(length: int, valid: float, test: float) -> tuple[int, int]:
    """Where the shares for validation and test begin in a document, lines not minded; its end where there is none."""
    first = round(length * (1 - valid - test)) if valid + test else length
    return first, round(length * (1 - test)) if test else length


def bounds(
    length: int, valid: float, test: float, line_start: Callable[[int], int]
) -> tuple[int, int, int, int]:
    """Where train, valid and test begin and end in a document, cut at lines; line_start: see `_line_start`."""
    a, b = places(length, valid, test)
    first = line_start(a) if valid + test else length
    return 0, first, max(first, line_start(b)) if test else length, length


def _ends(text: str, valid: float, test: float) -> list[str]:
    cuts = bounds(len(text), valid, test, lambda at: _line_start(text, at))
    return [text[a:b] for a, b in pairwise(cuts)]


def _line_start(text: str, at: int) -> int:
    """The start of the line that `at` lies in; `at` itself where the text has no line before it."""
    return text.rfind("\n", 0, at) + 1 or at
