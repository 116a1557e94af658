r"""The answer that the others speak for: of several hypotheses the one that is expected to be most like the truth.

    u_i = Σ_j q_j s(y_i, y_j)        q_j ∝ p_j^(1/T)
    s(a, b) = 1/4 Σ_n Σ_g min(a_g, b_g) b_g / (|a| |b|) · exp(−(l_a − l_b)² / 72)        g: the n-grams, n from 1 to 4

The likeliest sentence may have few that are like it; what many likely ones say in like words is more often right
(minimum Bayes risk decoding: Kumar & Byrne 2004, HLT-NAACL; of captions: Devlin et al. 2015, arXiv 1505.04467). s is
CIDEr-D's likeness (Vedantam et al. 2015) with every n-gram counted alike.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

__all__ = ["expected_likeness"]

NGRAMS, WIDTH = 4, 72.0


class _Counted(NamedTuple):
    grams: list[Counter[tuple[Hashable, ...]]]
    norms: list[float]
    length: int


def expected_likeness(
    answers: Sequence[Sequence[Hashable]], log_p: Sequence[float], temperature: float = 1.0
) -> list[float]:
    """u of each answer, from 0 to 1.

    answers: words or tokens. log_p: of each, in nats. temperature: T > 0; towards 0 the likeliest answer alone is
    compared with, large ones let all count alike. Raises ValueError for another one.
    """
    if not temperature > 0:
        raise ValueError(f"temperature {temperature}: expected a number above 0")
    if not answers:
        return []
    highest = max(log_p)
    weights = [math.exp((value - highest) / temperature) for value in log_p]
    counted = [_counted(answer) for answer in answers]
    total = sum(weights)
    return [
        sum(q * _likeness(mine, other) for q, other in zip(weights, counted, strict=True)) / total
        for mine in counted
    ]


def _counted(answer: Sequence[Hashable]) -> _Counted:
    grams = [
        Counter(tuple(answer[i : i + n]) for i in range(len(answer) - n + 1)) for n in range(1, NGRAMS + 1)
    ]
    return _Counted(grams, [math.sqrt(sum(k * k for k in one.values())) for one in grams], len(answer))


def _likeness(a: _Counted, b: _Counted) -> float:
    shared = (
        sum(min(count, other[gram]) * other[gram] for gram, count in one.items() if gram in other) / (p * q)
        for one, other, p, q in zip(a.grams, b.grams, a.norms, b.norms, strict=True)
        if p and q
    )
    return math.exp(-((a.length - b.length) ** 2) / WIDTH) * sum(shared) / NGRAMS
