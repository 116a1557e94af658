"""What a count of tokens predicts: the baselines of a language model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["LARGEST", "bigram_loss", "unigram_loss"]

Tokens = npt.NDArray[np.integer]

# Counting goes over so many tokens of the training text at most: more would change little and take memory.
LARGEST = 10_000_000
DISCOUNT = 0.75


def unigram_loss(train: Tokens, text: Tokens, size: int) -> float:
    """Mean of -log p(w) in nats over all tokens of a text but the first, of V = `size` different ones.

    p(w) = (c(w) + 1) / (N + V)                          c(w) times among the N tokens of the training text
    """
    return float(-np.log(_frequencies(train[:LARGEST], size)[text[1:]]).mean())


def _frequencies(train: Tokens, size: int) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = (np.bincount(train, minlength=size) + 1) / (len(train) + size)
    return found


def bigram_loss(train: Tokens, text: Tokens, size: int) -> float:
    """Mean of -log p(w | v) in nats over all tokens of a text but the first; v is the token before.

    p(w | v) = max(c(v, w) - d, 0) / c(v) + d n(v) / c(v) p(w)         d = 0.75, n(v) different tokens follow v
    p(w | v) = p(w)                                                    where v is never followed by anything

    Absolute discounting, interpolated (Ney, Essen and Kneser 1994); p(w) as in `unigram_loss`.
    """
    train = train[:LARGEST].astype(np.int64)
    pairs, counts = np.unique(train[:-1] * size + train[1:], return_counts=True)
    followed = np.bincount(train[:-1], minlength=size)
    different = np.bincount(pairs // size, minlength=size)
    before, token = text[:-1].astype(np.int64), text[1:].astype(np.int64)
    often = _looked_up(before * size + token, pairs, counts)
    alone = _frequencies(train, size)[token]
    total = np.maximum(followed[before], 1)
    mixed = np.maximum(often - DISCOUNT, 0) / total + DISCOUNT * different[before] / total * alone
    return float(-np.log(np.where(followed[before] > 0, mixed, alone)).mean())


def _looked_up(
    keys: npt.NDArray[np.int64], known: npt.NDArray[np.int64], counts: npt.NDArray[np.intp]
) -> npt.NDArray[np.intp]:
    """The count of each key; 0 for one that is not known."""
    place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[place] == keys, counts[place], 0)
