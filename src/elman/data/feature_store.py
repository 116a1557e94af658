"""Features of many files (pictures, frames), computed once and kept in a cache, from which they are read as needed.

The key is what they follow from: the content of the files and all parameters. A cache that cannot be written is done
without.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.config import UserError

__all__ = ["Kept", "cache_folder", "digests", "keep"]

Rows = npt.NDArray[Any]


class Kept(NamedTuple):
    """`rows` `(sum of lengths, ...)` of all items one behind the other.

    lengths, starts: rows of each item, and its first; 0 where it could not be used, and `faults` says why by its index.
    """

    rows: Rows
    lengths: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    faults: dict[int, str]

    def of(self, number: int) -> Rows:
        """The rows of an item."""
        start = int(self.starts[number])
        return self.rows[start : start + int(self.lengths[number])]


def cache_folder(given: str = "") -> Path:
    """The folder that is given, or the user's own cache."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(given) if given else Path(home) / "elman" / "features"


def digests(paths: Sequence[Path]) -> list[str]:
    """A fingerprint of the bytes of each file; empty for one that cannot be read."""
    known: dict[Path, str] = {}
    for path in paths:
        if path not in known:
            try:
                with path.open("rb") as file:
                    known[path] = hashlib.file_digest(file, _blake).hexdigest()
            except OSError:
                known[path] = ""
    return [known[path] for path in paths]


def _blake() -> Any:
    return hashlib.blake2b(digest_size=16)


def keep(
    make: Callable[[], Iterator[tuple[Rows, str]]],
    follows_from: Any,
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    cache: Path | None,
) -> Kept:
    """What `make()` gives: for each item its rows `(n, *shape)`, and a fault or nothing; from the cache if it is there.

    follows_from: all that the rows depend on, fit for JSON. Raises UserError where the cache has no room.
    """
    key = hashlib.sha256(json.dumps(follows_from).encode()).hexdigest()[:32]
    found = None if cache is None else _opened(cache, key, shape, dtype)
    if found is not None:
        return found
    lengths: list[int] = []
    faults: dict[int, str] = {}
    with _Sink(cache) as sink:
        for number, (rows, fault) in enumerate(make()):
            sink.add(np.ascontiguousarray(rows, dtype=dtype))
            lengths.append(len(rows))
            if fault:
                faults[number] = fault
        if sink.finish(key, {"lengths": lengths, "faults": faults}) and cache is not None:
            found = _opened(cache, key, shape, dtype)
    return found or _kept(sink.whole(shape, dtype), lengths, faults)


def _kept(rows: Rows, lengths: Sequence[int], faults: dict[int, str]) -> Kept:
    sizes = np.array(lengths, dtype=np.int64)
    return Kept(rows, sizes, sizes.cumsum() - sizes, faults)


def _opened(cache: Path, key: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Kept | None:
    """What is kept under a key; None where nothing is, or not all of it."""
    path = cache / f"{key}.rows"
    try:
        facts = json.loads((cache / f"{key}.json").read_text(encoding="utf-8"))
        whole = (sum(facts["lengths"]), *shape)
        if path.stat().st_size != math.prod(whole) * np.dtype(dtype).itemsize:
            return None
        rows: Rows = (
            np.memmap(path, dtype=dtype, mode="r", shape=whole) if whole[0] else np.zeros(whole, dtype)
        )
        faults = {int(number): reason for number, reason in facts["faults"].items()}
    except (OSError, ValueError, KeyError):
        return None
    return _kept(rows, facts["lengths"], faults)


class _Sink:
    """Rows as they come: into a file of the cache, so that any number of them can be made; else into memory."""

    def __init__(self, cache: Path | None) -> None:
        self._held: list[Rows] = []
        self._file: Any = None
        self.cache = cache
        if cache is not None:
            try:
                cache.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.NamedTemporaryFile(dir=cache, delete=False)  # noqa: SIM115
            except OSError:
                self._file = None

    def __enter__(self) -> _Sink:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Leave nothing half made behind."""
        if kind is not None and self._file is not None:
            self._file.close()
            Path(self._file.name).unlink(missing_ok=True)

    def add(self, rows: Rows) -> None:
        """Take the next item's. Raises UserError where there is no room for them."""
        if self._file is None:
            self._held.append(rows)
            return
        self._write(self._file, rows.tobytes())

    def _write(self, file: Any, content: bytes) -> None:
        try:
            file.write(content)
        except OSError as error:
            raise UserError(
                f"cannot keep features in {self.cache}: {error.strerror}; make room there, or give another folder by "
                f"--cache"
            ) from None

    def finish(self, key: str, facts: dict[str, Any]) -> bool:
        """Put the file in its place, with the facts behind it: rows without facts are not taken for whole."""
        if self._file is None or self.cache is None:
            return False
        self._file.close()
        Path(self._file.name).replace(self.cache / f"{key}.rows")
        with tempfile.NamedTemporaryFile(dir=self.cache, delete=False) as file:
            self._write(file, json.dumps(facts).encode())
        Path(file.name).replace(self.cache / f"{key}.json")
        return True

    def whole(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Rows:
        """All rows, from memory."""
        return np.concatenate(self._held) if self._held else np.zeros((0, *shape), dtype)
