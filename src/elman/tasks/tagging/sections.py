"""The tagger's own part of a report: kinds, confusion, unknown words, calibration, errors, what follows what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from elman import metrics
from elman.data.schemes import TagSpan
from elman.page import Html, Line, Section, figure, line_chart, matrix, paragraph, table, text
from elman.page.chart import COLOURS
from elman.tasks.tagging import learning
from elman.tasks.tagging.answers import Tagged, as_words, tagged
from elman.tasks.tagging.scores import by_kind
from elman.tasks.tagging.sentences import Codec, Part

__all__ = ["sections_of"]

Ids = npt.NDArray[np.int64]
WORST, LONGEST = 20, 60
# More tags than these make a table that nobody reads.
MOST_TAGS = 24
GREEN, RED, AMBER = "15, 123, 85", "200, 67, 29", "222, 165, 32"


def sections_of(codec: Codec, part: Part, model: Any) -> Iterator[Section]:
    """On the sentences of a part: all is computed once."""
    emissions = learning.shifted(learning.emissions_of(model, part.numbers), float(model.outside))
    chain = learning.chain_of(model, codec)
    best = learning.best_tags(emissions, chain)
    kept = [i for i, sentence in enumerate(part.sentences) if sentence.words]
    found = [tagged(as_words(part.sentences[i].words), emissions[i], best[i], chain, codec) for i in kept]
    yield Section("Kinds of spans" if codec.scheme else "Tags", _kinds(codec, part, best))
    if 1 < len(codec.tags) <= MOST_TAGS:
        title = "Confusion of tags" if codec.scheme else "Confusion"
        yield Section(title, _confusion(codec, part, best))
    yield Section("Known and unknown words", _unknown(part, best))
    yield Section("Calibration", _calibration(codec, part, kept, found))
    if model.chain is not None and len(codec.tags) <= MOST_TAGS:
        yield Section("What follows what", _moves(codec, model))
    yield Section("Worst errors", _errors(codec, part, kept, found))


def _kinds(codec: Codec, part: Part, best: Sequence[Ids]) -> str:
    rows = [(name or "(no kind)", *values) for name, *values in by_kind(codec, part, best)]
    return table(["kind" if codec.scheme else "tag", "precision", "recall", "F1", "in the data"], rows)


def _confusion(codec: Codec, part: Part, best: Sequence[Ids]) -> str:
    truth, said = np.concatenate(part.truth), np.concatenate(list(best))
    known = truth >= 0
    counts = metrics.confusion(truth[known], said[known], len(codec.tags)).tolist()
    return matrix(codec.tags, codec.tags, counts, "truth \\ answer")


def _unknown(part: Part, best: Sequence[Ids]) -> str:
    odd = np.concatenate([numbers[:, 0] == 0 for numbers in part.numbers])
    right = np.concatenate([truth == said for truth, said in zip(part.truth, best, strict=True)])
    rows = [
        (name, int(own.sum()), float(right[own].mean()))
        for name, own in (("in the table", ~odd), ("spelled only", odd))
        if own.any()
    ]
    words = paragraph(
        "A word that the training data do not have is known by its letters alone.", kind="quiet"
    )
    return words + table(["words", "in the data", "right tags"], rows)


def _calibration(codec: Codec, part: Part, kept: Sequence[int], found: Sequence[Tagged]) -> str:
    """Of spans where there are any, else of tags."""
    if codec.scheme:
        pairs = [
            (sure, span in set(part.spans[i]))
            for i, one in zip(kept, found, strict=True)
            for span, sure in zip(one.spans, one.sure, strict=True)
        ]
    else:
        pairs = [
            (float(p), bool(right))
            for i, one in zip(kept, found, strict=True)
            for p, right in zip(one.p, one.tags == part.truth[i], strict=True)
        ]
    if not pairs:
        return paragraph("No span was answered.")
    sure, right = np.array([p for p, _ in pairs]), np.array([hit for _, hit in pairs])
    measured = metrics.calibration(sure, right)
    points = list(zip(measured.confidence, measured.accuracy, strict=True))
    diagonal = Line("as sure as right", [(0.0, 0.0), (1.0, 1.0)], COLOURS[5], faint=True)
    what = "spans" if codec.scheme else "tags"
    chart = line_chart(
        [diagonal, Line(what, points, dots=True)], f"probability of {what}", "share that is right"
    )
    words = f"Expected calibration error {measured.error:.3f}: how far, in the mean, probability and truth lie apart."
    return figure(chart, words)


def _moves(codec: Codec, model: Any) -> str:
    """exp A, each row's sum 1: what the chain alone expects behind a tag."""
    chain = learning.chain_of(model, codec)
    odds = np.exp(chain.transitions - chain.transitions.max(axis=1, keepdims=True))
    shares = np.round(odds / odds.sum(axis=1, keepdims=True), 2).tolist()
    words = paragraph("What the chain alone, before it has seen a word, expects behind a tag.", kind="quiet")
    return words + matrix(codec.tags, codec.tags, shares, "tag \\ next tag")


