r"""Text with subscripts, measured before it is drawn.

Markup: `_x` or `_{...}` lowers, `^x` or `^{...}` raises, as in `h_{t−1}`. Style "sans" is for words, "math" for
formulas: there, single letters stand in italics and words such as tanh upright.

Widths come from the fonts inside matplotlib's wheel (DejaVu Sans, the widest of the usual sans-serif fonts, and STIX),
so they are the same on every machine; words that fit here also fit where a viewer substitutes a narrower font.
"""

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.ft2font import FT2Font
    from matplotlib.path import Path as Path2D

Style = Literal["sans", "math"]

EM = 1000
SMALLER = 0.72
LOWER = 0.24
HIGHER = -0.36
ASCENT = 0.76
DESCENT = 0.22

_MARKUP = re.compile(r"([_^])(?:\{([^}]*)\}|(.))")
_LETTERS = re.compile(r"[^\W\d_]+|[\W\d_]+")
_FILES = {
    ("sans", False, False): "DejaVuSans.ttf",
    ("sans", True, False): "DejaVuSans-Bold.ttf",
    ("math", False, False): "STIXGeneral.ttf",
    ("math", True, False): "STIXGeneralBol.ttf",
    ("math", False, True): "STIXGeneralItalic.ttf",
    ("math", True, True): "STIXGeneralBolIta.ttf",
}


@dataclass(frozen=True, slots=True)
class Run:
    """Letters of one look: `shift` (downwards) and `scale` are relative to the size of the line."""

    text: str
    scale: float = 1.0
    shift: float = 0.0
    italic: bool = False


@lru_cache(maxsize=4096)
def runs(markup: str, style: Style) -> tuple[Run, ...]:
    """The marked-up line as runs, left to right."""
    found: list[Run] = []
    end = 0
    for match in _MARKUP.finditer(markup):
        found += _plain(markup[end : match.start()], style, 1.0, 0.0)
        shift = LOWER if match[1] == "_" else HIGHER
        found += _plain(match[2] if match[2] is not None else match[3], style, SMALLER, shift)
        end = match.end()
    return tuple(found + _plain(markup[end:], style, 1.0, 0.0))


def _plain(text: str, style: Style, scale: float, shift: float) -> list[Run]:
    if style == "sans":
        return [Run(text, scale, shift)] if text else []
    parts = _LETTERS.findall(text)
    return [Run(part, scale, shift, italic=len(part) == 1 and part.isalpha()) for part in parts]


def plain(markup: str) -> str:
    """The line without its markup, for titles and searches."""
    return "".join(run.text for run in runs(markup, "sans"))


def font_file(style: Style, *, bold: bool, italic: bool) -> Path:
    """The file of a font that ships with matplotlib."""
    import matplotlib as mpl

    return Path(mpl.get_data_path()) / "fonts" / "ttf" / _FILES[style, bold, italic]


@cache
def _font(style: Style, bold: bool, italic: bool) -> "FT2Font":
    from matplotlib.ft2font import FT2Font

    return FT2Font(str(font_file(style, bold=bold, italic=italic)))


@cache
def _advance(letter: str, style: Style, bold: bool, italic: bool) -> float:
    from matplotlib.ft2font import LoadFlags

    font = _font(style, bold, italic)
    font.set_size(100.0, 72.0)
    return font.load_char(ord(letter), flags=LoadFlags.NO_HINTING).linearHoriAdvance / 65536 / 100


def run_width(run: Run, size: float, style: Style, *, bold: bool = False) -> float:
    """Width of one run in pixels at `size` pixels to the em."""
    return size * run.scale * sum(_advance(letter, style, bold, run.italic) for letter in run.text)


def width(markup: str, size: float, style: Style = "sans", *, bold: bool = False) -> float:
    """Width of a marked-up line in pixels."""
    return sum(run_width(run, size, style, bold=bold) for run in runs(markup, style))


def fitted(text: str, size: float, room: float, *, bold: bool = False) -> str:
    """Words, cut off with an ellipsis where they are wider than `room` pixels."""
    if width(text, size, bold=bold) <= room:
        return text
    while text and width(text + "…", size, bold=bold) > room:
        text = text[:-1]
    return text.rstrip() + "…"


@lru_cache(maxsize=4096)
def outline(text: str, style: Style, bold: bool, italic: bool) -> "Path2D":
    """The outline of letters, EM units to the em, y upwards, from (0, 0) to the right."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(fname=str(font_file(style, bold=bold, italic=italic)))
    return TextPath((0, 0), text, size=EM, prop=font)


def path_data(letter: str, *, bold: bool, italic: bool) -> str:
    """The outline of a letter of a formula as SVG path data, EM units to the em, y downwards."""
    names = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}
    parts = []
    for points, code in outline(letter, "math", bold, italic).iter_segments(curves=True, simplify=False):
        name = names[int(code)]
        numbers = [] if name == "Z" else [f"{x:.0f} {-y:.0f}" for x, y in points.reshape(-1, 2)]
        parts.append(name + " ".join(numbers))
    return "".join(parts)
