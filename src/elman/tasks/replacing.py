"""What an export may write over: an earlier one of its own form, and nothing else."""

from __future__ import annotations

import mmap
from pathlib import Path

from elman.config import UserError

__all__ = ["check_replaced"]

# What stands in each file of a form, and in hardly another one.
_MARKS = {
    "frozen": (b'"elman.frozen":',),
    "html": (b'<script type="text/plain" id="module">',),
    # A property of protobuf: its key, of so many letters, and its value.
    "onnx": (b"\x0a\x05elman\x12", b"\x0a\x07made by\x12"),
}


def check_replaced(form: str, path: Path) -> None:
    """UserError where `path` is a file that is no export of this form; an empty one may be replaced, and folders have a
    rule of their own."""
    if form in _MARKS and path.is_file() and not _marked(path, _MARKS[form]):
        raise UserError(
            f"{path} is there already, and is no file that `elman export --to {form}` wrote: remove it, or give --file "
            f"another name"
        )


def _marked(path: Path, marks: tuple[bytes, ...]) -> bool:
    if not path.stat().st_size:
        return True
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return any(data.find(mark) >= 0 for mark in marks)