def _errors(codec: Codec, part: Part, kept: Sequence[int], found: Sequence[Tagged]) -> str:
    """The sentences whose wrong tags the model was surest of."""
    cost = [
        float(-np.log1p(-np.minimum(one.p[one.tags != part.truth[i]], 1 - 1e-12)).sum())
        for i, one in zip(kept, found, strict=True)
    ]
    worst = [int(n) for n in np.argsort(-np.array(cost), kind="stable") if cost[n] > 0][:WORST]
    if not worst:
        return paragraph("There are none.")
    show = _shown_spans if codec.scheme else _shown_tags
    rows = [
        (show(codec, part, kept[n], found[n]), str(part.sentences[kept[n]].place).rsplit("/", 1)[-1])
        for n in worst
    ]
    legend = (
        "Green spans are right, red ones are answered and wrong, amber ones are missed."
        if codec.scheme
        else "Red words have a wrong tag: the answer, then the truth."
    )
    return paragraph(legend, kind="quiet") + table(["sentence", "place"], rows)


def _mark(words: str, note: str, colour: str) -> str:
    tone = f"background: rgba({colour}, 0.28)"
    return f'<mark style="{tone}">{text(words)}<small> {text(note)}</small></mark>'


def _shown_tags(codec: Codec, part: Part, i: int, found: Tagged) -> Html:
    sentence = part.sentences[i]
    pieces = []
    for word, said, own in zip(sentence.words[:LONGEST], found.tags, sentence.tags, strict=False):
        answer = codec.tags[said]
        pieces.append(text(word) if answer == own else _mark(word, f"{answer}, not {own}", RED))
    return Html(" ".join(pieces) + " ..." * (len(sentence.words) > LONGEST))


def _shown_spans(codec: Codec, part: Part, i: int, found: Tagged) -> Html:
    """The answered spans; missed ones where they overlap none, else named beside those."""
    words, truth = part.sentences[i].words, part.spans[i]
    marks: dict[int, tuple[TagSpan, str, str]] = {}
    for span in found.spans:
        right = span in truth
        clash = [
            own for own in truth if own.start < span.end and span.start < own.end and own not in found.spans
        ]
        other = f", not {' '.join(_named(words, own) for own in clash)}" if clash and not right else ""
        marks[span.start] = (span, f"{span.kind}{other}", GREEN if right else RED)
    taken = {at for span in found.spans for at in range(span.start, span.end)}
    for own in truth:
        if not taken & set(range(own.start, own.end)):
            marks[own.start] = (own, own.kind, AMBER)
    pieces, at = [], 0
    while at < min(len(words), LONGEST):
        span, note, colour = marks.get(at, (TagSpan(at, at + 1, ""), "", ""))
        said = " ".join(words[span.start : span.end])
        pieces.append(_mark(said, note, colour) if colour else text(said))
        at = span.end
    return Html(" ".join(pieces) + " ..." * (at < len(words)))


def _named(words: Sequence[str], span: TagSpan) -> str:
    return f"{span.kind} ({' '.join(words[span.start : span.end])})"
