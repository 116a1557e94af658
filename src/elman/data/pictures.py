"""Pictures from files: any format that Pillow reads, as RGB of 8 bits, turned as they are meant to be seen.

What is wrong with a picture is said in a few words and never replaced by an empty one: a file that is no picture, one
that is cut off, one of too many pixels.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.config import require
from elman.data.feature_store import Kept, keep

__all__ = [
    "FOREIGN",
    "SUFFIXES",
    "Fit",
    "Fitting",
    "PictureError",
    "Pixels",
    "fitted",
    "load_pictures",
    "pictures_in",
    "png",
    "read_picture",
    "thumbnails",
]

Pixels = npt.NDArray[np.uint8]
Fit = Literal["pad", "crop", "stretch"]

# The files that are taken for pictures; others are opened where a table names them.
_SUFFIXES = """
.jpg .jpeg .jpe .jfif .png .apng .gif .webp .bmp .dib .tif .tiff .ppm .pgm .pbm .pnm .tga .ico .jp2 .avif .qoi
"""
SUFFIXES = frozenset(_SUFFIXES.split())
# Pictures that are not read: taken for pictures too, so that they are named.
FOREIGN = frozenset({".heic", ".heif", ".svg", ".svgz", ".psd", ".raw", ".cr2", ".nef", ".arw", ".dng"})
# What lies behind a transparent place.
WHITE = 255
# The side of a thumbnail by which pictures are compared.
THUMBNAIL = 16


class PictureError(Exception):
    """A picture that cannot be used; the message is a few words, such as `truncated picture`."""


class Fitting(NamedTuple):
    """How pictures are brought to one size.

    fit: the whole picture with white around it, its largest middle part, or the whole picture stretched.
    """

    height: int
    width: int
    fit: Fit = "pad"


def read_picture(path: Path | BinaryIO) -> Pixels:
    """The pixels `(H, W, 3)` of a picture; of an animated one the first frame.

    Turned as its EXIF data say; transparent places on white; palettes, gray, 16 bits and CMYK as RGB of 8 bits.
    Raises PictureError where the file cannot be used.
    """
    require("PIL", extra="vision", what="reading pictures")
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Remarks upon odd metadata, and upon sizes that are large and still allowed.
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                image.load()
                turned: Any = ImageOps.exif_transpose(image)
                return _rgb(turned)
    except UnidentifiedImageError:
        raise PictureError(_unknown(path)) from None
    except Image.DecompressionBombError:
        raise PictureError(f"picture of more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels") from None
    except Exception as error:  # noqa: BLE001
        # Pillow's readers raise whatever a damaged file leads them to.
        raise PictureError(_damaged(error)) from None


def _unknown(path: Path | BinaryIO) -> str:
    if not isinstance(path, Path):
        return "no picture"
    if path.stat().st_size == 0:
        return "empty file"
    if path.suffix.lower() in FOREIGN:
        return f"{path.suffix[1:].lower()}, which cannot be read: convert it to png or jpg"
    return "file that cannot be read as a picture"


def _damaged(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such picture"
    if isinstance(error, PermissionError | IsADirectoryError):
        return "file that cannot be opened"
    return "truncated picture" if "truncated" in str(error).lower() else "damaged picture"


def _rgb(image: Any) -> Pixels:
    """Any mode of Pillow as `(H, W, 3)`."""
    if image.mode.startswith("I;16") or image.mode in {"I", "F"}:
        gray = _eight_bits(np.asarray(image), image.mode)
        return np.repeat(gray[..., None], 3, axis=2)
    if "transparency" in image.info or image.mode in {"RGBA", "LA", "PA", "La", "RGBa"}:
        return _on_white(np.asarray(image.convert("RGBA")))
    return np.array(image.convert("RGB"))


def _eight_bits(values: npt.NDArray[Any], mode: str) -> Pixels:
    """Gray of 16 or 32 bits, or floating point from 0 to 1; beyond these its own range is spread."""
    found = values.astype(np.float64)
    found[~np.isfinite(found)] = 0
    low, high = float(found.min(initial=0)), float(found.max(initial=0))
    full = 1.0 if mode == "F" else 65535.0
    if low < 0 or high > full:
        found, full = found - low, max(high - low, 1e-12)
    return np.asarray(np.round(found / full * 255), dtype=np.uint8)


def _on_white(rgba: Pixels) -> Pixels:
    alpha = rgba[..., 3:].astype(np.uint16)
    found = rgba[..., :3] * alpha + WHITE * (255 - alpha)
    return np.asarray((found + 127) // 255, dtype=np.uint8)


def fitted(pixels: Pixels, how: Fitting) -> Pixels:
    """A picture `(H, W, 3)` at the size that is asked for, smoothed where it becomes smaller."""
    from PIL import Image

    height, width = pixels.shape[:2]
    if how.fit == "crop":
        scale = min(height / how.height, width / how.width)
        tall, wide = max(1, round(how.height * scale)), max(1, round(how.width * scale))
        top, left = (height - tall) // 2, (width - wide) // 2
        pixels = pixels[top : top + tall, left : left + wide]
    if how.fit != "pad":
        return _resized(pixels, how.height, how.width, Image)
    scale = min(how.height / height, how.width / width)
    tall, wide = max(1, round(height * scale)), max(1, round(width * scale))
    found = np.full((how.height, how.width, 3), WHITE, dtype=np.uint8)
    top, left = (how.height - tall) // 2, (how.width - wide) // 2
    found[top : top + tall, left : left + wide] = _resized(pixels, tall, wide, Image)
    return found


def _resized(pixels: Pixels, height: int, width: int, image: Any) -> Pixels:
    if pixels.shape[:2] == (height, width):
        return pixels
    made = image.fromarray(np.ascontiguousarray(pixels)).resize((width, height), image.Resampling.BILINEAR)
    return np.array(made)


def load_pictures(
    paths: Sequence[Path], marks: Sequence[str], how: Fitting, *, cache: Path | None = None
) -> Kept:
    """The pictures, one row of `(height, width, 3)` each, none where there is a fault.

    marks: a fingerprint of the content of each, such as `feature_store.digests`; cache: the folder in which the fitted
    pictures are kept, and looked for first.
    """

    def made() -> Iterator[tuple[Pixels, str]]:
        none = np.zeros((0, how.height, how.width, 3), dtype=np.uint8)
        for path in paths:
            try:
                yield fitted(read_picture(path), how)[None], ""
            except PictureError as error:
                yield none, str(error)

    return keep(made, ["pictures", 1, list(how), list(marks)], (how.height, how.width, 3), np.uint8, cache)


def pictures_in(folder: Path) -> list[Path]:
    """The picture files of a folder and its folders, by name; hidden ones are passed over."""
    known = SUFFIXES | FOREIGN
    files = (file for file in folder.rglob("*") if file.suffix.lower() in known and file.is_file())
    return sorted(
        file for file in files if not any(p.startswith(".") for p in file.relative_to(folder).parts)
    )


def thumbnails(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Pictures `(N, H, W, 3)` as N rows of 16 x 16 mean colours from 0 to 1, by which likeness is measured."""
    rows = [np.linspace(0, size, THUMBNAIL + 1).round().astype(np.int64) for size in pixels.shape[1:3]]
    found = np.empty((len(pixels), THUMBNAIL * THUMBNAIL * 3), dtype=np.float32)
    for number, picture in enumerate(pixels):
        sums = np.zeros((picture.shape[0] + 1, picture.shape[1] + 1, 3))
        sums[1:, 1:] = picture.astype(np.float64).cumsum(axis=0).cumsum(axis=1)
        at = sums[np.ix_(*rows)]
        cells = at[1:, 1:] - at[:-1, 1:] - at[1:, :-1] + at[:-1, :-1]
        sizes = np.outer(*(np.diff(edges) for edges in rows))[..., None]
        found[number] = (cells / np.maximum(sizes, 1) / 255).ravel()
    return found


def png(pixels: Pixels) -> bytes:
    """A picture `(H, W, 3)` as the bytes of a PNG file."""
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return file.getvalue()
