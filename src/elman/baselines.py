"""What a network must beat: the commonest answer, and a linear model of the words, on the same training data.

A result without one of these beside it says little: on some data a linear model is as good as any network.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["BagOfWords", "majority"]

Ints = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.float64]

_WORD = re.compile(r"\w+|[^\w\s]")
# The strength of the regularization, as scikit-learn's LogisticRegression counts it: larger is weaker.
C = 10.0
MIN_COUNT = 2


def majority(truth: Ints, items: int) -> Floats:
    """The same probabilities for every item: how often each class occurs in training, `(items, K)`.

    truth: class numbers `(N,)` or zeros and ones `(N, K)`.
    """
    shares = truth.mean(axis=0) if truth.ndim == 2 else np.bincount(truth) / len(truth)
    return np.tile(shares, (items, 1))


class _Rows(NamedTuple):
    """A sparse matrix `(N, V)` by rows: row i has the columns and values from starts[i] to starts[i + 1]."""

    starts: Ints
    columns: Ints
    values: Floats
    width: int


class BagOfWords:
    """Logistic regression on TF-IDF of words, or of words and pairs of neighbours.

        tf = 1 + ln count    idf = 1 + ln((1 + N) / (1 + documents with the word))    x = tf idf, each row of length 1
        p = softmax(x W + b), or a sigmoid of each where an item may have several labels

    Words (and pairs) that two training texts or more have, in lower case; signs are words. The loss, summed over the
    items, and |W|² / (2 C) are minimized by L-BFGS with C = 10 (as in scikit-learn; b is not regularized).
    """

    def __init__(
        self,
        words: Sequence[str],
        idf: Floats,
        weight: Floats,
        bias: Floats,
        *,
        pairs: bool,
        several: bool,
    ) -> None:
        """`fit` makes all of these: W `(V, K)`, b `(K,)`."""
        self.numbers = {word: number for number, word in enumerate(words)}
        self.idf, self.weight, self.bias = idf, weight, bias
        self.pairs, self.several = pairs, several

    @classmethod
    def fit(
        cls, texts: Sequence[str], truth: Ints, classes: int, *, pairs: bool = True, steps: int = 100
    ) -> BagOfWords:
        """Learn from texts and their class numbers `(N,)`, or zeros and ones `(N, K)`; at most so many L-BFGS steps."""
        bags = [_bag(text, pairs) for text in texts]
        documents = Counter(word for bag in bags for word in bag)
        words = sorted(word for word, count in documents.items() if count >= MIN_COUNT)
        counts = np.array([documents[word] for word in words], dtype=np.float64)
        idf = np.log((1 + len(texts)) / (1 + counts)) + 1
        several = truth.ndim == 2
        model = cls(
            words, idf, np.zeros((len(words), classes)), np.zeros(classes), pairs=pairs, several=several
        )
        marks = truth.astype(np.float64) if several else np.eye(classes)[truth]
        model.weight, model.bias = _minimize(model._rows(bags), marks, several=several, steps=steps)
        return model

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """p `(N, K)`."""
        rows = self._rows([_bag(text, self.pairs) for text in texts])
        scores = np.zeros((len(texts), len(self.bias)))
        for i in range(len(texts)):
            part = slice(int(rows.starts[i]), int(rows.starts[i + 1]))
            scores[i] = rows.values[part] @ self.weight[rows.columns[part]]
        scores += self.bias
        if self.several:
            return np.asarray(1 / (1 + np.exp(-scores)))
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))

    def _rows(self, bags: Iterable[Counter[str]]) -> _Rows:
        starts, columns, values = [0], list[int](), list[float]()
        for bag in bags:
            own = sorted((self.numbers[word], count) for word, count in bag.items() if word in self.numbers)
            found = np.array([(1 + np.log(count)) * self.idf[number] for number, count in own])
            columns += [number for number, _ in own]
            values += (found / max(float(np.linalg.norm(found)), 1e-12)).tolist()
            starts.append(len(columns))
        return _Rows(np.array(starts), np.array(columns, dtype=np.int64), np.array(values), len(self.numbers))


def _bag(text: str, pairs: bool) -> Counter[str]:
    words = _WORD.findall(text.lower())
    bag = Counter(words)
    if pairs:
        bag.update(f"{a} {b}" for a, b in pairwise(words))
    return bag


def _minimize(rows: _Rows, marks: Floats, *, several: bool, steps: int) -> tuple[Floats, Floats]:
    """W and b at the minimum of the mean loss and |W|² / (2 C N)."""
    import torch

    N, K = marks.shape
    index, columns, values = (torch.from_numpy(part) for part in (rows.starts, rows.columns, rows.values))
    with warnings.catch_warnings():
        # torch says at the first sparse matrix of a process that they are new in it.
        warnings.simplefilter("ignore", UserWarning)
        x = torch.sparse_csr_tensor(index, columns, values, (N, rows.width), check_invariants=True)
        xt = x.to_sparse_csc().transpose(0, 1)
    y = torch.from_numpy(marks)
    weight = torch.zeros(rows.width, K, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(K, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=steps, history_size=10, line_search_fn="strong_wolfe", tolerance_grad=1e-6
    )

    @torch.no_grad()
    def loss() -> float:
        scores = x @ weight + bias
        if several:
            p = torch.sigmoid(scores)
            own = torch.nn.functional.softplus(scores) - y * scores
        else:
            p = torch.softmax(scores, dim=1)
            own = scores.logsumexp(dim=1, keepdim=True) / K - y * scores
        weight.grad = xt @ (p - y) / N + weight / (C * N)
        bias.grad = (p - y).sum(dim=0) / N
        return float(own.sum() / N + (weight * weight).sum() / (2 * C * N))

    optimizer.step(loss)
    return weight.detach().numpy(), bias.detach().numpy()
