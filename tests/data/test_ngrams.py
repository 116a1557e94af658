"""Baselines of a language model: true probabilities, and those of the formula."""

import numpy as np
import pytest

from elman.data.ngrams import bigram_loss, unigram_loss


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rule", [unigram_loss, bigram_loss])
def test_what_may_follow_sums_to_one(seed: int, rule) -> None:  # type: ignore[no-untyped-def]
    draw = np.random.default_rng(seed)
    size = int(draw.integers(2, 9))
    train = draw.integers(0, max(1, size - 1), int(draw.integers(1, 40))).astype(np.int32)
    for before in range(size):
        chances = [np.exp(-rule(train, np.array([before, token]), size)) for token in range(size)]
        assert sum(chances) == pytest.approx(1)


def test_the_formula_by_hand() -> None:
    train, text = np.array([0, 1, 0, 1, 0, 2]), np.array([0, 1, 2])
    frequency = {0: 4 / 9, 1: 3 / 9, 2: 2 / 9}
    assert unigram_loss(train, text, 3) == pytest.approx(-np.log([frequency[1], frequency[2]]).mean())
    after_0 = (2 - 0.75) / 3 + 0.75 * 2 / 3 * frequency[1]
    after_1 = 0.75 * 1 / 2 * frequency[2]
    assert bigram_loss(train, text, 3) == pytest.approx(-np.log([after_0, after_1]).mean())
