"""What is given to `elman predict`: lines of files and of standard input, each with its place, none lost."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from elman.errors import UserError, check_regular, nearest

__all__ = ["STANDARD_INPUT", "Item", "check_inputs", "files_of", "lines"]

STANDARD_INPUT = "-"
READ_BYTES = 1 << 16


class Item(NamedTuple):
    """One thing to be answered.

    value: what the task answers; None where it could not be read. place: `a.txt:17`. fault: why it could not be read.
    """

    value: Any
    place: str
    fault: str = ""


def check_inputs(paths: Sequence[str]) -> None:
    """Raise UserError, before any work, for a path that is not there, a pipe or a device, or if nothing is given."""
    if not paths:
        raise UserError("nothing to read: give files, folders, or - for standard input")
    for path in paths:
        if path != STANDARD_INPUT and not Path(path).exists():
            beside = [entry.name for entry in Path(path).absolute().parent.glob("*")]
            raise UserError(f"no such file or folder: {path}{nearest(Path(path).name, beside)}")
        if path != STANDARD_INPUT:
            _check_kind(Path(path))
    if list(paths).count(STANDARD_INPUT) > 1:
        raise UserError("- is given twice, but there is one standard input")


def _check_kind(path: Path) -> None:
    try:
        check_regular(path)
    except UserError as error:
        raise UserError(f"{error}, or give - and let it come by standard input") from None


def files_of(path: str) -> list[Path]:
    """A file, or the files of a folder and its folders by name; hidden ones are passed over."""
    if not Path(path).is_dir():
        return [Path(path)]
    found = [file for file in Path(path).rglob("*") if file.is_file()]
    return sorted(file for file in found if not _hidden(file.relative_to(path)))


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def lines(paths: Sequence[str], most: int) -> Iterator[list[Item]]:
    """The lines of files (of a folder: of its files) and of standard input, as items in groups of at most `most`.

    Lines end with a newline only, so that as many are answered as `wc -l` counts; a last line may lack it. An empty
    line is an item too. A group from standard input is what has come in so far: an answer need not wait for more lines.
    """
    check_inputs(paths)
    for path in paths:
        if path == STANDARD_INPUT:
            yield from _numbered(sys.stdin.buffer, "-", most)
            continue
        for file in files_of(path):
            with file.open("rb") as stream:
                yield from _numbered(stream, str(file), most)


def _numbered(stream: BinaryIO, name: str, most: int) -> Iterator[list[Item]]:
    number = 0
    for group in _groups(stream):
        for start in range(0, len(group), most):
            found = group[start : start + most]
            yield [_item(line, f"{name}:{number + place}") for place, line in enumerate(found, 1)]
            number += len(found)


def _groups(stream: Any) -> Iterator[list[bytes]]:
    """Whole lines, as soon as they are there."""
    rest: list[bytes] = []
    while block := stream.read1(READ_BYTES):
        *whole, last = block.split(b"\n")
        if whole:
            whole[0] = b"".join([*rest, whole[0]])
            rest = []
            yield whole
        rest.append(last)
    if last := b"".join(rest):
        yield [last]


def _item(line: bytes, place: str) -> Item:
    try:
        return Item(line.removesuffix(b"\r").decode("utf-8-sig" if place.endswith(":1") else "utf-8"), place)
    except UnicodeDecodeError:
        return Item(None, place, "not UTF-8 text")
