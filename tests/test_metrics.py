"""Measures of a loss."""

import math

from elman.metrics import Likelihood, bits, perplexity


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
