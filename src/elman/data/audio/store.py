"""The features of many recordings, computed once and kept in a cache, from which they are read as they are needed.

The key is what they follow from: the bytes of the files, the pieces of them, the parameters, the speed. A cache that
cannot be written is done without.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.config import UserError
from elman.data.audio.mel import LogMel, Mel
from elman.data.audio.sound import SoundError, read_sound, resample

__all__ = ["Features", "Piece", "cache_folder", "digests", "extract"]

Floats = npt.NDArray[np.float32]
FORMAT = 1


class Piece(NamedTuple):
    """A recording, or a part of it in seconds."""

    path: Path
    start: float = 0.0
    end: float | None = None


class Features(NamedTuple):
    """`frames` `(sum of lengths, F)` of all recordings one behind the other.

    lengths, starts: frames of each, and its first; 0 where it could not be used, and `faults` says why by its index.
    seconds: of sound.
    """

    frames: Floats
    lengths: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    seconds: list[float]
    faults: dict[int, str]

    @classmethod
    def of(
        cls, frames: Floats, lengths: Sequence[int], seconds: list[float], faults: dict[int, str]
    ) -> Features:
        """With the places at which the recordings begin."""
        sizes = np.array(lengths, dtype=np.int64)
        return cls(frames, sizes, sizes.cumsum() - sizes, seconds, faults)


def cache_folder(given: str = "") -> Path:
    """The folder that is given, or the user's own cache."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(given) if given else Path(home) / "elman" / "features"


def digests(pieces: Sequence[Piece]) -> list[str]:
    """A fingerprint of each piece: of the bytes of its file, and of where it lies in it; empty for a missing file."""
    known: dict[Path, str] = {}
    found = []
    for path, start, end in pieces:
        if path not in known:
            try:
                with path.open("rb") as file:
                    known[path] = hashlib.file_digest(file, _blake).hexdigest()
            except OSError:
                known[path] = ""
        whole = start == 0 and end is None
        found.append(known[path] if whole or not known[path] else f"{known[path]}@{start!r}-{end!r}")
    return found


def _blake() -> Any:
    return hashlib.blake2b(digest_size=16)


def extract(
    pieces: Sequence[Piece], marks: Sequence[str], mel: Mel, *, speed: float = 1.0, cache: Path | None = None
) -> Features:
    """The log-mel features of recordings, played `speed` times as fast; marks: their `digests`.

    cache: the folder in which they are kept, and looked for first.
    """
    key = hashlib.sha256(json.dumps([FORMAT, list(mel), speed, list(marks)]).encode()).hexdigest()[:32]
    if cache is not None:
        found = _kept(cache, key, mel.bands)
        if found is not None:
            return found
    lengths: list[int] = []
    seconds: list[float] = []
    faults: dict[int, str] = {}
    sink = _Sink(cache)
    with sink:
        for number, (frames, length, fault) in enumerate(_each(pieces, mel, speed)):
            sink.add(frames)
            lengths.append(len(frames))
            seconds.append(length)
            if fault:
                faults[number] = fault
    facts = {"lengths": lengths, "seconds": seconds, "faults": faults}
    if cache is not None and sink.keep(cache, key, facts):
        found = _kept(cache, key, mel.bands)
        if found is not None:
            return found
    return Features.of(sink.whole(mel.bands), lengths, seconds, faults)


class _Sink:
    """Frames as they come: into a file of the cache, so that any number of them can be made; else into memory."""

    def __init__(self, cache: Path | None) -> None:
        self._kept: list[Floats] = []
        self._file: Any = None
        if cache is not None:
            try:
                cache.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.NamedTemporaryFile(dir=cache, delete=False)  # noqa: SIM115
            except OSError:
                return

    def __enter__(self) -> _Sink:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Leave nothing half made behind."""
        if kind is not None and self._file is not None:
            self._file.close()
            Path(self._file.name).unlink(missing_ok=True)

    def add(self, frames: Floats) -> None:
        """Take the next recording's. Raises UserError where there is no room for them."""
        if self._file is None:
            self._kept.append(frames)
            return
        try:
            self._file.write(np.ascontiguousarray(frames, dtype=np.float32).tobytes())
        except OSError as error:
            folder = Path(self._file.name).parent
            raise UserError(
                f"cannot keep features in {folder}: {error.strerror}; make room there, or give another by --cache"
            ) from None

    def keep(self, cache: Path, key: str, facts: dict[str, Any]) -> bool:
        """Put the file in its place, with the facts behind it: frames without facts are not taken for whole."""
        if self._file is None:
            return False
        self._file.close()
        Path(self._file.name).replace(cache / f"{key}.f32")
        with tempfile.NamedTemporaryFile(dir=cache, delete=False) as file:
            file.write(json.dumps(facts).encode())
        Path(file.name).replace(cache / f"{key}.json")
        return True

    def whole(self, bands: int) -> Floats:
        """All frames, from memory."""
        return np.concatenate(self._kept) if self._kept else np.zeros((0, bands), dtype=np.float32)


def _each(pieces: Sequence[Piece], mel: Mel, speed: float) -> Iterator[tuple[Floats, float, str]]:
    log_mel = LogMel(mel)
    none = np.zeros((0, mel.bands), dtype=np.float32)
    for path, start, end in pieces:
        try:
            samples, rate = read_sound(path, mel.rate, start=start, end=end)
        except SoundError as error:
            yield none, 0.0, str(error)
            continue
        seconds = len(samples) / rate
        yield log_mel(resample(samples, speed, 1.0) if speed != 1 else samples), seconds, ""


def _kept(cache: Path, key: str, bands: int) -> Features | None:
    try:
        facts = json.loads((cache / f"{key}.json").read_text(encoding="utf-8"))
        size = sum(facts["lengths"])
        path = cache / f"{key}.f32"
        if path.stat().st_size != 4 * size * bands:
            return None
        frames = np.memmap(path, dtype=np.float32, mode="r", shape=(size, bands)) if size else None
    except (OSError, ValueError, KeyError):
        return None
    empty = np.zeros((0, bands), dtype=np.float32)
    faults = {int(number): reason for number, reason in facts["faults"].items()}
    return Features.of(empty if frames is None else frames, facts["lengths"], facts["seconds"], faults)
