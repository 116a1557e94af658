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

__all__ = ["BagOfWords", "FrequentTag", "NearestText", "TagModel", "majority", "word_features"]

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


class NearestText:
    """The text of a collection that is most like another: the largest cosine of their TF-IDF vectors of words.

    Words as in `BagOfWords`, those of one text alone too. Where no word is shared, the first text.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        """Index the collection."""
        bags = [_bag(text, pairs=False) for text in texts]
        documents = Counter(word for bag in bags for word in bag)
        self._numbers = {word: number for number, word in enumerate(sorted(documents))}
        counts = np.array([documents[word] for word in sorted(documents)], dtype=np.float64)
        self._idf = np.log((1 + len(texts)) / (1 + counts)) + 1
        self._count = len(texts)
        held: list[list[int]] = [[] for _ in self._numbers]
        weights: list[list[float]] = [[] for _ in self._numbers]
        for i, bag in enumerate(bags):
            for number, value in zip(*self._vector(bag), strict=True):
                held[number].append(i)
                weights[number].append(value)
        self._held = [np.array(rows, dtype=np.int64) for rows in held]
        self._weights = [np.array(values) for values in weights]

    def _vector(self, bag: Counter[str]) -> tuple[list[int], list[float]]:
        """The numbers of the known words, and their values, of length one together."""
        numbers = [self._numbers[word] for word in bag if word in self._numbers]
        counts = np.array([bag[word] for word in bag if word in self._numbers], dtype=np.float64)
        values = (1 + np.log(counts)) * self._idf[numbers] if numbers else np.zeros(0)
        return numbers, (values / max(float(np.linalg.norm(values)), 1e-12)).tolist()

    def __call__(self, texts: Sequence[str]) -> list[int]:
        """The number of the nearest text to each of `texts`."""
        found = []
        for text in texts:
            likeness = np.zeros(self._count)
            for number, value in zip(*self._vector(_bag(text, pairs=False)), strict=True):
                likeness[self._held[number]] += value * self._weights[number]
            found.append(int(likeness.argmax()))
        return found


def _bag(text: str, pairs: bool) -> Counter[str]:
    words = _WORD.findall(text.lower())
    bag = Counter(words)
    if pairs:
        bag.update(f"{a} {b}" for a, b in pairwise(words))
    return bag


def _minimize(
    rows: _Rows, marks: Floats, *, several: bool, steps: int, strength: float = C
) -> tuple[Floats, Floats]:
    """W and b at the minimum of the mean loss and |W|² / (2 C N); C: `strength`."""
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
        weight.grad = xt @ (p - y) / N + weight / (strength * N)
        bias.grad = (p - y).sum(dim=0) / N
        return float(own.sum() / N + (weight * weight).sum() / (2 * strength * N))

    optimizer.step(loss)
    return weight.detach().numpy(), bias.detach().numpy()


class FrequentTag:
    """For each word the tag that it has most often in training; for unknown words that of the words met once."""

    def __init__(self, tags: dict[str, int], unknown: int) -> None:
        """`fit` makes both: the number of each word's tag, and that of any other word."""
        self.tags, self.unknown = tags, unknown

    @classmethod
    def fit(cls, sentences: Sequence[Sequence[str]], truth: Sequence[Ints], classes: int) -> FrequentTag:
        """Learn from sentences and the numbers of their tags, `(T,)` each."""
        counts: dict[str, npt.NDArray[np.int64]] = {}
        for words, tags in zip(sentences, truth, strict=True):
            for word, tag in zip(words, tags.tolist(), strict=True):
                counts.setdefault(word, np.zeros(classes, dtype=np.int64))[tag] += 1
        every = list(counts.values())
        once = sum((row for row in every if row.sum() == 1), np.zeros(classes, dtype=np.int64))
        rare = once if once.any() else sum(every, np.zeros(classes, dtype=np.int64))
        return cls({word: int(row.argmax()) for word, row in counts.items()}, int(rare.argmax()))

    def __call__(self, words: Sequence[str]) -> npt.NDArray[np.int64]:
        """The tags of a sentence, `(T,)`."""
        return np.array([self.tags.get(word, self.unknown) for word in words], dtype=np.int64)


