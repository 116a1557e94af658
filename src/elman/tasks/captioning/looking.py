"""Pictures of where the network looks: the picture, then once for each word, bright where the word was looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from elman.data.pictures import Fitting, Pixels, fitted

__all__ = ["looked_at", "strip_of"]

Floats = npt.NDArray[np.float32]
# The side of one panel, the height of its label, and the space between panels.
SIDE, LABEL, GAP = 128, 20, 6
# How bright a place is that is not looked at.
DARK = 0.22


def looked_at(pixels: Pixels, weights: Floats, side: int = SIDE) -> Pixels:
    """A picture `(H, W, 3)` at `side`, as bright as the weights `(h, w)` of its places, the largest of them in full."""
    from PIL import Image

    picture = fitted(pixels, Fitting(side, side, "stretch"))
    spread = weights / max(float(weights.max()), 1e-12)
    made = Image.fromarray(np.asarray(spread, dtype=np.float32)).resize(
        (side, side), Image.Resampling.BICUBIC
    )
    light = DARK + (1 - DARK) * np.clip(np.asarray(made), 0, 1)
    return np.asarray(picture * light[..., None], dtype=np.uint8)


def strip_of(pixels: Pixels, weights: Sequence[Floats], words: Sequence[str], most: int = 8) -> Pixels:
    """The picture and one panel for each word, below it the word; `most` panels in a row."""
    from PIL import Image, ImageDraw, ImageFont

    panels = [fitted(pixels, Fitting(SIDE, SIDE, "stretch")), *(looked_at(pixels, one) for one in weights)]
    names = ["", *words]
    columns = min(most, len(panels))
    rows = -(-len(panels) // columns)
    size = (columns * (SIDE + GAP) + GAP, rows * (SIDE + LABEL + GAP) + GAP)
    page = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(page), _font(ImageFont)
    for place, (panel, name) in enumerate(zip(panels, names, strict=True)):
        x = GAP + place % columns * (SIDE + GAP)
        y = GAP + place // columns * (SIDE + LABEL + GAP)
        page.paste(Image.fromarray(panel), (x, y))
        draw.text((x + SIDE / 2, y + SIDE + 3), _short(name), fill="black", font=font, anchor="ma")
    return np.array(page)


def _short(name: str) -> str:
    return name if len(name) <= 18 else name[:17] + "…"


def _font(fonts: Any) -> Any:
    """The font that comes with matplotlib: it has the letters of most scripts of Europe."""
    from pathlib import Path

    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return fonts.truetype(str(path), 13)
