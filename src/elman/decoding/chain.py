"""Sequences of tags under a linear chain: the best one, what is likely at each place, how likely a stretch of tags is.

    score(y) = start[y_1] + sum_t e_t[y_t] + sum_t A[y_{t-1}, y_t] + end[y_T]      p(y) = exp(score(y)) / Z

All in log space; minus infinity in A, start or end forbids. A model without transitions is a chain whose A, start and
end are 0 but for what is forbidden: then p is its softmax at each place, given that the sequence is a sound one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Chain", "Inference", "infer", "log_partition", "log_sum", "score", "viterbi"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Chain(NamedTuple):
    """transitions `(K, K)`, from the row's tag to the column's; start, end `(K,)`."""

    transitions: Floats
    start: Floats
    end: Floats


def log_sum(values: Floats, axis: int) -> Floats:
    """log sum exp along an axis; minus infinity where all are."""
    top = values.max(axis=axis, keepdims=True)
    held = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.asarray((np.log(np.exp(values - held).sum(axis=axis, keepdims=True)) + held).squeeze(axis))


def viterbi(emissions: Floats, lengths: Ints, chain: Chain) -> tuple[Ints, Floats]:
    """The tags with the highest score of each row, `(T, B)`, and their scores, `(B,)` (Viterbi 1967).

    emissions `(T, B, K)`, lengths `(B,)`, from 1 up; behind the end of a row stand anything. Of equally good ones, the
    one whose last tag, then last but one, ... has the smallest number.
    """
    T, B, K = emissions.shape
    came = np.tile(np.arange(K), (T, B, 1))
    best = chain.start + emissions[0]
    for t in range(1, T):
        paths = best[:, :, None] + chain.transitions
        goes_on = (t < lengths)[:, None]
        found = paths.argmax(axis=1)
        came[t] = np.where(goes_on, found, came[t])
        reached = np.take_along_axis(paths, found[:, None], axis=1)[:, 0] + emissions[t]
        best = np.where(goes_on, reached, best)
    best = best + chain.end
    tags = np.zeros((T, B), dtype=np.int64)
    tags[-1] = best.argmax(axis=1)
    for t in range(T - 1, 0, -1):
        tags[t - 1] = came[t, np.arange(B), tags[t]]
    return tags, np.asarray(best.max(axis=1))


class Inference(NamedTuple):
    """The sums over all sequences of a sentence of T steps.

    alpha[t, k] `(T, K)`: log sum over all beginnings that end in tag k at t, e_t included. beta[t, k]: log sum over all
    that may follow tag k at t. log_z: log Z.
    """

    emissions: Floats
    chain: Chain
    alpha: Floats
    beta: Floats
    log_z: float

    def marginals(self) -> Floats:
        """p(y_t = k), `(T, K)`."""
        return np.asarray(np.exp(self.alpha + self.beta - self.log_z))

    def stretch(self, start: int, tags: Sequence[int], barred: Sequence[int] = ()) -> float:
        """p that the tags from step `start` on are these, and that none of `barred` follows."""
        end = start + len(tags) - 1
        e, A = self.emissions, self.chain.transitions
        score = self.alpha[start, tags[0]]
        for t in range(start + 1, end + 1):
            score += A[tags[t - start - 1], tags[t - start]] + e[t, tags[t - start]]
        if end + 1 == len(e):
            after = self.chain.end[tags[-1]]
        else:
            ahead = A[tags[-1]] + e[end + 1] + self.beta[end + 1]
            ahead[list(barred)] = -np.inf
            after = log_sum(ahead, 0)
        return float(min(1.0, np.exp(score + after - self.log_z)))


def infer(emissions: Floats, chain: Chain) -> Inference:
    """Forward and backward over emissions `(T, K)`, T >= 1 (Rabiner 1989, equations 19 to 25, in log space)."""
    alpha = np.empty_like(emissions)
    beta = np.empty_like(emissions)
    alpha[0] = chain.start + emissions[0]
    for t in range(1, len(emissions)):
        alpha[t] = log_sum(alpha[t - 1][:, None] + chain.transitions, 0) + emissions[t]
    beta[-1] = chain.end
    for t in range(len(emissions) - 2, -1, -1):
        beta[t] = log_sum(chain.transitions + emissions[t + 1] + beta[t + 1], 1)
    total: Any = log_sum(alpha[-1] + chain.end, 0)
    return Inference(emissions, chain, alpha, beta, float(total))


def log_partition(emissions: Floats, lengths: Ints, chain: Chain) -> Floats:
    """log Z of each row, `(B,)`, for emissions `(T, B, K)` and lengths `(B,)`, from 1 up."""
    alpha = chain.start + emissions[0]
    for t in range(1, len(emissions)):
        reached = log_sum(alpha[:, :, None] + chain.transitions, 1) + emissions[t]
        alpha = np.where((t < lengths)[:, None], reached, alpha)
    return log_sum(alpha + chain.end, 1)


def score(emissions: Floats, tags: Ints, chain: Chain) -> float:
    """score(y) of tags `(T,)` for the emissions `(T, K)` of one row."""
    own = emissions[np.arange(len(tags)), tags].sum()
    return float(
        own + chain.start[tags[0]] + chain.transitions[tags[:-1], tags[1:]].sum() + chain.end[tags[-1]]
    )
