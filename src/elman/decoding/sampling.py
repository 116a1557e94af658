"""Sampling: what is drawn from, and the draw, token by token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from elman.decoding.checks import check_options
from elman.decoding.step import Step

__all__ = ["probabilities", "sample"]


def probabilities(
    logits: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    banned: Sequence[int] = (),
) -> Tensor:
    """What is drawn from: `(B, V)` probabilities of `(B, V)` logits.

        p = softmax(logits / temperature), cut to the `top_k` likeliest (0: all), then to the fewest likeliest
            whose sum reaches `top_p` (Holtzman et al., arXiv 1904.09751), then scaled to a sum of one

    temperature 0 puts all on the likeliest. banned: numbers that never come out.
    Raises ValueError for a temperature below 0, a top_k below 0, a top_p outside (0, 1], or if all are banned.
    """
    check_options(logits.shape[-1], temperature, top_k, top_p, banned)
    logits = logits.to(torch.float64)
    if banned:
        logits = logits.index_fill(-1, torch.tensor(list(banned), device=logits.device), -torch.inf)
    if temperature == 0:
        return torch.zeros_like(logits).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
    # The likeliest is taken off first: a small temperature must not make infinity of it.
    scaled = (logits - logits.amax(-1, keepdim=True)) / temperature
    ordered, order = scaled.softmax(-1).sort(dim=-1, descending=True, stable=True)
    if top_k:
        ordered[..., top_k:] = 0
        ordered /= ordered.sum(-1, keepdim=True)
    # Dropped is what stands after the sum has reached top_p; the first always stays.
    ordered[ordered.cumsum(-1) - ordered >= top_p] = 0
    chosen = torch.zeros_like(ordered).scatter_(-1, order, ordered)
    return chosen / chosen.sum(-1, keepdim=True)


def sample(
    step: Step,
    tokens: Tensor,
    state: Any,
    *,
    length: int,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    banned: Sequence[int] = (),
    end: int | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Draw `length` tokens for each of B rows, one after the other: yields `(B,)` int64 as soon as each is drawn.

    The model is asked `length` times for one step; its state carries all that came before, so a token costs the same
    wherever it stands. tokens: `(B,)`, the last ones of the given text, not yet shown to the model. state: after all
    that came before them. end: the number that ends a sequence; a row that has drawn it gives it from then on, and the
    iteration stops when all rows have. The other arguments are those of `probabilities`; `generator` makes the draw
    repeatable.
    """
    ended = torch.zeros(len(tokens), dtype=torch.bool)
    for _ in range(length):
        logits, state = step(tokens, state)
        chances = probabilities(logits, temperature=temperature, top_k=top_k, top_p=top_p, banned=banned)
        tokens = torch.multinomial(chances, 1, generator=generator).squeeze(-1)
        if end is not None:
            tokens = tokens.masked_fill(ended.to(tokens.device), end)
            ended |= tokens.cpu() == end
        yield tokens
        if end is not None and bool(ended.all()):
            return
