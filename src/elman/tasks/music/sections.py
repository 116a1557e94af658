"""The part of a report that is about music: what the model writes, beside pieces of the data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from elman.data.music.copied import figures_of
from elman.page import Section, figure, inline, paragraph, table
from elman.tasks.music import answers
from elman.tasks.music.pieces import Part
from elman.tasks.music.written import COPIED, compared, notes_of, passage_in_words

if TYPE_CHECKING:
    from elman.tasks.music.task import TrainedMusician

__all__ = ["sections_of"]

SEEDS, SHOWN, STEPS, EVENTS = (1, 2, 3), 3, 128, 512


def sections_of(trained: TrainedMusician, part: Part) -> Iterator[Section]:
    """Pieces that are written at temperature 0.9, their figures beside those of the data, and where it errs most."""
    length = STEPS if trained.codec.words is None else EVENTS
    written = [trained.compose(length=length, seed=seed, temperature=0.9)[0] for seed in SEEDS]
    rows: list[tuple[str, dict[str, object]]] = [
        (f"written, seed {seed}", piece.rows()) for seed, piece in zip(SEEDS, written, strict=True)
    ]
    quarter = 60 / trained.codec.tempo
    codec = trained.codec
    for located, sequence in list(zip(part.pieces, part.sequences, strict=True))[:SHOWN]:
        found = passage_in_words(trained.longest_passage(compared(codec, sequence)))
        figures = figures_of(notes_of(codec, sequence), quarter).rows()
        rows.append((f"data, {located.piece.name}", figures | {COPIED: found}))
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
    if part.sequences:
        notes = notes_of(
            codec, part.sequences[0][:STEPS] if codec.words is None else part.sequences[0][:EVENTS]
        )
        pieces.append(_roll(notes, f"data, {part.pieces[0].piece.name}", quarter))
    yield Section.of("What it writes", *pieces)


def _roll(notes: Any, title: str, quarter: float) -> str:
    from elman.plots.svg import svg

    name = "".join(letter for letter in title if letter.isalnum())
    return figure(inline(svg(answers.picture_of(notes, [], title, quarter, "")), name))
