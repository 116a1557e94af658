"""Sentences with persons and places, drawn: which word is which is told by its letters and by the word before it."""

import random
from pathlib import Path

_FILLING = "so it is and the a of to we you they this that then now here day time way thing"
_PERSONS = "Ada Bo Cy Dora Eli Fay Gus Hal Ivo Jan"
FILLING, PERSONS = _FILLING.split(" "), _PERSONS.split(" ")
ENDINGS = ["ton", "ville", "burg"]


def sentence(draw: random.Random) -> list[tuple[str, str]]:
    """Words with their tags, in BIO."""
    found: list[tuple[str, str]] = []
    for _ in range(draw.randint(1, 3)):
        found += [(word, "O") for word in draw.choices(FILLING, k=draw.randint(1, 3))]
        kind = draw.choice(["person", "place", "none"])
        if kind == "person":
            names = draw.sample(PERSONS, draw.randint(1, 2))
            found += [("Mr.", "O"), *((name, f"{'I' if at else 'B'}-PER") for at, name in enumerate(names))]
        elif kind == "place":
            found += [
                ("in", "O"),
                (
                    "".join(draw.choices("BDFGKLM", k=1)) + draw.choice("aeiou") + draw.choice(ENDINGS),
                    "B-LOC",
                ),
            ]
    return [*found, (".", "O")]


def sentences(count: int, seed: int) -> list[list[tuple[str, str]]]:
    draw = random.Random(seed)
    return [sentence(draw) for _ in range(count)]


def write(path: Path, count: int, seed: int) -> None:
    """As columns."""
    blocks = ["\n".join(f"{word}\t{tag}" for word, tag in own) for own in sentences(count, seed)]
    path.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")


def write_parts(path: Path, count: int, seed: int) -> None:
    """Plain tags, as word/TAG: names, numbers of letters, and the rest."""
    rows = []
    for own in sentences(count, seed):
        tags = ["NAME" if tag != "O" else "STOP" if word == "." else "WORD" for word, tag in own]
        rows.append(" ".join(f"{word}/{tag}" for (word, _), tag in zip(own, tags, strict=True)))
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
