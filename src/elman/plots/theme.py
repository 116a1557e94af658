"""Colours and strokes of the pictures, in one place.

The weights carry the colours (blue U, vermilion W, green V: distinguishable for colour-blind readers); everything
else is ink on paper. Every picture has its own background, so it reads on a white page and on a dark one.
"""

from typing import Final

PAPER: Final = "#ffffff"
PANEL: Final = "#f5f6f8"
FRAME: Final = "#dfe3e8"
INK: Final = "#1f2933"
MUTED: Final = "#5b6673"
FAINT: Final = "#c3cad3"

INPUT: Final = "#0b62a8"
RECURRENT: Final = "#c8431d"
OUTPUT: Final = "#0f7b55"
EMBEDDING: Final = "#7a3e96"
MEMORY: Final = "#2b6f8f"

FILLS: Final = {
    "embedding": "#f3ebf7",
    "recurrent": "#fff4e6",
    "dense": "#e8f4ee",
    "dropout": "#ffffff",
    "norm": "#eef1f5",
    "attention": "#eaf2f9",
    "other": "#f5f6f8",
}
WEIGHTS: Final = {
    "embedding": EMBEDDING,
    "input": INPUT,
    "recurrent": RECURRENT,
    "output": OUTPUT,
    "bias": MUTED,
    "scale": MUTED,
}

STROKE: Final = 1.5
HAIRLINE: Final = 1.0
RADIUS: Final = 7.0

TITLE: Final = 22.0
HEADING: Final = 16.0
BODY: Final = 15.0
SMALL: Final = 14.0
MATH: Final = 18.0
INDEX: Final = 16.0
