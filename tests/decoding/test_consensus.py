"""What the hypotheses have in common: against the sum written out, and by its limits."""

import math

import numpy as np
import pytest

from elman.decoding import expected_likeness


def slow(a: str, b: str) -> float:
    total = 0.0
    for n in (1, 2, 3, 4):
        one, other = ([x[i : i + n] for i in range(len(x) - n + 1)] for x in (a, b))
        every = sorted({*one, *other})
        p, q = ([x.count(gram) for gram in every] for x in (one, other))
        norms = math.sqrt(sum(k * k for k in p)) * math.sqrt(sum(k * k for k in q))
        total += sum(min(i, j) * j for i, j in zip(p, q, strict=True)) / norms if norms else 0.0
    return math.exp(-((len(a) - len(b)) ** 2) / 72) * total / 4


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_sum_written_out(seed: int) -> None:
    draw = np.random.default_rng(seed)
    answers = ["".join(draw.choice(list("abc"), int(draw.integers(0, 8)))) for _ in range(6)]
    log_p, T = draw.normal(-4, 2, 6), float(draw.uniform(0.5, 3))
    q = np.exp(log_p / T) / np.exp(log_p / T).sum()
    expected = [sum(q[j] * slow(a, answers[j]) for j in range(6)) for a in answers]
    np.testing.assert_allclose(expected_likeness(answers, log_p.tolist(), T), expected, rtol=1e-9)
    order = draw.permutation(6)
    moved = expected_likeness([answers[i] for i in order], log_p[order].tolist(), T)
    np.testing.assert_allclose(moved, np.array(expected)[order], rtol=1e-9)


def test_a_low_temperature_leaves_the_likeliest() -> None:
    answers = [list("abcde"), list("vwxyz"), list("vwxyy"), list("vwxyq")]
    log_p = [-1.0, -1.5, -1.6, -1.6]
    assert int(np.argmax(expected_likeness(answers, log_p, 0.01))) == 0
    # The other three agree, and are likelier together.
    assert int(np.argmax(expected_likeness(answers, log_p, 1.0))) == 1


def test_ends() -> None:
    assert expected_likeness([], [], 1.0) == []
    assert expected_likeness([list("abcd")], [-1e9], 1.0) == [pytest.approx(1.0)]
    with pytest.raises(ValueError, match="above 0"):
        expected_likeness([[1]], [0.0], 0.0)
