"""Metrics: BLEU and chrF of translations, and what simple rules reach beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from elman.config import require
from elman.tasks.base import Baseline
from elman.tasks.translation.pairs import Codec, Pairs, Part
from elman.training.score import Score

__all__ = ["check_extra", "pair_baselines", "score_of", "sentence_scores", "tokenizer_of"]

DRAWS = 1000


def check_extra() -> None:
    """UserError unless sacrebleu is installed."""
    require("sacrebleu", extra="translation", what="translation, which is measured by BLEU,")


def tokenizer_of(word: str, codec: Codec) -> str:
    """How sacrebleu cuts: as asked for, else not at all where the targets are tokenized already."""
    return word if word != "auto" else "none" if codec.tokenized else "13a"


def _bleu(tokenizer: str, **more: Any) -> Any:
    from sacrebleu.metrics.bleu import BLEU

    # That text is tokenized already, and which tokenizer is meant, is decided here.
    return BLEU(tokenize=tokenizer, force=True, **more)


def score_of(
    hypotheses: Sequence[str], references: Sequence[str], tokenizer: str, *, interval: bool = False
) -> Score:
    """sacrebleu's BLEU (Papineni et al. 2002; Post 2018) of translations, with chrF (Popović 2015) as a figure.

    interval: with its 95 % interval, sentences drawn anew 1,000 times.
    """
    from sacrebleu.metrics.chrf import CHRF

    metric, chrf, right = _bleu(tokenizer), CHRF(), [list(references)]
    found = metric.corpus_score(list(hypotheses), right, n_bootstrap=DRAWS if interval else 1)
    letters = chrf.corpus_score(list(hypotheses), right)
    figures: dict[str, Any] = {
        "chrF": letters.score,
        "length_ratio": found.sys_len / max(found.ref_len, 1),
        "exact": sum(a == b for a, b in zip(hypotheses, references, strict=True)) / max(len(references), 1),
        "sentences": len(references),
        "signature": str(metric.get_signature()),
        "chrF_signature": str(chrf.get_signature()),
    }
    if tokenizer == "none":
        figures["BLEU_13a"] = _bleu("13a").corpus_score(list(hypotheses), right).score
    limits = None
    if interval:
        limits = (found._mean - found._ci, found._mean + found._ci)
    return Score("BLEU", found.score, higher=True, figures=figures, interval=limits)


def sentence_scores(hypotheses: Sequence[str], references: Sequence[str]) -> list[float]:
    """chrF of each sentence by itself, where BLEU says little."""
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF()
    return [metric.sentence_score(a, [b]).score for a, b in zip(hypotheses, references, strict=True)]


def pair_baselines(prepared: Pairs, tokenizer: str) -> Iterator[Baseline]:
    """The source as it is, and the translation of the nearest source of the training data."""
    from elman.baselines import NearestText

    train = prepared.parts["train"]
    nearest = NearestText([pair.source for pair in train.pairs])
    references = train.references

    def found(part: Part) -> list[str]:
        return [references[i] for i in nearest([pair.source for pair in part.pairs])]

    rules: dict[str, Callable[[Part], list[str]]] = {
        "copy of the source": lambda part: [" ".join(pair.source.split()) for pair in part.pairs],
        "nearest training sentence": found,
    }
    for name, rule in rules.items():
        for part in prepared.parts.values():
            if part.name != "train":
                yield Baseline(name, part.name, score_of(rule(part), part.references, tokenizer))
