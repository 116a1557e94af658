"""From words to their tags and spans: what a run of tagging and a frozen model of one have in common."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.data.bucketing import cuts
from elman.data.schemes import TagSpan, spans_of, split_tag
from elman.data.spelled import Codec, encode_words
from elman.data.words import Span
from elman.decoding.chain import Chain, infer, viterbi
from elman.runtime.model import Frozen, FrozenError
from elman.runtime.model import text_of as _text

__all__ = [
    "Tagged",
    "TextTagger",
    "Words",
    "answer_of",
    "as_words",
    "best_tags",
    "chain_of",
    "place_of",
    "shifted",
    "side_by_side",
    "spans_in",
    "tagged",
]

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
# Padded size of a batch without gradients, and the most sentences in it.
BUDGET, MOST = 1 << 14, 256


class Words(NamedTuple):
    """A text and its words, each with its place in the text."""

    text: str
    spans: list[Span]

    @property
    def words(self) -> list[str]:
        """The words alone."""
        return [span.word for span in self.spans]


class Tagged(NamedTuple):
    """Words with the numbers of their tags `(T,)` and p of each; the spans, and p that each is just so."""

    source: Words
    tags: Ids
    p: Floats
    spans: list[TagSpan]
    sure: list[float]


def as_words(words: Sequence[str]) -> Words:
    """Words as they were given, with one space between two."""
    ends = np.cumsum([len(word) + 1 for word in words]) - 1
    spans = [Span(word, int(end) - len(word), int(end)) for word, end in zip(words, ends, strict=True)]
    return Words(" ".join(words), spans)


def chain_of(codec: Codec, transitions: Floats | None, start: Floats, end: Floats) -> Chain:
    """What follows what: learned, or nothing (None) but what the scheme of the tags forbids."""
    pairs, first, last = codec.allowed
    K = len(codec.tags)
    moves = np.zeros((K, K)) if transitions is None else transitions
    starts, ends = (np.zeros(K), np.zeros(K)) if transitions is None else (start, end)
    return Chain(
        np.where(pairs, moves, -np.inf), np.where(first, starts, -np.inf), np.where(last, ends, -np.inf)
    )


def shifted(emissions: Sequence[Floats], outside: float) -> list[Floats]:
    """The same with a number added for tag 0, which is O where tags mark spans: how readily a word is called so."""
    if not outside:
        return list(emissions)
    return [np.concatenate([row[:, :1] + outside, row[:, 1:]], axis=1) for row in emissions]


def side_by_side(rows: Sequence[Floats]) -> Iterator[tuple[Ids, Floats, Ids]]:
    """Batches of like lengths: which rows, emissions `(T, B, K)`, lengths `(B,)`; empty rows are left out."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    for a, b in pairwise(cuts(lengths[order], BUDGET, MOST)):
        own = order[a:b]
        padded = np.zeros((int(lengths[own].max()), len(own), rows[0].shape[1]))
        for place, i in enumerate(own):
            padded[: lengths[i], place] = rows[i]
        yield own, padded, lengths[own]


def best_tags(emissions: Sequence[Floats], chain: Chain) -> list[Ids]:
    """The best sound sequence of tags for each sentence, `(T,)`."""
    if not chain.transitions.any() and not chain.start.any() and not chain.end.any():
        return [row.argmax(axis=1) for row in emissions]
    found = [np.zeros(0, dtype=np.int64) for _ in emissions]
    for own, padded, lengths in side_by_side(emissions):
        tags, _ = viterbi(padded, lengths, chain)
        for place, i in enumerate(own):
            found[i] = tags[: lengths[place], place]
    return found


def spans_in(tags: Ids, codec: Codec) -> list[TagSpan]:
    """The spans that tags `(T,)` mark."""
    return spans_of([codec.tags[number] for number in tags]) if codec.scheme else []


def tagged(source: Words, emissions: Floats, tags: Ids, chain: Chain, codec: Codec) -> Tagged:
    """How sure the answer is: p of each tag, and of each span that it begins, ends and is called so."""
    known = infer(emissions, chain)
    p = known.marginals()[np.arange(len(tags)), tags]
    spans = spans_in(tags, codec)
    sure = [
        known.stretch(
            span.start, tags[span.start : span.end].tolist(), _longer(codec, int(tags[span.end - 1]))
        )
        for span in spans
    ]
    return Tagged(source, tags, p, spans, sure)


def _longer(codec: Codec, last: int) -> list[int]:
    """The tags that would make a span longer that ends in the tag `last`."""
    letter, kind = split_tag(codec.tags[last]) or ("O", "")
    if letter not in {"B", "I"}:
        return []
    parts = [split_tag(tag) or ("O", "") for tag in codec.tags]
    return [number for number, (own, of) in enumerate(parts) if own in {"I", "E"} and of == kind]


