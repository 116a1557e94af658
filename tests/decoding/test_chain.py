"""The linear chain against the enumeration of all sequences."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elman.decoding.chain import Chain, infer, log_partition, log_sum, score, viterbi


def drawn(seed: int, T: int, K: int, forbidden: float) -> tuple[np.ndarray, Chain]:
    """Emissions and a chain; some steps are forbidden, but never all that lead on."""
    draw = np.random.default_rng(seed)
    moves = np.where(draw.random((K, K)) < forbidden, -np.inf, draw.normal(0, 2, (K, K)))
    moves[np.arange(K), draw.integers(K, size=K)] = 0.3
    start = np.where(np.arange(K) == seed % K, -np.inf if K > 1 else 0.0, draw.normal(size=K))
    return draw.normal(0, 3, (T, K)), Chain(moves, start, draw.normal(size=K))


def by_hand(tags: tuple[int, ...], e: np.ndarray, chain: Chain) -> float:
    total = chain.start[tags[0]] + chain.end[tags[-1]] + sum(e[t, k] for t, k in enumerate(tags))
    return float(total + sum(chain.transitions[a, b] for a, b in pairwise(tags)))


CASES = st.tuples(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 4), st.sampled_from([0.0, 0.4]))


@settings(max_examples=60)
@given(case=CASES)
def test_best_sum_and_marginals_are_those_of_all_sequences(case: tuple[int, int, int, float]) -> None:
    e, chain = drawn(*case)
    T, K = e.shape
    every = list(product(range(K), repeat=T))
    scores = np.array([by_hand(tags, e, chain) for tags in every])
    (tags,), (best,) = (part.T for part in viterbi(e[:, None], np.array([T]), chain))
    assert best == pytest.approx(scores.max())
    assert by_hand(tuple(tags.tolist()), e, chain) == pytest.approx(best)
    assert score(e, tags, chain) == pytest.approx(best)
    found = infer(e, chain)
    assert (
        found.log_z
        == pytest.approx(log_partition(e[:, None], np.array([T]), chain)[0])
        == pytest.approx(np.logaddexp.reduce(scores))
    )
    p = np.exp(scores - found.log_z)
    expected = np.array(
        [[sum(p[i] for i, y in enumerate(every) if y[t] == k) for k in range(K)] for t in range(T)]
    )
    np.testing.assert_allclose(found.marginals(), expected, atol=1e-9)
    for start, end in [(0, T), (0, 1), (T - 1, T), (T // 2, T)]:
        own = tags[start:end].tolist()
        barred = [0]
        said = sum(
            p[i]
            for i, y in enumerate(every)
            if list(y[start:end]) == own and (end == T or y[end] not in barred)
        )
        assert found.stretch(start, own, barred) == pytest.approx(said, abs=1e-9)


def test_rows_of_any_length_are_as_if_each_were_alone() -> None:
    lengths = np.array([1, 4, 2, 4])
    e, chain = drawn(3, 16, 3, 0.3)
    rows = e.reshape(4, 4, 3)
    tags, best = viterbi(rows, lengths, chain)
    sums = log_partition(rows, lengths, chain)
    for b, length in enumerate(lengths):
        own = rows[:length, b : b + 1]
        alone, value = viterbi(own, lengths[b : b + 1], chain)
        assert tags[:length, b].tolist() == alone[:, 0].tolist()
        assert best[b] == pytest.approx(value[0])
        assert sums[b] == pytest.approx(infer(own[:, 0], chain).log_z)


def test_what_is_forbidden_is_never_answered() -> None:
    free = Chain(np.where(np.eye(2, dtype=bool), 0.0, -np.inf), np.zeros(2), np.array([0.0, -np.inf]))
    e = np.array([[0.0, 50.0], [0.0, 50.0]])
    assert viterbi(e[:, None], np.array([2]), free)[0].tolist() == [[0], [0]]
    np.testing.assert_allclose(infer(e, free).marginals(), [[1, 0], [1, 0]])


def test_large_scores_neither_overflow_nor_vanish() -> None:
    e = np.array([[1e4, 0.0], [0.0, -1e4], [1e4, 1e4]])
    found = infer(e, Chain(np.zeros((2, 2)), np.zeros(2), np.zeros(2)))
    assert found.log_z == pytest.approx(2e4 + np.log(2))
    assert log_sum(np.full((2, 2), -np.inf), 0).tolist() == [-np.inf, -np.inf]
