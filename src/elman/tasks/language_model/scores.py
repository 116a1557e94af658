"""Metrics: how well a text is predicted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from elman.data.corpus import Part
from elman.data.vocabulary import Tokenizer
from elman.metrics import Likelihood, bits, perplexity
from elman.training.score import Score

__all__ = ["likelihood", "loss_interval", "measure_of", "score_of"]

# Fewer pieces of text say nothing about how far their mean may be off.
FEWEST_PIECES = 10


def score_of(found: Likelihood, unit: str, spread: tuple[float, float] | None = None) -> Score:
    """What the best model is chosen by: bits for characters and bytes, perplexity for words and byte pairs.

    spread: the loss at both ends of its interval.
    """
    name, of = measure_of(unit)
    interval = None if spread is None else (of(spread[0]), of(spread[1]))
    return Score(name, of(found.loss), higher=False, figures=found.figures(), interval=interval)


def measure_of(unit: str) -> tuple[str, Callable[[float], float]]:
    """The name of what is measured, and how it comes from a loss in nats."""
    small = unit in {"character", "byte"}
    return (f"bits per {unit}", bits) if small else ("perplexity", perplexity)


def likelihood(tokenizer: Tokenizer, part: Part, loss: float, count: int) -> Likelihood:
    """How well a text is predicted: the mean loss over `count` tokens, all but the first."""
    written = {"characters": count, "bytes": count, "words": None}
    characters = written.get(tokenizer.kind, part.characters * count / len(part.tokens))
    return Likelihood(loss * count, count, characters, part.unknown(tokenizer))


def loss_interval(losses: Sequence[float], counts: Sequence[int]) -> tuple[float, float] | None:
    """Where the mean loss of a token lies at 95 %: pieces of the text drawn anew 1,000 times; None of too few."""
    if len(losses) < FEWEST_PIECES:
        return None
    rng, lost, over = np.random.default_rng(0), np.asarray(losses), np.asarray(counts)
    draws = (rng.integers(len(lost), size=len(lost)) for _ in range(1000))
    means = [lost[drawn].sum() / over[drawn].sum() for drawn in draws]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
