"""Metrics: word and character error rate, accuracy of classes, and what simple rules reach beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman import metrics
from elman.tasks.base import Baseline
from elman.tasks.speech.recordings import Codec, Part, Speech
from elman.training.score import Remark, Score

__all__ = ["Errors", "baselines_of", "class_score", "errors_of", "text_score"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


# CTC's first way down is to write nothing; a network that has not left it by then mostly does not.
BLANKS = Remark(
    "nothing written yet, as is normal at the start",
    "still nothing written: try another --rate, or less --dropout; do the transcripts fit their recordings?",
    600,
)


class Errors(NamedTuple):
    """For each recording `(N,)`: words that are wrong (replaced, left out, put in), words of the truth; and characters.

    substitutions, deletions, insertions: of words, over all recordings.
    """

    words: Ints
    of_words: Ints
    characters: Ints
    of_characters: Ints
    substitutions: int
    deletions: int
    insertions: int


def errors_of(truth: Sequence[str], said: Sequence[str]) -> Errors:
    """The least edits between transcripts and what was written (jiwer). No transcript may be empty."""
    import jiwer

    words = jiwer.process_words(list(truth), list(said))
    letters = jiwer.process_characters(list(truth), list(said))
    return Errors(
        _edits(words),
        np.array([len(row) for row in words.references], dtype=np.int64),
        _edits(letters),
        np.array([len(row) for row in letters.references], dtype=np.int64),
        words.substitutions,
        words.deletions,
        words.insertions,
    )


def _edits(found: Any) -> Ints:
    """Edits of each recording, from its alignment."""

    def size(chunk: Any) -> int:
        reference = chunk.ref_end_idx - chunk.ref_start_idx
        return int(max(reference, chunk.hyp_end_idx - chunk.hyp_start_idx))

    return np.array(
        [sum(size(chunk) for chunk in row if chunk.type != "equal") for row in found.alignments],
        dtype=np.int64,
    )


def text_score(truth: Sequence[str], said: Sequence[str], *, interval: bool = False) -> Score:
    """The word error rate with all else as figures; interval: recordings drawn anew 1,000 times."""
    found = errors_of(truth, said)
    figures = {
        "CER": _rate(found.characters, found.of_characters),
        "substitutions": found.substitutions,
        "deletions": found.deletions,
        "insertions": found.insertions,
        "words": int(found.of_words.sum()),
        "whole_right": float((found.words == 0).mean()),
        "empty": float(np.mean([not text for text in said])),
        "recordings": len(truth),
    }
    value = _rate(found.words, found.of_words)
    score = Score("WER", value, higher=False, figures=figures)
    if figures["empty"] == 1:
        score = score._replace(remark=BLANKS)
    if not interval:
        return score
    return score._replace(interval=metrics.bootstrap(_rate, (found.words, found.of_words)))


def _rate(wrong: Ints, of: Ints) -> float:
    return float(wrong.sum() / max(int(of.sum()), 1))


def class_score(truth: Ints, p: Floats, *, interval: bool = False) -> Score:
    """The accuracy of probabilities `(N, K)`."""
    answers = p.argmax(axis=1)
    figures = {
        "macro_F1": metrics.macro_f1(truth, answers, p.shape[1]),
        "loss": metrics.log_loss(truth, p),
        "recordings": len(truth),
    }
    score = Score("accuracy", metrics.accuracy(truth, answers), higher=True, figures=figures)
    if not interval:
        return score
    return score._replace(interval=metrics.bootstrap(metrics.accuracy, (truth, answers)))


def classes_of(part: Part) -> Ints:
    """The class of each recording, `(N,)`."""
    return np.array([int(row[0]) for row in part.truth], dtype=np.int64)


# Baselines


def baselines_of(prepared: Speech) -> Iterator[Baseline]:
    """The commonest answer, and that of the training recording whose mean features are nearest."""
    codec, train = prepared.codec, prepared.parts["train"]
    usual = Counter(train.texts).most_common(1)[0][0]
    known = _means(train, codec)
    for name, part in prepared.parts.items():
        if name == "train":
            continue
        nearest = [train.texts[i] for i in _nearest(_means(part, codec), known)]
        for rule, said in (
            ("the commonest answer", [usual] * len(part.texts)),
            ("nearest recording", nearest),
        ):
            yield Baseline(rule, name, _score(codec, part, said))


def _score(codec: Codec, part: Part, said: Sequence[str]) -> Score:
    if not codec.classes:
        return text_score(part.texts, said)
    p = np.array([[float(name == word) for name in codec.classes] for word in said])
    return class_score(classes_of(part), p)


def _means(part: Part, codec: Codec) -> Floats:
    """The mean of the features of each recording, `(N, F)`."""
    rows = [part.frames(i).mean(axis=0) for i in range(len(part.recordings))]
    return np.array(rows, dtype=np.float64) / codec.statistics.deviation


def _nearest(rows: Floats, known: Floats) -> list[int]:
    found: list[int] = []
    for block in np.array_split(rows, max(1, len(rows) // 256)):
        distances = (known**2).sum(axis=1) - 2 * block @ known.T
        found += distances.argmin(axis=1).tolist()
    return found
