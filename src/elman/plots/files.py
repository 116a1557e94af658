"""Writing a picture: whole or not at all."""

from pathlib import Path

from elman.config import UserError
from elman.files import write_bytes
from elman.plots.canvas import Canvas
from elman.plots.png import png
from elman.plots.svg import svg


def save(canvas: Canvas, picture: Path | str) -> Path:
    """Write a sheet as .svg or .png, as the name ends; UserError where it ends otherwise."""
    path = Path(picture)
    if path.suffix not in {".svg", ".png"}:
        raise UserError(f"a picture is written as .svg or .png, not as {path.name}")
    return write(path, png(canvas) if path.suffix == ".png" else svg(canvas).encode())


def write(path: Path, picture: bytes) -> Path:
    """Write such that `path` is at any moment what it was or the whole picture."""
    write_bytes(path, picture, lasting=False)
    return path
