"""What an export, a report or another page may write over: an earlier one of its own form, and nothing else."""

from __future__ import annotations

import mmap
from pathlib import Path

from elman.config import UserError

__all__ = ["check_page_replaced", "check_replaced"]

# What stands in each file of a form, and in hardly another one.
_MARKS = {
    "frozen": (b'"elman.frozen":',),
    "html": (b'<script type="text/plain" id="module">',),
    # A property of protobuf: its key, of so many letters, and its value.
    "onnx": (b"\x0a\x05elman\x12", b"\x0a\x07made by\x12"),
}


# What `elman.page.document` writes into each head; and, before there was that, into each style.
_PAGE = (b'<meta name="generator" content="Elman">', b"header, main, footer { max-width: 960px;")


def check_replaced(form: str, path: Path) -> None:
    """UserError where `path` is a file that is no export of this form; an empty one may be replaced, and folders have a
    rule of their own."""
    if form in _MARKS:
        _check(path, _MARKS[form], f"file that `elman export --to {form}` wrote", "--file")


def check_page_replaced(path: Path, flag: str = "--to") -> None:
    """UserError where `path` is a file that is no page of `elman report`, `inspect`, `compare` or `predict`."""
    _check(path, _PAGE, "page that elman wrote", flag)


def _check(path: Path, marks: tuple[bytes, ...], what: str, flag: str) -> None:
    if path.is_file() and not _marked(path, marks):
        raise UserError(f"{path} is there already, and is no {what}: remove it, or give {flag} another name")


def _marked(path: Path, marks: tuple[bytes, ...]) -> bool:
    if not path.stat().st_size:
        return True
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return any(data.find(mark) >= 0 for mark in marks)
