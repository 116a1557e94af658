"""Writing a picture: whole or not at all."""

import os
from pathlib import Path

from elman.config import full_disk


def write(path: Path, picture: bytes) -> Path:
    """Write such that `path` is at any moment what it was or the whole picture."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(picture)
        beside.replace(path)
    except OSError as error:
        raise full_disk(error, path, len(picture)) or error from None
    finally:
        beside.unlink(missing_ok=True)
    return path
