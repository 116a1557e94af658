"""What a count of tokens predicts: the baselines of a language model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from elman.data.mapped import SPAN, Tokens, blocks, let_go

__all__ = ["LARGEST", "bigram_loss", "unigram_loss"]

# Counting goes over so many tokens of the training text at most: more would change little and take memory.
LARGEST = 10_000_000
DISCOUNT = 0.75


def unigram_loss(train: Tokens, text: Tokens, size: int) -> float:
    """Mean of -log p(w) in nats over all tokens of a text but the first, of V = `size` different ones.

    p(w) = (c(w) + 1) / (N + V)                          c(w) times among the N tokens of the training text
    """
    chances = _frequencies(train[:LARGEST], size)
    return _mean(text, lambda block: -np.log(chances[block[1:]]))


def _mean(text: Tokens, losses: Callable[[Tokens], npt.NDArray[np.float64]]) -> float:
    """The mean over all tokens of a text but the first, a part of it at a time."""
    parts = [
        (float(losses(text[first : first + SPAN + 1]).mean()), min(SPAN, len(text) - 1 - first))
        for first in range(0, len(text) - 1, SPAN)
    ]
    let_go(text)
    return parts[0][0] if len(parts) == 1 else sum(mean * n for mean, n in parts) / (len(text) - 1)


def _frequencies(train: Tokens, size: int) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = (_occurrences(train, size) + 1) / (len(train) + size)
    return found


def _occurrences(train: Tokens, size: int) -> npt.NDArray[np.int64]:
    """How often each of V tokens occurs."""
    found = np.zeros(size, dtype=np.int64)
    for _, block in blocks(train):
        found += np.bincount(block, minlength=size)
    return found


def _pairs(train: Tokens, size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The pairs v w of neighbours as v V + w, rising, and how often each occurs."""
    known, counts = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    for first in range(0, len(train) - 1, SPAN):
        block = train[first : first + SPAN + 1].astype(np.int64)
        new, often = np.unique(block[:-1] * size + block[1:], return_counts=True)
        before = np.concatenate([counts, often])
        known, place = np.unique(np.concatenate([known, new]), return_inverse=True)
        counts = np.zeros(len(known), dtype=np.int64)
        np.add.at(counts, place, before)
    let_go(train)
    return known, counts


def bigram_loss(train: Tokens, text: Tokens, size: int) -> float:
    """Mean of -log p(w | v) in nats over all tokens of a text but the first; v is the token before.

    p(w | v) = max(c(v, w) - d, 0) / c(v) + d n(v) / c(v) p(w)         d = 0.75, n(v) different tokens follow v
    p(w | v) = p(w)                                                    where v is never followed by anything

    Absolute discounting, interpolated (Ney, Essen and Kneser 1994); p(w) as in `unigram_loss`.
    """
    train = train[:LARGEST]
    pairs, counts = _pairs(train, size)
    followed = _occurrences(train[:-1], size)
    different = np.bincount(pairs // size, minlength=size)
    chances = _frequencies(train, size)

    def losses(block: Tokens) -> npt.NDArray[np.float64]:
        before, token = block[:-1].astype(np.int64), block[1:].astype(np.int64)
        often = _looked_up(before * size + token, pairs, counts)
        alone = chances[token]
        total = np.maximum(followed[before], 1)
        mixed = np.maximum(often - DISCOUNT, 0) / total + DISCOUNT * different[before] / total * alone
        found: npt.NDArray[np.float64] = -np.log(np.where(followed[before] > 0, mixed, alone))
        return found

    return _mean(text, losses)


def _looked_up(
    keys: npt.NDArray[np.int64], known: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The count of each key; 0 for one that is not known."""
    place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[place] == keys, counts[place], 0)
