"""Predict: a translation for every line, the n best, scores, and where the network looked."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.config import Amount, Count, Flag, UserError, Whole, option
from elman.data.account import OnBad
from elman.data.pairs import ODD_RATIO, SHORT
from elman.data.subwords import UNKNOWN, Vocabulary
from elman.tasks import verbs
from elman.tasks.base import Answer
from elman.tasks.translation.learning import Search
from elman.tasks.translation.pairs import Codec

__all__ = [
    "Evaluate",
    "Predict",
    "Translation",
    "answer_of",
    "detokenized",
    "oddness",
    "predict",
    "search_of",
    "spelled",
    "tokenized",
]

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Evaluate(verbs.Evaluate):
    """Flags of `elman evaluate`."""

    target_from: tuple[str, ...] = option(
        (), "files whose lines are the translations of the lines of --data", unit="PATH", needs={"data": True}
    )
    on_bad: OnBad = option(
        "auto",
        "pairs of --data that cannot be used: skip them, refuse the data, or auto: refuse where they are more than 1 %",
        needs={"data": True},
    )
    beam: Count = option(
        5, "translations that are followed at once (1: the likeliest token each time)", unit="COUNT"
    )
    length_penalty: Amount = option(
        0.6, "how much longer translations are favoured: alpha of Wu et al. 2016", unit="ALPHA"
    )


@dataclass(frozen=True)
class Predict(verbs.Predict):
    """Flags of `elman predict`."""

    together: Count = option(256, "inputs that are answered at once, at most", unit="COUNT")
    beam: Count = option(
        5, "translations that are followed at once (1: the likeliest token each time)", unit="COUNT"
    )
    n_best: Count = option(
        1,
        "translations of each line, best first; of several each line is `number ||| text ||| score`",
        unit="COUNT",
    )
    length_penalty: Amount = option(
        0.6, "how much longer translations are favoured: alpha of Wu et al. 2016", unit="ALPHA"
    )
    coverage_penalty: Amount = option(
        0.0, "how much translations are favoured that have looked at all of the source: beta", unit="BETA"
    )
    no_repeat: Whole = option(0, "never write the same so many tokens twice (0: allowed)", unit="COUNT")
    scores: Flag = option(False, "write log p of each translation, in nats, and a tab in front of it")
    copy_unknown: Flag = option(
        True, "write the word that was looked at most where an unknown one comes out (words, characters)"
    )
    tokenize: Flag = option(
        False,
        "the lines are raw, and the model was trained on tokenized text: set signs apart, and take capitals for small "
        "letters if it knows none",
    )
    detokenized: Flag = option(
        False, "join what a tokenizer has set apart: signs to their words, &apos; as an apostrophe"
    )

    def __post_init__(self) -> None:
        """Check what concerns two fields."""
        if self.n_best > self.beam:
            raise UserError(
                f"--n-best {self.n_best} is more than --beam {self.beam}, which is as many as are found: give a larger "
                f"--beam"
            )


class Translation(NamedTuple):
    """A translation; log p of its tokens and of the end, in nats; score: what translations are ordered by."""

    text: str
    log_probability: float
    score: float


def search_of(settings: Any) -> Search:
    """How translations are searched for, by the flags of a verb."""
    return Search(
        beam=settings.beam,
        n_best=getattr(settings, "n_best", 1),
        length_penalty=settings.length_penalty,
        coverage_penalty=getattr(settings, "coverage_penalty", 0.0),
        no_repeat_ngram=getattr(settings, "no_repeat", 0),
    )


def spelled(codec: Codec, source: str, tokens: Sequence[int], looked: Floats | None) -> str:
    """The tokens as text; where they are unknown, the piece of the source that was looked at most.

    looked `(T + 1, S)`: see `alignments`; None: unknown ones are written as `<unk>`.
    """
    if looked is None or UNKNOWN not in tokens:
        return codec.target.decode(tokens)
    read = codec.source.cut(source)
    copies = {
        place: read[int(looked[place].argmax())] for place, token in enumerate(tokens) if token == UNKNOWN
    }
    return codec.target.decode(tokens, copies)


def answer_of(source: str, found: Sequence[Translation], settings: Predict) -> Answer:
    """A line for a person (several, of the n best), an object for a program."""
    texts = [detokenized(one.text) if settings.detokenized else one.text for one in found]
    data: dict[str, Any] = {
        "source": source,
        "translation": texts[0],
        "log_probability": round(found[0].log_probability, 4),
    }
    if settings.n_best > 1:
        data["n_best"] = [
            {
                "translation": text,
                "log_probability": round(one.log_probability, 4),
                "score": round(one.score, 4),
            }
            for text, one in zip(texts, found, strict=True)
        ]
    lines = [
        f"{one.log_probability:.4f}\t{text}" if settings.scores else text
        for text, one in zip(texts, found, strict=True)
    ]
    return Answer(lines[0], data)


_TOKEN = re.compile(r"'\w+|\w+(?:-\w+)*|[^\w\s]")


def tokenized(text: str, vocabulary: Vocabulary) -> str:
    """Raw text as a vocabulary of tokenized text has it: signs apart, references, small letters."""
    text = text if vocabulary.capitals else text.lower()
    found = " ".join(_TOKEN.findall(text))
    if not vocabulary.references:
        return found
    return found.replace("&", "&amp;").replace("'", "&apos;").replace('"', "&quot;")


# Signs that stand at the word before them, and those at the word behind them.
_LEFT = re.compile(r"\s+([.,;:!?%)\]}»…’]|'s\b|'t\b|n't\b|'re\b|'ve\b|'ll\b|'d\b|'m\b)")
_RIGHT = re.compile(r"([(\[{«¿¡$£€])\s+")
_QUOTED = re.compile(r'"\s*([^"]*?)\s*"')
ENTITIES = {
    "&apos;": "'",
    "&quot;": '"',
    "&#91;": "[",
    "&#93;": "]",
    "&#124;": "|",
    "&lt;": "<",
    "&gt;": ">",
    "&amp;": "&",
}


def detokenized(text: str) -> str:
    """Undo what Moses' tokenizer and its kind do, as far as it can be told: signs joined, references resolved."""
    for reference, sign in ENTITIES.items():
        text = text.replace(reference, sign)
    text = re.sub(r"\s*@-@\s*", "-", text)
    text = _RIGHT.sub(r"\1", _LEFT.sub(r"\1", text))
    return _QUOTED.sub(r'"\1"', text)


