"""The measures of captions beside any number of references: BLEU, CIDEr-D, ROUGE-L, exact match.

As the COCO evaluation has them (Chen et al. 2015, arXiv 1504.00325; the package pycocoevalcap), to the last digit on
words that are cut alike; the words are cut here in the manner of its tokenizer, without Java.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["bleu", "cider_d", "exact", "rouge_l", "words_of"]

Floats = npt.NDArray[np.float64]
Words = list[str]
NGRAMS = 4
# CIDEr-D's width of the penalty upon other lengths; ROUGE-L's weight of recall.
SIGMA, BETA = 6.0, 1.2
_WORD = re.compile(r"\w+(?:[-'’./,]\w+)*")
_ENDING = re.compile(r"(?<=\w)(n['’]t|['’](?:s|re|ve|ll|d|m))$")


def words_of(caption: str) -> Words:
    """The words in small letters, without signs; `isn't` is `is n't` and `dog's` is `dog 's`, as treebanks have it."""
    found: Words = []
    for word in _WORD.findall(caption.lower()):
        found += _ENDING.sub(r" \1", word).split()
    return found


def _ngrams(words: Words) -> list[Counter[tuple[str, ...]]]:
    """How often each n-gram stands in the words, for n from 1 to 4."""
    return [Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1)) for n in range(1, NGRAMS + 1)]


def bleu(answers: Sequence[Words], references: Sequence[Sequence[Words]]) -> list[float]:
    """BLEU-1 to BLEU-4 of all captions together, in percent (Papineni et al. 2002), beside the closest reference."""
    right, said = np.zeros(NGRAMS), np.zeros(NGRAMS)
    length = reference = 0
    for words, own in zip(answers, references, strict=True):
        length += len(words)
        reference += min((abs(len(one) - len(words)), len(one)) for one in own)[1]
        counts = [_ngrams(one) for one in own]
        for n, mine in enumerate(_ngrams(words)):
            said[n] += max(0, len(words) - n)
            right[n] += sum(min(count, max(c[n][gram] for c in counts)) for gram, count in mine.items())
    # The small numbers are those of the reference implementation, where a quotient has no parts.
    quotients = (right + 1e-15) / (said + 1e-9)
    ratio = (length + 1e-15) / (reference + 1e-9)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    products = np.cumprod(quotients)
    return [100 * brevity * float(products[n] ** (1 / (n + 1))) for n in range(NGRAMS)]


def cider_d(answers: Sequence[Words], references: Sequence[Sequence[Words]]) -> Floats:
    """CIDEr-D of each caption, from 0 to 10 (Vedantam, Zitnick & Parikh 2015, arXiv 1411.5726, section 6).

        10 / (4 R) Σ_n Σ_r exp(−(l − l_r)² / 2σ²) min(g, g_r)·g_r / (|g| |g_r|)        σ = 6

    g: counts of n-grams times log(pictures / pictures whose references have it), over these references themselves.
    """
    counted = [[_ngrams(one) for one in own] for own in references]
    pictures: Counter[tuple[str, ...]] = Counter()
    for own in counted:
        pictures.update({gram for counts in own for one in counts for gram in one})
    weights = {gram: math.log(len(references)) - math.log(count) for gram, count in pictures.items()}
    unseen = math.log(len(references)) if references else 0.0

    def vectors(counts: list[Counter[tuple[str, ...]]]) -> list[dict[tuple[str, ...], float]]:
        return [{gram: k * weights.get(gram, unseen) for gram, k in one.items()} for one in counts]

    found = np.zeros(len(answers))
    for i, (words, own) in enumerate(zip(answers, counted, strict=True)):
        mine, length = vectors(_ngrams(words)), max(0, len(words) - 1)
        total = 0.0
        for counts, reference in zip(own, references[i], strict=True):
            # The lengths are counted in pairs of words, as the reference implementation has it.
            shorter = math.exp(-((length - max(0, len(reference) - 1)) ** 2) / (2 * SIGMA**2))
            total += shorter * sum(map(_clipped, mine, vectors(counts)))
        found[i] = 10 * total / (NGRAMS * max(len(own), 1))
    return found


def _clipped(a: dict[tuple[str, ...], float], b: dict[tuple[str, ...], float]) -> float:
    """min(a, b)·b / (|a| |b|); 0 where one of them has no length."""
    sizes = math.sqrt(sum(x * x for x in a.values())) * math.sqrt(sum(x * x for x in b.values()))
    product = sum(min(x, b[gram]) * b[gram] for gram, x in a.items() if gram in b)
    return product / sizes if sizes else product


def rouge_l(answers: Sequence[Words], references: Sequence[Sequence[Words]]) -> Floats:
    """ROUGE-L of each caption, in percent (Lin 2004): F of the longest common subsequence, the best of references."""
    found = np.zeros(len(answers))
    for i, (words, own) in enumerate(zip(answers, references, strict=True)):
        common = [_common(words, one) for one in own]
        precision = max((c / len(words) for c in common), default=0.0) if words else 0.0
        recall = max((c / len(one) for c, one in zip(common, own, strict=True) if one), default=0.0)
        if precision and recall:
            found[i] = 100 * (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)
    return found


def _common(a: Words, b: Words) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for word in a:
        before = 0
        for j, other in enumerate(b, 1):
            before, row[j] = row[j], before + 1 if word == other else max(row[j], row[j - 1])
    return row[-1]


def exact(answers: Sequence[Words], references: Sequence[Sequence[Words]]) -> npt.NDArray[np.bool_]:
    """Whether each caption is one of its references, word by word."""
    return np.array([words in own for words, own in zip(answers, map(list, references), strict=True)], bool)
