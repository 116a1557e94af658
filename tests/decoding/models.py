"""Small recurrent models as steps, and the slow search that the fast one is held to."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

END = 0


class State(NamedTuple):
    """hidden `(R, H)`; weights `(R, S)`: attention of the last step."""

    hidden: Tensor
    weights: Tensor


class Model:
    """h' = tanh(W h + E[token]), logits U h', attention softmax(A h'); each sentence has a start of its own."""

    def __init__(self, seed: int, *, vocabulary: int = 4, hidden: int = 5, source: int = 3) -> None:
        draw = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=draw, dtype=torch.float64)

        self.W, self.E = normal(hidden, hidden), normal(vocabulary, hidden)
        self.U, self.A = 2 * normal(vocabulary, hidden), normal(source, hidden)
        self.starts = normal(16, hidden)
        self.vocabulary, self.source, self.rows = vocabulary, source, 0

    def state(self, *sentences: int) -> State:
        """Where these sentences begin."""
        return State(
            self.starts[list(sentences)], torch.zeros(len(sentences), self.source, dtype=torch.float64)
        )

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """A step; rows are computed one by one, so that a batch cannot change a bit."""
        self.rows += len(tokens)
        hidden = torch.stack(
            [torch.tanh(self.W @ h + self.E[t]) for h, t in zip(state.hidden, tokens, strict=True)]
        )
        logits = torch.stack([self.U @ h for h in hidden])
        return logits, State(hidden, torch.stack([(self.A @ h).softmax(-1) for h in hidden]))


def read(model: Model, sentence: int, tokens: tuple[int, ...], first: int = 1) -> tuple[float, Tensor]:
    """log p of the tokens and the end behind them, by the definition; and the attention `(t, S)` of the steps."""
    state, total, weights = model.state(sentence), 0.0, []
    for given, wanted in itertools.pairwise((first, *tokens, END)):
        logits, state = model.step(torch.tensor([given]), state)
        total += float(logits.log_softmax(-1)[0, wanted])
        weights.append(state.weights[0])
    return total, torch.stack(weights)


def all_sequences(vocabulary: int, longest: int) -> list[tuple[int, ...]]:
    """Every sequence of at most `longest` tokens that are not the end."""
    words = [w for w in range(vocabulary) if w != END]
    return [s for n in range(longest + 1) for s in itertools.product(words, repeat=n)]


def exhaustive(
    model: Model,
    sentence: int,
    longest: int,
    *,
    allowed: Callable[[tuple[int, ...]], bool] = lambda s: True,
    score: Callable[[float, int, Tensor], float] = lambda total, length, weights: total,
) -> list[tuple[tuple[int, ...], float, float]]:
    """(tokens, log p, score) of all allowed sequences, best first."""
    found = []
    for tokens in filter(allowed, all_sequences(model.vocabulary, longest)):
        total, weights = read(model, sentence, tokens)
        found.append((tokens, total, score(total, len(tokens) + 1, weights)))
    return sorted(found, key=lambda entry: -entry[2])
