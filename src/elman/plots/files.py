"""Writing a picture: whole or not at all."""

import os
from pathlib import Path


def write(path: Path, picture: bytes) -> Path:
    """Write such that `path` is at any moment what it was or the whole picture."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(picture)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path
