"""What a search may not say: bans on the next token of each row, and the penalty on what was said before."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["ban_repeated_ngrams", "only", "penalize_repetition", "prefix_table"]


def ban_repeated_ngrams(logits: Tensor, history: Tensor, n: int, keep: int) -> Tensor:
    """Bar each token that would complete an n-gram its row holds already (Paulus et al., arXiv 1705.04304, 2.5).

    logits `(R, V)`, history `(R, t)`: the tokens so far. keep: the end, which no n-gram bars.
    """
    t = history.shape[1]
    if t < n:
        return logits
    grams = history.unfold(1, n, 1)
    last = history[:, t - n + 1 :].unsqueeze(1)
    repeats = (grams[..., :-1] == last).all(-1)
    barred = torch.zeros_like(logits, dtype=torch.int8)
    barred.scatter_reduce_(1, grams[..., -1], repeats.to(torch.int8), "amax")
    barred[:, keep] = 0
    return logits.masked_fill(barred.bool(), -torch.inf)


def penalize_repetition(logits: Tensor, history: Tensor, penalty: float) -> Tensor:
    """Make what a row has said less likely (Keskar et al., arXiv 1909.05858, 4.1): x / penalty where x > 0, else
    x * penalty, before the softmax."""
    said = logits.gather(1, history)
    return logits.scatter(1, history, torch.where(said > 0, said / penalty, said * penalty))


def only(logits: Tensor, tokens: Tensor, rows: Tensor) -> Tensor:
    """Leave a row of `rows` (bool `(R,)`) one choice: its token of `tokens` `(R,)`."""
    allowed = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, tokens.unsqueeze(1), True)
    return logits.masked_fill(rows.unsqueeze(1) & ~allowed, -torch.inf)


def prefix_table(prefix: Sequence[Sequence[int]], end: int) -> tuple[Tensor, Tensor]:
    """Forced beginnings as a table `(B, P)` and their lengths `(B,)`. Raises ValueError where one holds the end."""
    lengths = [len(row) for row in prefix]
    table = torch.full((len(prefix), max([1, *lengths])), end)
    for i, row in enumerate(prefix):
        if end in row:
            raise ValueError(
                f"the prefix of sentence {i} holds the end ({end}); a prefix is what stands before it"
            )
        table[i, : len(row)] = torch.tensor(list(row), dtype=torch.int64)
    return table, torch.tensor(lengths)
