"""Metrics: how good answers are, and what simple rules reach beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from elman import metrics
from elman.data.schemes import TagSpan
from elman.runtime.tagging import spans_in
from elman.tasks.base import Baseline
from elman.tasks.tagging.learning import best_tags, shifted, side_by_side
from elman.tasks.tagging.sentences import Codec, Part, Sentences
from elman.training.score import Score

if TYPE_CHECKING:
    from elman.decoding.chain import Chain

__all__ = ["baselines", "loss_figure", "metric_of", "score_of", "spans_in", "tune_outside", "with_interval"]

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
# What is added for O goes by so many nats, so often at most.
STEP, FARTHEST = 0.5, 8


def metric_of(codec: Codec) -> str:
    """The measure by which a model is chosen."""
    return "span F1" if codec.scheme else "accuracy"


def _outside(spans: Sequence[TagSpan], apart: npt.NDArray[np.bool_]) -> list[TagSpan]:
    """The spans without a word that is measured apart."""
    return [span for span in spans if not apart[span.start : span.end].any()]


def _word_counts(part: Part, answers: Sequence[Ids]) -> Ids:
    """Right words, words, right words that the table does not have, and such words, of each sentence `(N, 4)`."""
    rows = []
    for truth, said, numbers, apart in zip(part.truth, answers, part.numbers, part.apart, strict=True):
        right, odd = (truth == said) & ~apart, (numbers[:, 0] == 0) & ~apart
        rows.append((right.sum(), (~apart).sum(), (right & odd).sum(), odd.sum()))
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def _span_counts(codec: Codec, part: Part, answers: Sequence[Ids], *, whole: bool) -> Ids:
    said = [spans_in(tags, codec) for tags in answers]
    if whole:
        return metrics.span_counts(part.spans, said)
    inside = [
        [_outside(s, apart) for s, apart in zip(own, part.apart, strict=True)] for own in (part.spans, said)
    ]
    return metrics.span_counts(*inside)


def _share(counts: Ids) -> float:
    right, total = counts[:, 0].sum(), counts[:, 1].sum()
    return float(right / total) if total else float("nan")


def score_of(codec: Codec, part: Part, answers: Sequence[Ids], loss: float | None = None) -> Score:
    """The measure of answers `(T,)` of each sentence, with all others as figures; what lies apart is left out of it."""
    words = _word_counts(part, answers)
    figures: dict[str, Any] = {}
    value = _share(words)
    if codec.scheme:
        counts = _span_counts(codec, part, answers, whole=False)
        hits, said, own = counts.sum(axis=0).tolist()
        figures |= {"precision": hits / said if said else 0.0, "recall": hits / own if own else 0.0}
        figures |= {"accuracy": value, "spans": own}
        value = metrics.span_f1(counts)
        if any(apart.any() for apart in part.apart):
            total = _span_counts(codec, part, answers, whole=True)
            figures |= {"total_span_F1": metrics.span_f1(total), "total_spans": int(total[:, 2].sum())}
    if words[:, 3].any():
        figures["accuracy_of_unknown_words"] = _share(words[:, 2:])
    if loss is not None:
        figures["loss"] = loss
    figures |= {"words": int(words[:, 1].sum()), "sentences": len(part.sentences)}
    return Score(metric_of(codec), value, higher=True, figures=figures)


def loss_figure(part: Part, emissions: Sequence[Floats], chain: Chain) -> float:
    """-log p of the true tags, a word, over the sentences whose tags the model has all; sound sequences share p."""
    from elman.decoding.chain import log_partition, score

    total, words = 0.0, 0
    for own, padded, lengths in side_by_side(emissions):
        sums = log_partition(padded, lengths, chain)
        for i, log_z in zip(own, sums, strict=True):
            if (part.truth[i] >= 0).all():
                total += float(log_z) - score(emissions[i], part.truth[i], chain)
                words += len(part.truth[i])
    return total / words if words else float("nan")


def tune_outside(codec: Codec, part: Part, emissions: Sequence[Floats], chain: Chain) -> float:
    """What to add for O, in nats, so that the span F1 on these sentences is highest: uphill from 0 by half a nat.

    Compared are means of three neighbours: one by itself may be high by chance. Where training data name few
    spans and others many, or the other way round, a network is too slow or too quick to answer.
    """
    known: dict[int, float] = {}

    def reached(at: int) -> float:
        if at not in known:
            answers = best_tags(shifted(emissions, at * STEP), chain)
            known[at] = metrics.span_f1(_span_counts(codec, part, answers, whole=False))
        return known[at]

    def smooth(at: int) -> float:
        return sum(reached(near) for near in (at - 1, at, at + 1)) / 3

    best = 0
    for way in (-1, 1):
        while abs(best + way) <= FARTHEST and smooth(best + way) > smooth(best):
            best += way
    return best * STEP


def with_interval(found: Score, codec: Codec, part: Part, answers: Sequence[Ids]) -> Score:
    """The same with its 95 % interval, sentences drawn anew 1,000 times, and the measures of each kind."""
    if codec.scheme:
        counts = _span_counts(codec, part, answers, whole=False)
        interval = metrics.bootstrap(metrics.span_f1, (counts,))
    else:
        interval = metrics.bootstrap(_share, (_word_counts(part, answers),))
    rows = {
        name: {"precision": p, "recall": r, "f1": f, "count": n}
        for name, p, r, f, n in by_kind(codec, part, answers)
    }
    return found._replace(
        interval=interval, figures={**found.figures, "by_kind" if codec.scheme else "by_tag": rows}
    )


def by_kind(codec: Codec, part: Part, answers: Sequence[Ids]) -> list[tuple[str, float, float, float, int]]:
    """Precision, recall, F1 and count of each kind of span, or of each tag."""
    if not codec.scheme:
        truth, chosen = np.concatenate(part.truth), np.concatenate(list(answers))
        K = len(codec.tags)
        # A tag that the model does not have is a class of its own, which is never answered.
        found = metrics.per_class(np.where(truth < 0, K, truth), chosen, K + 1)
        columns = [column.tolist() for column in found]
        return [(name, *(column[k] for column in columns)) for k, name in enumerate(codec.tags)]
    rows = []
    kinds = sorted({span.kind for spans in part.spans for span in spans} | set(codec.kinds))
    said = [_outside(spans_in(tags, codec), apart) for tags, apart in zip(answers, part.apart, strict=True)]
    own = [_outside(spans, apart) for spans, apart in zip(part.spans, part.apart, strict=True)]
    for kind in kinds:
        pair = [[[span for span in spans if span.kind == kind] for spans in side] for side in (own, said)]
        hits, predicted, actual = metrics.span_counts(*pair).sum(axis=0).tolist()
        p, r = (hits / total if total else 0.0 for total in (predicted, actual))
        rows.append((kind, p, r, metrics.f1(hits, predicted, actual), actual))
    return rows


def baselines(prepared: Sentences, *, tune: bool) -> Iterator[Baseline]:
    """The most frequent tag of each word, and a linear model of the words around and their ends.

    tune: whether what is added for O is tuned on the validation data for the linear model, as for the network.
    """
    from elman.baselines import FrequentTag, TagModel
    from elman.decoding.chain import Chain

    codec, train = prepared.codec, prepared.parts["train"]
    sentences = [sentence.words for sentence in train.sentences]
    K = len(codec.tags)
    free = Chain(
        *(
            np.where(part, 0.0, -np.inf)
            for part in (codec.allowed.pairs, codec.allowed.first, codec.allowed.last)
        )
    )
    frequent = FrequentTag.fit(sentences, train.truth, K)
    linear = TagModel.fit(sentences, train.truth, K)
    known = {
        part.name: linear.log_probabilities([sentence.words for sentence in part.sentences])
        for part in prepared.parts.values()
        if part.name != "train"
    }
    valid = prepared.part("valid")
    tuned = tune_outside(codec, valid, known["valid"], free) if codec.scheme and valid and tune else 0.0
    for part in prepared.parts.values():
        if part.name != "train":
            often = [frequent(sentence.words) for sentence in part.sentences]
            yield Baseline("most frequent tag", part.name, score_of(codec, part, often))
            best = best_tags(shifted(known[part.name], tuned), free)
            yield Baseline("linear model of words and affixes", part.name, score_of(codec, part, best))
