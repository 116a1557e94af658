"""Files that are whole or not there at all, and logs of which the last line may be cut off."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from elman.config import full_disk

__all__ = ["read_events", "sync_folder", "write_bytes"]


def write_bytes(path: Path, data: bytes, *, lasting: bool = True) -> None:
    """Write a file such that, at any moment, `path` is either what it was or all of `data`; where it is `lasting`, also
    when the machine stops right after. Raises UserError where there is no room, else the OSError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            if lasting:
                os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise full_disk(error, path, len(data)) or error from None
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
    if lasting:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """What was written, renamed or removed in a folder stays so when the machine stops."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_events(path: Path) -> list[dict[str, Any]]:
    """The objects of a log, one a line; a line that was cut off is left out."""
    events = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(event, dict):
            events.append(event)
    return events
