"""Measures of a loss; of classes, as scikit-learn has them."""

import math
from itertools import pairwise

import numpy as np
import pytest
import sklearn.metrics as oracle
from hypothesis import given
from hypothesis import strategies as st

from elman.metrics import (
    Likelihood,
    accuracy,
    average_precision,
    bits,
    bootstrap,
    calibration,
    confusion,
    log_loss,
    macro_f1,
    mean_average_precision,
    micro_f1,
    per_class,
    perplexity,
)


def test_perplexity_of_a_free_choice_is_the_number_of_choices() -> None:
    assert math.isclose(perplexity(math.log(37)), 37)
    assert perplexity(0) == 1
    assert perplexity(1e6) == math.inf


def test_bits() -> None:
    assert math.isclose(bits(math.log(8)), 3)


def test_likelihood_of_a_text() -> None:
    text = Likelihood(nats=10 * math.log(4), tokens=10, characters=40.0, unknown=0.1)
    assert math.isclose(text.loss, math.log(4))
    assert math.isclose(text.perplexity, 4)
    assert text.bits_per_character is not None
    assert math.isclose(text.bits_per_character, 0.5)
    assert Likelihood(1.0, 1).bits_per_character is None
    assert set(text.figures()) == {"loss", "perplexity", "bits_per_character", "tokens", "unknown"}


# Classes, beside scikit-learn's own measures

sizes = st.tuples(st.integers(1, 60), st.integers(2, 5), st.integers(0, 99))


def drawn(sizes: tuple[int, int, int], *, several: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, answers, probabilities."""
    items, classes, seed = sizes
    generator = np.random.default_rng(seed)
    p = generator.dirichlet(np.ones(classes), items)
    if several:
        return generator.integers(0, 2, (items, classes)), (p > 0.3).astype(int), p
    return generator.integers(0, classes, items), p.argmax(axis=1), p


@given(sizes, st.booleans())
def test_f1_precision_and_recall(sizes: tuple[int, int, int], several: bool) -> None:
    truth, answers, _ = drawn(sizes, several=several)
    K = sizes[1]
    own = per_class(truth, answers, K)
    expected = oracle.precision_recall_fscore_support(truth, answers, labels=range(K), zero_division=0)
    for ours, theirs in zip(own, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    assert np.isclose(macro_f1(truth, answers, K), expected[2].mean())
    assert np.isclose(
        micro_f1(truth, answers, K),
        oracle.f1_score(truth, answers, labels=range(K), average="micro", zero_division=0),
    )
    assert np.isclose(accuracy(truth, answers), oracle.accuracy_score(truth, answers))


@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 2**32))
def test_average_precision_also_where_scores_are_equal(items: int, values: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth, scores = generator.integers(0, 2, (items, 3)), generator.integers(0, values, (items, 3)) / values
    known = truth.any(axis=0)
    expected = [oracle.average_precision_score(truth[:, k], scores[:, k]) for k in np.flatnonzero(known)]
    found = [average_precision(truth[:, k], scores[:, k]) for k in np.flatnonzero(known)]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    whole = mean_average_precision(truth, scores)
    assert np.isclose(whole, np.mean(expected)) if expected else math.isnan(whole)
    assert average_precision(np.zeros(4, dtype=int), np.ones(4)) == 0


@given(sizes)
def test_confusion_and_log_loss(sizes: tuple[int, int, int]) -> None:
    truth, answers, p = drawn(sizes, several=False)
    K = sizes[1]
    assert (
        confusion(truth, answers, K).tolist()
        == oracle.confusion_matrix(truth, answers, labels=range(K)).tolist()
    )
    assert np.isclose(log_loss(truth, p), oracle.log_loss(truth, p, labels=range(K)))
    marks, _, q = drawn(sizes, several=True)
    by_label = [oracle.log_loss(marks[:, k], q[:, k], labels=[0, 1]) for k in range(K)]
    assert np.isclose(log_loss(marks, q), sum(by_label))


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50))
def test_calibration(answers: list[tuple[float, bool]]) -> None:
    sure, right = np.array([p for p, _ in answers]), np.array([hit for _, hit in answers])
    found = calibration(sure, right, bins=10)
    assert sum(found.counts) == len(answers)
    edges = np.linspace(0, 1, 11)
    error = 0.0
    for low, high in pairwise(edges):
        held = (sure > low) & (sure <= high) if low else sure <= high
        if held.any():
            error += held.mean() * abs(right[held].mean() - sure[held].mean())
    assert abs(found.error - error) < 0.02
    assert all(np.diff(found.confidence) > 0)


def test_the_interval_of_an_accuracy_is_that_of_a_binomial() -> None:
    truth, answers = np.zeros(2000, dtype=int), (np.arange(2000) % 5 == 0).astype(int)
    low, high = bootstrap(accuracy, (truth, answers))
    error = 1.96 * np.sqrt(0.8 * 0.2 / 2000)
    assert abs(low - (0.8 - error)) < 0.003
    assert abs(high - (0.8 + error)) < 0.003
    assert bootstrap(accuracy, (truth, answers)) == (low, high)


def test_spans_as_seqeval_counts_them() -> None:
    from seqeval.metrics import f1_score

    from elman.data.schemes import spans_of
    from elman.metrics import f1, span_counts, span_f1

    draw = np.random.default_rng(0)
    tags = np.array(["O", "B-X", "I-X", "B-Y", "I-Y"])
    truth = [draw.choice(tags, size=9).tolist() for _ in range(40)]
    said = [
        [
            b if draw.random() < 0.2 else a
            for a, b in zip(row, draw.choice(tags, size=9).tolist(), strict=True)
        ]
        for row in truth
    ]
    counts = span_counts([spans_of(row) for row in truth], [spans_of(row) for row in said])
    assert counts.shape == (40, 3)
    assert span_f1(counts) == pytest.approx(f1_score(truth, said))
    assert f1(0, 0, 0) == 0.0
    assert span_f1(span_counts([], [])) == 0.0
