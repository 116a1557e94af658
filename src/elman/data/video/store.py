"""The frames of clips, made when they are first asked for and kept in a cache, a file a clip.

The key is what they follow from: the bytes of the file and the parameters. A cache that cannot be written is done
without. Whatever is made is made by the thread that asks, so that a batch that is made ahead decodes ahead.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["FrameStore"]

Rows = npt.NDArray[Any]
FORMAT = 1
# Bytes of clips that are held where there is no cache to write to.
HELD = 1 << 28


class FrameStore:
    """Frames by the fingerprint of their clip; `made` counts the clips that were not in the cache."""

    def __init__(
        self, cache: Path | None, parameters: Any, shape: tuple[int, ...], dtype: npt.DTypeLike
    ) -> None:
        self.parameters, self.shape, self.dtype = parameters, shape, np.dtype(dtype)
        self.made = 0
        self._held: dict[str, Rows] = {}
        self._room = HELD
        self._folder = self._opened(cache) if cache is not None else None

    def _opened(self, cache: Path) -> Path | None:
        name = hashlib.sha256(json.dumps([FORMAT, "frames", self.parameters]).encode()).hexdigest()[:24]
        folder = cache / "video" / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return None
        return folder

    def __call__(self, mark: str, count: int, make: Callable[[], Rows]) -> Rows:
        """The `count` frames of the clip with this fingerprint, from the cache or as `make()` gives them."""
        if mark in self._held:
            return self._held[mark]
        key = hashlib.sha256(f"{mark}\0{count}".encode()).hexdigest()[:32]
        path = None if self._folder is None else self._folder / f"{key}.rows"
        size = count * int(np.prod(self.shape)) * self.dtype.itemsize
        if path is not None:
            try:
                kept = np.fromfile(path, dtype=self.dtype)
                if kept.nbytes == size:
                    return kept.reshape(count, *self.shape)
            except OSError:
                pass
        rows = np.ascontiguousarray(make(), dtype=self.dtype)
        self.made += 1
        if path is None or not _write(path, rows):
            self._hold(mark, rows)
        return rows

    def _hold(self, mark: str, rows: Rows) -> None:
        if rows.nbytes <= self._room:
            self._room -= rows.nbytes
            self._held[mark] = rows


def _write(path: Path, rows: Rows) -> bool:
    """Put a file in its place at once or not at all."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(rows.tobytes())
        Path(file.name).replace(path)
    except OSError:
        return False
    return True
