"""Made pictures: a coloured shape on a white ground, small or large, with captions that say so."""

import csv
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {"red": (220, 30, 30), "green": (20, 160, 60), "blue": (30, 60, 220)}
SHAPES = ("circle", "square", "cross")
SIDE = 24


def drawn(colour: str, shape: str, draw: random.Random) -> Any:
    """A picture `(SIDE, SIDE, 3)`; the place and the size of the shape vary."""
    image = Image.new("RGB", (SIDE, SIDE), "white")
    pen, size = ImageDraw.Draw(image), draw.randint(10, 14)
    x, y = (draw.randint(2, SIDE - size - 2) for _ in range(2))
    box, fill = (x, y, x + size, y + size), COLOURS[colour]
    if shape == "circle":
        pen.ellipse(box, fill=fill)
    elif shape == "square":
        pen.rectangle(box, fill=fill)
    else:
        pen.rectangle((x + size // 3, y, x + 2 * size // 3, y + size), fill=fill)
        pen.rectangle((x, y + size // 3, x + size, y + 2 * size // 3), fill=fill)
    return np.array(image)


def write(folder: Path, count: int = 60, seed: int = 0, *, references: int = 2) -> list[tuple[str, str]]:
    """`pictures/N.png` and `captions.csv`, so many captions a picture; the rows of the table."""
    draw = random.Random(seed)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        colour, shape = draw.choice([*COLOURS]), draw.choice(SHAPES)
        name = f"pictures/{number}.png"
        Image.fromarray(drawn(colour, shape, draw)).save(folder / name)
        rows += [(name, f"A {colour} {shape}"), (name, f"the {shape} is {colour}.")][:references]
    with (folder / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *rows])
    return rows
