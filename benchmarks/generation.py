"""Text that a language model writes, one sequence, float32, one thread: a stream beside calls of one step.

A call of a side writes 400 tokens from one seed, the state carried over; the times are of one call. Ours is what `elman
generate` does: `tagger.stream()` and `elman.decoding.Draw`. Theirs is `Tagger.step`, and `elman.decoding.probabilities`
with the same random numbers. Both must write the same. The first model is that of configs/language_model/demo.toml.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks.pairing import Answers, Case, Side
from elman.decoding import Draw, probabilities
from elman.nn import LanguageModel

THREADS = 1
LENGTH = 400
SEED = 1
# vocabulary, embedding, hidden, layers
MODELS: dict[str, tuple[str, int, int, int, int]] = {
    "demo LSTM-384, 100 characters": ("lstm", 100, 64, 384, 1),
    "LSTM 2 x 200, 10,000 words": ("lstm", 10_000, 200, 200, 2),
    "GRU-128, 100 characters": ("gru", 100, 64, 128, 1),
}
DRAWN: dict[str, Mapping[str, Any]] = {
    "temperature 0.8": {"temperature": 0.8},
    "greedy": {"temperature": 0.0},
    "top-k 20, top-p 0.9": {"temperature": 0.8, "top_k": 20, "top_p": 0.9},
}
BAR = {"demo LSTM-384, 100 characters": 5.0}


def cases() -> Iterator[Case]:
    """The demo's model with each way to draw, the others with the first."""
    for title, (cell, vocabulary, embedding, hidden, layers) in MODELS.items():
        torch.manual_seed(0)
        model = LanguageModel(vocabulary, embedding, hidden, layers, cell=cell).eval()
        with torch.no_grad():
            model.head.weight.mul_(8)  # as far from flat as a trained one
        for way, options in list(DRAWN.items())[: None if title in BAR else 1]:
            ours, theirs = by_stream(model, options), by_steps(model, options)
            yield Case(f"{title}, {way}", Side("stream", ours), Side("step by step", theirs), BAR.get(title))


def by_stream(model: LanguageModel, options: Mapping[str, Any]) -> Callable[[], Answers]:
    """The stream, made anew for each text."""

    def run() -> Answers:
        stream, draw = model.stream(), Draw(model.head.out_features, banned=(0,), seed=SEED, **options)
        token, tokens = 1, []
        for _ in range(LENGTH):
            [token] = draw(stream([token]))
            tokens.append(token)
        return {"text": torch.tensor(tokens)}

    return run


def by_steps(model: LanguageModel, options: Mapping[str, Any]) -> Callable[[], Answers]:
    """A call of the network for each token."""

    def run() -> Answers:
        generator = torch.Generator().manual_seed(SEED)
        # As `Draw` takes them: in blocks of 256.
        uniform = torch.cat([torch.rand(256, dtype=torch.float64, generator=generator) for _ in range(2)])
        state, token, tokens = model.initial_state(1), torch.tensor([1]), []
        for step in range(LENGTH):
            logits, state = model.step(token, state)
            token = drawn(probabilities(logits, banned=(0,), **options), uniform[step])
            tokens.append(int(token))
        return {"text": torch.tensor(tokens)}

    return run


def drawn(chances: Tensor, u: Tensor) -> Tensor:
    """The first whose sum is above u: `(1, V)` and a number to `(1,)`."""
    sums = chances[0].cumsum(-1)
    return torch.searchsorted(sums, u * sums[-1], right=True).unsqueeze(0)
