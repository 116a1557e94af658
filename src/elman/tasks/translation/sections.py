"""The translator's own part of a report: where it looks, how long it writes, what it does worst."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from elman.page import Section, columns, facts, heat_map, paragraph, table
from elman.tasks.translation import learning
from elman.tasks.translation.learning import Search
from elman.tasks.translation.pairs import Part
from elman.tasks.translation.scores import sentence_scores

if TYPE_CHECKING:
    from elman.tasks.translation.task import TrainedTranslator

__all__ = ["attention_map", "sections_of"]

# Sentences of the part that are shown: more of them would not be read.
MOST = 1000
WORST = 20
# A map of more steps is too small to be read.
LONGEST = 40


def sections_of(trained: TrainedTranslator, part: Part) -> Iterator[Section]:
    """Of the first 1,000 pairs."""
    part = part._replace(pairs=part.pairs[:MOST], sources=part.sources[:MOST], targets=part.targets[:MOST])
    found = [own[0].text for own in trained.translate([pair.source for pair in part.pairs])]
    scores = sentence_scores(found, part.references)
    yield Section("Where it looks", _maps(trained, part, found, scores))
    yield Section("Lengths", _lengths(part, found))
    yield Section("Worst translations", _worst(part, found, scores))


def _maps(trained: TrainedTranslator, part: Part, found: Sequence[str], scores: Sequence[float]) -> str:
    """The attention of the best, the median and the worst sentence of a readable length."""
    order = sorted(
        (i for i, tokens in enumerate(part.sources) if 3 <= len(tokens) <= LONGEST and found[i]),
        key=lambda i: scores[i],
    )
    if not order:
        return paragraph("There is no sentence of 3 to 40 tokens.")
    chosen = {"best": order[-1], "median": order[len(order) // 2], "worst": order[0]}
    pieces = []
    for name, i in chosen.items():
        words = f"The {name}, chrF {scores[i]:.1f}. Right: {part.references[i]}"
        pieces.append(paragraph(words) + attention_map(trained, part.pairs[i].source))
    about = paragraph(
        "A row is a token that was written, a column one that was read; the darker, the more the step looked there.",
        kind="quiet",
    )
    return about + "".join(pieces)


def attention_map(trained: Any, source: str) -> str:
    """Where each step of the best translation of a sentence looks, as HTML."""
    codec = trained.codec
    tokens = codec.source.encode([source])
    best = learning.translate(trained.model, tokens, Search(banned=trained.banned))[0][0]
    weights: npt.NDArray[np.float64] = learning.alignments(trained.model, tokens, [best.tokens])[0]
    rows = [codec.target.text(token).strip() or "␣" for token in best.tokens] + ["(end)"]
    names = [codec.source.text(int(token)).strip() or "␣" for token in tokens[0]]
    return heat_map(rows, names, weights.tolist(), "written \\ read")


def _lengths(part: Part, found: Sequence[str]) -> str:
    """How long translations are beside the right ones, by the length of the source."""
    lengths = np.array([len(tokens) for tokens in part.sources])
    written = np.array([len(text.split()) for text in found], dtype=np.float64)
    right = np.array([len(text.split()) for text in part.references], dtype=np.float64)
    limits = [0, 10, 20, 30, 50, int(lengths.max(initial=0)) + 1]
    rows = []
    for low, high in pairwise(limits):
        own = (lengths > low) & (lengths <= high)
        if own.any():
            rows.append(
                (f"{low + 1} to {high}", int(own.sum()), float(written[own].mean()), float(right[own].mean()))
            )
    whole = facts({"words written for each right one": float(written.sum() / max(right.sum(), 1))})
    return columns(whole, table(["tokens of the source", "sentences", "words written", "words right"], rows))


def _worst(part: Part, found: Sequence[str], scores: Sequence[float]) -> str:
    order = sorted(range(len(found)), key=lambda i: scores[i])[:WORST]
    rows = [
        (
            scores[i],
            part.pairs[i].source,
            found[i],
            part.references[i],
            str(part.pairs[i].place).rsplit("/", 1)[-1],
        )
        for i in order
    ]
    return table(["chrF", "source", "translation", "right", "place"], rows)
