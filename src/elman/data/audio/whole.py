"""Whether a file holds all the sound that it promises: libsndfile reads one that is cut off without a word.

A function for each kind of file, told by its first bytes. What says nothing of its length (MP3 without a count of its
frames, raw streams) cannot be found cut off.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["UNKNOWN_SIZES", "is_cut_off"]

# Sizes that writers into a pipe leave in a header that they could not go back to.
UNKNOWN_SIZES = frozenset({0, 0x7FFFFFFF, 0x7FFFF000, 0xFFFFFFFF, 0xFFFFF000})
# An Ogg page: its flags stand at byte 5, where this one marks the last page of a stream; 27 bytes, then its segments.
LAST_PAGE, PAGE = 4, 27
# Bytes of a W64 chunk in front of its body: its name, and its size, in which they are counted.
W64_HEAD = 24


def is_cut_off(path: Path) -> bool:
    """Whether a file ends before its own header says. Raises OSError where it cannot be opened."""
    size = path.stat().st_size
    with path.open("rb") as file:
        magic = file.read(4)
        check = KINDS.get(magic)
        file.seek(0)
        try:
            return check is not None and check(file, size)
        except (struct.error, ValueError, IndexError):
            # A header that ends too early, or makes no sense, is for the reader to refuse.
            return False


def _promised(length: int, at: int, size: int) -> bool:
    return length not in UNKNOWN_SIZES and at + length > size


def _riff(file: BinaryIO, size: int) -> bool:
    """WAV; where it is longer than 4 GiB (RF64) the length stands in a chunk of its own."""
    file.seek(12)
    long = 0
    for name, length, at in _chunks(file, "<"):
        if name == b"ds64":
            long = struct.unpack("<QQ", file.read(16))[1]
        if name == b"data":
            return _promised(long if length == 0xFFFFFFFF and long else length, at, size)
    return False


def _form(file: BinaryIO, size: int) -> bool:
    """AIFF."""
    file.seek(12)
    return any(name == b"SSND" and _promised(length, at, size) for name, length, at in _chunks(file, ">"))


def _chunks(file: BinaryIO, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Name, length and place of each chunk."""
    while len(head := file.read(8)) == 8:
        name, length = struct.unpack(f"{order}4sI", head)
        at = file.tell()
        yield name, length, at
        file.seek(at + length + length % 2)


def _w64(file: BinaryIO, size: int) -> bool:
    file.seek(40)
    while len(head := file.read(W64_HEAD)) == W64_HEAD:
        name, length, at = head[:4], struct.unpack("<Q", head[16:])[0], file.tell()
        if name == b"data" or length < W64_HEAD:
            return name == b"data" and _promised(length - W64_HEAD, at, size)
        file.seek(at + -(-(length - W64_HEAD) // 8) * 8)
    return False


def _au(file: BinaryIO, size: int) -> bool:
    order = ">" if file.read(4) == b".snd" else "<"
    at, length = struct.unpack(f"{order}II", file.read(8))
    return _promised(length, at, size)


def _nist(file: BinaryIO, size: int) -> bool:
    """NIST's SPHERE: a header in words; one that packs its samples does not say how many bytes they are."""
    at = int(file.read(16)[8:])
    file.seek(0)
    known: dict[bytes, list[bytes]] = {}
    for line in file.read(at).splitlines():
        name, *rest = line.split() or [b""]
        known[name] = rest
    if b"sample_coding" in known and b"embedded" in known[b"sample_coding"][-1]:
        return False
    numbers = [int(known[name][-1]) for name in (b"sample_count", b"sample_n_bytes") if name in known]
    channels = int(known.get(b"channel_count", [b"1"])[-1])
    return len(numbers) == 2 and _promised(numbers[0] * numbers[1] * channels, at, size)


def _voc(file: BinaryIO, size: int) -> bool:
    """Creative's: blocks, each with its length, up to one of kind 0."""
    at: int = struct.unpack("<H", file.read(22)[20:])[0]
    while at < size:
        file.seek(at)
        head = file.read(4)
        if head[0] == 0:
            return False
        at += 4 + int.from_bytes(head[1:4].ljust(3, b"\xff"), "little")
    return at > size


def _ogg(file: BinaryIO, size: int) -> bool:
    """Vorbis, Opus, FLAC in Ogg: page follows page, and the last one says that it is the last."""
    at, last = 0, False
    while at < size:
        file.seek(at)
        head = file.read(PAGE)
        if head[:4] != b"OggS" or len(head) < PAGE:
            break
        at += PAGE + head[26] + sum(file.read(head[26]))
        last = bool(head[5] & LAST_PAGE) and at <= size
    return not last


KINDS: dict[bytes, Callable[[BinaryIO, int], bool]] = {
    b"RIFF": _riff,
    b"RF64": _riff,
    b"FORM": _form,
    b"riff": _w64,
    b".snd": _au,
    b"dns.": _au,
    b"NIST": _nist,
    b"Crea": _voc,
    b"OggS": _ogg,
}