def place_of(source: Words, span: TagSpan) -> tuple[int, int]:
    """Where a span begins and ends in the text."""
    return source.spans[span.start].start, source.spans[span.end - 1].end


def answer_of(found: Tagged, codec: Codec) -> dict[str, Any]:
    """The answer as JSON: the words with their tags and places, and the spans where the tags mark such."""
    source = found.source
    words = [
        {
            "word": span.word,
            "start": span.start,
            "end": span.end,
            "tag": codec.tags[tag],
            "probability": round(float(p), 6),
        }
        for span, tag, p in zip(source.spans, found.tags, found.p, strict=True)
    ]
    data: dict[str, Any] = {"text": source.text, "words": words}
    if codec.scheme:
        data["spans"] = [
            {
                "text": source.text[a:b],
                "label": span.kind,
                "start": a,
                "end": b,
                "probability": round(sure, 6),
            }
            for span, sure in zip(found.spans, found.sure, strict=True)
            for a, b in [place_of(source, span)]
        ]
    return data


class TextTagger(Frozen):
    """A tagger with its words, letters and tags."""

    def __init__(self, source: str | bytes | Frozen) -> None:
        super().__init__(source)
        self.codec = Codec.from_json(json.loads(_text(self, "codec")))
        chain = json.loads(_text(self, "chain"))
        self.outside, learned = float(chain["outside"]), chain["transitions"] is not None
        parts = [np.array(chain[name], dtype=np.float64) for name in ("transitions", "start", "end")]
        self.learned = learned
        self.chain = chain_of(self.codec, parts[0] if learned else None, parts[1], parts[2])

    def emissions(self, sentences: Sequence[Sequence[str]]) -> list[Floats]:
        """What the network says of each word of each sentence, `(T, K)`: log p(tag), or under a chain its scores."""
        numbers = [encode_words(words, self.codec) for words in sentences]
        lengths = np.array([len(row) for row in numbers], dtype=np.int64)
        order = np.argsort(lengths, kind="stable")
        order = order[lengths[order] > 0]
        found: list[Floats] = [np.zeros((0, len(self.codec.tags))) for _ in numbers]
        for a, b in pairwise(cuts(lengths[order], BUDGET, MOST)):
            own = order[a:b]
            logits = self._logits([numbers[i] for i in own], lengths[own])
            for place, i in enumerate(own):
                found[i] = logits[: lengths[i], place]
        return found if self.learned else [_log_softmax(row) for row in found]

    def _logits(self, rows: Sequence[Ids], lengths: Ids) -> Floats:
        T, B = int(lengths.max()), len(rows)
        arrays = [np.zeros((T, B, *a.shape), np.int64) for a in self.inputs]
        for place, row in enumerate(rows):
            arrays[0][: len(row), place] = row[:, 0]
            if len(arrays) > 1:
                wide = min(arrays[1].shape[2], row.shape[1] - 1)
                arrays[1][: len(row), place, :wide] = row[:, 1 : 1 + wide]
        return np.asarray(self.run(*arrays, lengths=lengths).y, dtype=np.float64)

    def predict(self, texts: Sequence[str | Sequence[str]]) -> list[dict[str, Any]]:
        """The answer to each text, or to the words of one, as `elman predict --json` has it: of a text without words
        too, {"error": "empty text"}.

        FrozenError for one text in place of a list of them, and for what is neither a text nor words.
        """
        if isinstance(texts, str | bytes):
            raise FrozenError("one text is given; expected a list of texts, or of lists of words")
        for number, text in enumerate(texts):
            words = () if isinstance(text, str) else text
            if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
                raise FrozenError(f"text {number} is neither a text nor a list of words")
        sources = [
            Words(text, self.codec.tokenizer.spans(text)) if isinstance(text, str) else as_words(text)
            for text in texts
        ]
        asked = [source for source in sources if source.spans]
        emissions = shifted(self.emissions([source.words for source in asked]), self.outside)
        best = best_tags(emissions, self.chain)
        found = (
            answer_of(tagged(source, row, tags, self.chain, self.codec), self.codec)
            for source, row, tags in zip(asked, emissions, best, strict=True)
        )
        return [next(found) if source.spans else {"error": "empty text"} for source in sources]


def _log_softmax(o: Floats) -> Floats:
    top = o - o.max(axis=1, keepdims=True, initial=-np.inf)
    return np.asarray(top - np.log(np.exp(top).sum(axis=1, keepdims=True)))