class TagModel:
    """Logistic regression on what stands at and around a word.

        p(tag of word t) = softmax over tags of (sum of W over the features of t, + b)

    Features: the word, its small letters, its first and last one to four letters, its shape (Xxx, 00); the small
    letters of the two words before and the two behind; of the nearest ones the ending and the shape too, and the pairs
    with the word. Those count that two training words or more have. The loss and |W|² / (2 C) are minimized as by
    `BagOfWords`, with C = 1.
    """

    def __init__(self, numbers: dict[str, int], weight: Floats, bias: Floats) -> None:
        """`fit` makes all of these: W `(V, K)`, b `(K,)`."""
        self.numbers, self.weight, self.bias = numbers, weight, bias

    @classmethod
    def fit(
        cls, sentences: Sequence[Sequence[str]], truth: Sequence[Ints], classes: int, *, steps: int = 60
    ) -> TagModel:
        """Learn from sentences and the numbers of their tags, `(T,)` each; at most so many L-BFGS steps."""
        found = [features for words in sentences for features in word_features(words)]
        counts = Counter(feature for features in found for feature in features)
        kept = sorted(feature for feature, count in counts.items() if count >= MIN_COUNT)
        model = cls(
            {feature: number for number, feature in enumerate(kept)}, np.zeros((0, 0)), np.zeros(classes)
        )
        marks = np.eye(classes)[np.concatenate(list(truth))]
        model.weight, model.bias = _minimize(
            model._rows(found), marks, several=False, steps=steps, strength=1.0
        )
        return model

    def log_probabilities(self, sentences: Sequence[Sequence[str]]) -> list[Floats]:
        """log p of each word's tags, `(T, K)` of each sentence."""
        return [self._of(words) for words in sentences]

    def _of(self, words: Sequence[str]) -> Floats:
        scores = np.tile(self.bias, (len(words), 1))
        for place, features in enumerate(word_features(words)):
            known = [self.numbers[feature] for feature in features if feature in self.numbers]
            scores[place] += self.weight[known].sum(axis=0)
        top = scores.max(axis=1, keepdims=True, initial=-np.inf)
        return np.asarray(scores - top - np.log(np.exp(scores - top).sum(axis=1, keepdims=True)))

    def _rows(self, found: Sequence[Sequence[str]]) -> _Rows:
        starts, columns = [0], list[int]()
        for features in found:
            columns += sorted(self.numbers[feature] for feature in features if feature in self.numbers)
            starts.append(len(columns))
        values = np.ones(len(columns))
        return _Rows(np.array(starts), np.array(columns, dtype=np.int64), values, len(self.numbers))


def word_features(words: Sequence[str]) -> list[list[str]]:
    """The features of each word of a sentence, see `TagModel`; no two of a word are the same."""
    small = ["<", "<", *(word.lower() for word in words), ">", ">"]
    shapes = ["<", *map(_shape, words), ">"]
    rows = []
    for place, word in enumerate(words):
        before2, before, own, after, after2 = small[place : place + 5]
        parts = range(1, min(4, len(own)) + 1)
        rows.append(
            [
                f"w={word}",
                f"l={own}",
                f"s={shapes[place + 1]}",
                *(f"p{n}={own[:n]}" for n in parts),
                *(f"e{n}={own[-n:]}" for n in parts),
                f"-1={before}",
                f"-2={before2}",
                f"+1={after}",
                f"+2={after2}",
                f"-1e={before[-3:]}",
                f"+1e={after[-3:]}",
                f"-1s={shapes[place]}",
                f"+1s={shapes[place + 2]}",
                f"-1l={before} {own}",
                f"l+1={own} {after}",
            ]
        )
    return rows


def _shape(word: str) -> str:
    """Capitals as X, small letters as x, digits as 0, runs of more than three alike cut there."""
    marks = "".join("X" if c.isupper() else "x" if c.islower() else "0" if c.isdigit() else c for c in word)
    return re.sub(r"(.)\1{3,}", r"\1\1\1", marks)
