"""Measures of a model, from sums of losses."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

__all__ = ["Likelihood", "bits", "perplexity"]


def perplexity(nats: float) -> float:
    """exp of the mean loss: as uncertain as a free choice among so many. `nats`: mean negative log likelihood."""
    return math.exp(nats) if nats < 700 else math.inf


def bits(nats: float) -> float:
    """The mean loss in bits: what a coder would need for each token. `nats`: mean negative log likelihood."""
    return nats / math.log(2)


class Likelihood(NamedTuple):
    """How well a model predicts a text.

    nats: -sum log p over all predictions. tokens: how many were predicted. characters: how many those are (bytes,
    where tokens are bytes), None where that has no meaning. unknown: share of the text's tokens that it did not know.
    """

    nats: float
    tokens: int
    characters: float | None = None
    unknown: float = 0.0

    @property
    def loss(self) -> float:
        """Mean negative log likelihood of a token, in nats."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return perplexity(self.loss)

    @property
    def bits_per_character(self) -> float | None:
        """What a coder would need for each character."""
        return bits(self.nats) / self.characters if self.characters else None

    def figures(self) -> dict[str, Any]:
        """All of it by name."""
        own = {
            "loss": self.loss,
            "perplexity": self.perplexity,
            "bits_per_character": self.bits_per_character,
        }
        return {**own, "tokens": self.tokens, "unknown": self.unknown}
