"""Small music for tests: chords that follow each other by a rule, with a melody on top."""

import json
import random
from pathlib import Path

PROGRESSION = [(0, 4, 7), (5, 9, 12), (7, 11, 14), (0, 4, 7)]


def tune(draw: random.Random, steps: int = 24) -> list[list[int]]:
    """A piece as a list of steps: each chord for two steps, its third or fifth an octave higher on top."""
    root = 48 + draw.randint(0, 5)
    start = draw.randrange(4)
    found = []
    for t in range(steps):
        chord = PROGRESSION[(start + t // 2) % 4]
        found.append([root + tone for tone in chord] + [root + 12 + chord[1 + t % 2]])
    return found


def tunes(count: int, seed: int = 0) -> list[list[list[int]]]:
    """So many pieces of different lengths."""
    draw = random.Random(seed)
    return [tune(draw, draw.randrange(12, 30, 2)) for _ in range(count)]


def write_lines(path: Path, count: int, seed: int = 0) -> Path:
    """A file with a piece a line."""
    path.write_text("".join(json.dumps(piece) + "\n" for piece in tunes(count, seed)))
    return path
