"""Texts of three moods, drawn: words that show one, among words that show none."""

import random
from pathlib import Path

_FILLING = "so it is and the a of to we you they this that then now here day time way thing"
_MOODS = {
    "joy": "happy glad cheerful delighted merry jolly",
    "anger": "angry furious mad cross outraged annoyed",
    "fear": "afraid scared timid anxious nervous worried",
}
FILLING = _FILLING.split(" ")
MOODS = {mood: words.split(" ") for mood, words in _MOODS.items()}


def text(draw: random.Random, *moods: str) -> str:
    """Three to twelve words without a mood, and one to three of each of these."""
    words = draw.choices(FILLING, k=draw.randint(3, 12))
    for mood in moods:
        words += draw.choices(MOODS[mood], k=draw.randint(1, 3))
    return " ".join(draw.sample(words, len(words)))


def rows(count: int, seed: int) -> list[tuple[str, str]]:
    """Texts with their mood."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        mood = draw.choice(list(MOODS))
        found.append((text(draw, mood), mood))
    return found


def write(path: Path, count: int, seed: int) -> Path:
    """A csv file of them."""
    lines = ["text,mood", *(f"{one},{mood}" for one, mood in rows(count, seed))]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_several(path: Path, count: int, seed: int) -> Path:
    """Any number of moods a text, in a tsv file without a header."""
    draw = random.Random(seed)
    lines = []
    for number in range(count):
        moods = draw.sample(list(MOODS), draw.randint(1, 2))
        lines.append(f"{text(draw, *moods)}\t{','.join(moods)}\tid{number}")
    path.write_text("\n".join(lines) + "\n")
    return path
