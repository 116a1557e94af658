"""Bytes to text, losing nothing: UTF-8 first, then what a byte order mark says, then Windows' cp1252 line by line."""

from __future__ import annotations

import codecs
import io
import re
from pathlib import Path
from typing import NamedTuple

from elman.errors import UserError

__all__ = ["Decoded", "decode", "lines_of", "read_bytes"]

# UTF-32's little-endian mark begins with UTF-16's, so it is asked for first.
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n|\Z)")


class Decoded(NamedTuple):
    """A text as it stands in the file, its line ends too. odd: lines (from 1) that are not UTF-8, read as cp1252."""

    text: str
    encoding: str
    odd: tuple[int, ...] = ()


def read_bytes(path: Path) -> bytes:
    """All of a regular file. Raises UserError where it is none or cannot be read."""
    if not path.is_file():
        raise UserError(f"{path} is not a file that can be read to its end: name a regular file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def decode(raw: bytes, name: str, encoding: str = "auto") -> Decoded:
    """The text of a file called `name`. Raises UserError, with line and byte, where it is not text in that encoding."""
    if encoding != "auto":
        return _named(raw, name, encoding)
    marked = next((word for mark, word in MARKS.items() if raw.startswith(mark)), "")
    if marked:
        return _named(raw, name, marked)
    if b"\0" in raw:
        return _wide(raw, name)
    try:
        return Decoded(raw.decode("utf-8"), "utf-8")
    except UnicodeDecodeError:
        return _by_line(raw, name)


def _named(raw: bytes, name: str, encoding: str) -> Decoded:
    try:
        return Decoded(raw.decode(encoding).removeprefix("\ufeff"), encoding)
    except LookupError:
        raise UserError(
            f"--encoding {encoding}: no such encoding; utf-8, utf-16 and cp1252 are some"
        ) from None
    except UnicodeDecodeError as error:
        line = len(re.findall(rb"\r\n|\r|\n", raw[: error.start])) + 1
        raise UserError(
            f"{name}:{line} is not {encoding}: byte 0x{raw[error.start]:02x} at offset {error.start:,}; "
            f"name what it is by --encoding"
        ) from None


def _wide(raw: bytes, name: str) -> Decoded:
    """UTF-16 without a mark has its zero bytes all in even, or all in odd places."""
    even, odd = raw[0::2].count(0), raw[1::2].count(0)
    if min(even, odd) * 20 < max(even, odd) and len(raw) % 2 == 0:
        return _named(raw, name, "utf-16-le" if odd > even else "utf-16-be")
    raise UserError(f"{name} is not text: it holds zero bytes; name a text file, or its --encoding")


def _by_line(raw: bytes, name: str) -> Decoded:
    pieces, odd = [], []
    for number, line in enumerate(_LINE.findall(raw), 1):
        try:
            pieces.append(line.decode("utf-8"))
        except UnicodeDecodeError:
            odd.append(number)
            pieces.append(_cp1252(line, name, number))
    return Decoded("".join(pieces), "utf-8 and cp1252", tuple(odd))


def _cp1252(line: bytes, name: str, number: int) -> str:
    try:
        return line.decode("cp1252")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{name}:{number} is neither UTF-8 nor cp1252: byte 0x{line[error.start]:02x} in column {error.start + 1}; "
            f"name what the file is by --encoding"
        ) from None


def lines_of(text: str) -> list[str]:
    r"""The lines between \n, \r\n and \r, and at nothing else (`str.splitlines` cuts at U+2028 and \x1c too)."""
    return [line.rstrip("\r\n") for line in io.StringIO(text, newline="")]
