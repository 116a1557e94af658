"""The state of a session as bytes: to hand out, to take back, and to keep in a folder."""

from __future__ import annotations

import json
import re
import secrets
import zlib
from pathlib import Path
from typing import Any

from elman.files import write_bytes
from elman.runtime import FrozenError

__all__ = ["Kept", "new_name", "pack", "unpack"]

MAGIC = b"elman.state 1\n"
_NAME = re.compile(r"[\w-]{24}", re.ASCII)


def pack(model: str, row: bytes, more: dict[str, Any]) -> bytes:
    """A state with all that going on needs. model: its hash. row: what the core gave. more: fit for JSON."""
    head = json.dumps({"model": model, "check": zlib.crc32(row), **more}).encode()
    return MAGIC + head + b"\n" + row


def unpack(model: str, data: bytes) -> tuple[bytes, dict[str, Any]]:
    """What `pack` was given. FrozenError for what is none, is damaged, or of another model."""
    head, _, row = data.removeprefix(MAGIC).partition(b"\n")
    try:
        if not data.startswith(MAGIC):
            raise ValueError
        more = json.loads(head)
        check, of = more.pop("check"), more.pop("model")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise FrozenError("this is no state of a session") from None
    if of != model:
        raise FrozenError("the state is of another model: its hash is another")
    if check != zlib.crc32(row):
        raise FrozenError("the state is damaged")
    return row, more


def new_name() -> str:
    """A name for a session that nobody can guess: who knows it may go on with it."""
    return secrets.token_urlsafe(18)


class Kept:
    """States in a folder, by the names of their sessions; of more than `most` the oldest go."""

    def __init__(self, folder: Path, most: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.most = folder, most
        self._count = len(self._files())

    def save(self, name: str, data: bytes) -> None:
        """Keep a state; it is there as a whole or not at all."""
        write_bytes(self._path(name), data)
        self._count += 1
        if self._count > self.most:
            files = sorted(self._files(), key=lambda path: path.stat().st_mtime_ns)
            for path in files[: len(files) - self.most * 9 // 10]:
                path.unlink(missing_ok=True)
            self._count = len(self._files())

    def take(self, name: str) -> bytes | None:
        """The state of a session, which is not kept any longer; None where there is none."""
        if not _NAME.fullmatch(name):
            return None
        path = self._path(name)
        try:
            data = path.read_bytes()
            path.unlink()
        except FileNotFoundError:
            return None
        self._count -= 1
        return data

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.state"

    def _files(self) -> list[Path]:
        return list(self.folder.glob("*.state"))
