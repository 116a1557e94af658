"""The task's own part of a report: of a recognizer errors and pictures of what it heard; of classes their confusion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from elman import metrics
from elman.page import Section, details, figure, matrix, paragraph, table
from elman.tasks.speech import learning, scores
from elman.tasks.speech.hearing import Heard
from elman.tasks.speech.pictures import heard_picture
from elman.tasks.speech.recordings import Part
from elman.tasks.speech.writing import written

if TYPE_CHECKING:
    from elman.tasks.speech.task import TrainedSpeech

__all__ = ["sections_of"]

WORST, PAIRS = 20, 15


def sections_of(trained: TrainedSpeech, part: Part) -> Iterator[Section]:
    """The sections for a part of the data."""
    steps = learning.normalized(part, trained.codec, trained.config)
    if trained.codec.classes:
        yield from _of_classes(trained, part, learning.probabilities(trained.model, steps))
    else:
        yield from _of_text(trained, part, written(trained.model, steps, trained.codec, trained.config))


def _of_text(trained: TrainedSpeech, part: Part, found: Sequence[tuple[Heard, Any]]) -> Iterator[Section]:
    said, logs = [heard for heard, _ in found], [chances for _, chances in found]
    errors = scores.errors_of(part.texts, [one.text for one in said])
    rates = errors.words / np.maximum(errors.of_words, 1)
    order = np.lexsort((-errors.characters, -rates))
    chosen = {"best": order[-1], "median": order[len(order) // 2], "worst": order[0]}
    pictures = []
    for word, i in chosen.items():
        name, texts = (
            part.recordings[i].path.name,
            f"said: {part.texts[i]}; heard: {said[i].text or 'nothing'}",
        )
        picture = heard_picture(
            part.frames(int(i)), logs[i], said[i], trained.codec, trained.config.features, word
        )
        pictures.append(figure(picture, f"The {word} recording, {name}, WER {rates[i]:.2f}. {texts}"))
    shown = (
        "the chance of each symbol over time, the blank left out"
        if trained.config.by_ctc
        else "where the decoder looked as it wrote each symbol"
    )
    words = paragraph(
        f"Above the log-mel features, low bands below; under them {shown}, and the words that are made of them.",
        kind="quiet",
    )
    yield Section("What is heard", words + "".join(pictures))
    yield Section("Confused words", _pairs(part.texts, [one.text for one in said]))
    wrong = [i for i in order if errors.words[i]][:WORST]
    rows = [
        (part.texts[i], said[i].text, float(rates[i]), str(part.recordings[i].place).rsplit("/", 1)[-1])
        for i in wrong
    ]
    worst = table(["said", "heard", "WER", "place"], rows) if rows else paragraph("There are none.")
    yield Section("Worst errors", worst)


def _pairs(truth: Sequence[str], said: Sequence[str]) -> str:
    """Which words were taken for which, the commonest first."""
    import jiwer

    found = jiwer.process_words(list(truth), list(said))
    pairs: Counter[tuple[str, str]] = Counter()
    for reference, answer, chunks in zip(found.references, found.hypotheses, found.alignments, strict=True):
        for chunk in chunks:
            if chunk.type == "equal":
                continue
            own = reference[chunk.ref_start_idx : chunk.ref_end_idx]
            other = answer[chunk.hyp_start_idx : chunk.hyp_end_idx]
            size = max(len(own), len(other))
            padded = (list(row) + ["(nothing)"] * (size - len(row)) for row in (own, other))
            pairs.update(zip(*padded, strict=True))
    if not pairs:
        return paragraph("There are none.")
    return table(["said", "heard", "times"], [(a, b, count) for (a, b), count in pairs.most_common(PAIRS)])


def _of_classes(trained: TrainedSpeech, part: Part, p: npt.NDArray[np.float64]) -> Iterator[Section]:
    names, truth = trained.codec.classes, scores.classes_of(part)
    answers = p.argmax(axis=1)
    found = metrics.per_class(truth, answers, len(names))
    rows = list(zip(names, *(column.tolist() for column in found), strict=True))
    yield Section("Classes", table(["class", "precision", "recall", "F1", "recordings"], rows))
    counts = metrics.confusion(truth, answers, len(names)).tolist()
    yield Section("Confusion", matrix(names, names, counts, "truth \\ answer"))
    speakers = sorted({recording.speaker for recording in part.recordings} - {""})
    if len(speakers) > 1:
        yield Section(
            "Speakers", details("the accuracy of each", _by_speaker(part, speakers, answers == truth))
        )
    wrong = [int(i) for i in np.argsort(p[np.arange(len(truth)), truth]) if answers[i] != truth[i]][:WORST]
    errors = [
        (
            part.recordings[i].path.name,
            names[truth[i]],
            names[answers[i]],
            float(p[i, answers[i]]),
        )
        for i in wrong
    ]
    worst = (
        table(["recording", "truth", "answer", "chance"], errors) if errors else paragraph("There are none.")
    )
    yield Section("Worst errors", worst)


def _by_speaker(part: Part, speakers: Sequence[str], right: npt.NDArray[np.bool_]) -> str:
    own = np.array([recording.speaker for recording in part.recordings])
    rows = [(name, float(right[own == name].mean()), int((own == name).sum())) for name in speakers]
    return table(["speaker", "accuracy", "recordings"], rows)
