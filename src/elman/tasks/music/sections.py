"""The part of a report that is about music: what the model writes, beside pieces of the data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from elman.data.music import notes_of_roll
from elman.data.music.copied import figures_of
from elman.page import Section, figure, inline, paragraph, table
from elman.tasks.music import answers
from elman.tasks.music.pieces import Part

if TYPE_CHECKING:
    from elman.tasks.music.task import TrainedMusician

__all__ = ["sections_of"]

SEEDS, SHOWN, STEPS = (1, 2, 3), 3, 128


def sections_of(trained: TrainedMusician, part: Part) -> Iterator[Section]:
    """Pieces that are written at temperature 0.9, their figures beside those of the data, and where it errs most."""
    written = [trained.compose(length=STEPS, seed=seed, temperature=0.9)[0] for seed in SEEDS]
    rows: list[tuple[str, dict[str, object]]] = [
        (f"written, seed {seed}", piece.rows()) for seed, piece in zip(SEEDS, written, strict=True)
    ]
    quarter = 60 / trained.codec.tempo
    for located, roll in list(zip(part.pieces, part.rolls, strict=True))[:SHOWN]:
        notes = notes_of_roll(roll[1:], trained.codec.keys, trained.codec.resolution)
        found = trained.passage_of(roll[1:])
        rows.append((f"data, {located.piece.name}", figures_of(notes, quarter).rows() | found))
    names = list(rows[0][1])
    pieces = [
        table(["", *names], [(name, *(found.get(column, "") for column in names)) for name, found in rows]),
        paragraph(
            "A passage is a run of steps that a piece of the training data has too, in this key or in another; a "
            "change is a step that differs from the one before.",
            kind="quiet",
        ),
    ]
    for seed, piece in zip(SEEDS, written, strict=True):
        pieces.append(_roll(piece.notes, f"written, seed {seed}", 60 / piece.tempo))
    if part.rolls:
        notes = notes_of_roll(part.rolls[0][1 : STEPS + 1], trained.codec.keys, trained.codec.resolution)
        pieces.append(_roll(notes, f"data, {part.pieces[0].piece.name}", quarter))
    yield Section.of("What it writes", *pieces)


def _roll(notes: Any, title: str, quarter: float) -> str:
    from elman.plots.svg import svg

    name = "".join(letter for letter in title if letter.isalnum())
    return figure(inline(svg(answers.picture_of(notes, [], title, quarter, "")), name))
