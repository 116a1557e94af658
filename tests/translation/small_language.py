"""A small language: words and their translations, written in the opposite order."""

import random
from pathlib import Path

WORDS = {
    "ein": "a",
    "hund": "dog",
    "katze": "cat",
    "sieht": "sees",
    "rot": "red",
    "haus": "house",
    "das": "the",
}


def translated(source: str) -> str:
    """The right translation."""
    return " ".join([*(WORDS[word] for word in reversed(source.split()[:-1])), "."])


def sentences(count: int, seed: int) -> list[str]:
    """Sentences of the small language; signs stand alone, as tokenizers leave them."""
    draw = random.Random(seed)
    return [" ".join([*draw.choices([*WORDS], k=draw.randint(1, 5)), "."]) for _ in range(count)]


def write(folder: Path, count: int = 500, seed: int = 0) -> None:
    """train.de and train.en."""
    sources = sentences(count, seed)
    (folder / "train.de").write_text("".join(f"{source}\n" for source in sources))
    (folder / "train.en").write_text("".join(f"{translated(source)}\n" for source in sources))