def predict(trained: Any, settings: Predict) -> Iterator[str]:
    """Translate lines; standard error says of which the translation looks odd."""
    trained.odd = {}
    yield from (
        verbs.predict(trained, settings)
        if settings.n_best == 1 or settings.json
        else _n_best(trained, settings)
    )
    for what, places in trained.odd.items():
        more = ", ..." if len(places) > 3 else ""
        sys.stderr.write(f"{len(places):,} {what}: {', '.join(places[:3])}{more}\n")


def oddness(source: str, translation: str) -> str:
    """What looks wrong with a translation, in a few words; nothing where it looks right."""
    a, b = " ".join(source.split()), translation
    if not a:
        return ""
    if a == b and len(a.split()) > 2:
        return "the same as their source"
    ratio = (len(b) + SHORT) / (len(a) + SHORT)
    return (
        f"{ODD_RATIO:g} times longer or shorter than their source"
        if max(ratio, 1 / ratio) > ODD_RATIO
        else ""
    )


def _n_best(trained: Any, settings: Predict) -> Iterator[str]:
    """As many lines for each, with its number in front, as Moses has it."""
    at = 0
    for items in trained.inputs(settings):
        for answer in trained.answers(items, settings):
            found = [] if isinstance(answer, str) else answer.data["n_best"]
            for one in found or [{"translation": "", "score": 0.0}]:
                yield f"{at} ||| {one['translation']} ||| {one['score']:.4f}\n"
            at += 1
