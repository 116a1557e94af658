"""A linear chain over the answers of a tagger: a conditional random field (Lafferty, McCallum and Pereira 2001)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from elman.nn.layout import going
from elman.nn.recurrent import Recurrent

__all__ = ["ChainCell", "LinearChain"]

# What a forbidden step costs, in nats: exp of it is 0 in every float, and no sum of it overflows.
FORBIDDEN = -1e4


class ChainCell(nn.Module):
    r"""One step of the forward recursion, in log space (Rabiner 1989, equation 20).

        α_t[j] = e_t[j] + log Σ_i exp(α_{t−1}[i] + A[i, j])

    x_t: e_t, the emissions `(B, K)`. State: α `(B, K)`, log of the sum over all beginnings that end in tag j. A
    `(K, K)`: `transitions`, from tag i to tag j, and `penalty`, a constant that is added to it.
    """

    def __init__(self, tags: int) -> None:
        super().__init__()
        self.input_size = self.hidden_size = self.output_size = tags
        self.transitions = nn.Parameter(torch.zeros(tags, tags))
        self.penalty: Tensor
        self.register_buffer("penalty", torch.zeros(tags, tags))

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """α_t, as output and as state."""
        alpha = x + torch.logsumexp(state.unsqueeze(2) + (self.transitions + self.penalty), dim=1)
        return alpha, alpha


class LinearChain(nn.Module):
    r"""The probability of a whole sequence of tags, K of them, from the scores e_t that a network gives each step.

        score(y) = start[y_1] + Σ_t e_t[y_t] + Σ_{t>1} A[y_{t−1}, y_t] + end[y_T]
        −log p(y) = log Z − score(y),      log Z = log Σ over all y' of exp score(y')

    log Z comes from `ChainCell`, unfolded by the engine over each row's own length: K² sums a step, not K^T.
    allowed: which tags may follow which `(K, K)`, may be first and last `(K,)`; what is not costs 10,000 nats, so that
    it has no share in Z. A, start and end begin at 0 and are learned.

    `elman.decoding.chain` finds the best sequence, and what is likely at each step, by the same equations.
    """

    def __init__(self, tags: int, allowed: tuple[Any, Any, Any] | None = None) -> None:
        super().__init__()
        self.tags = tags
        self.recursion = Recurrent(ChainCell(tags))
        self.start = nn.Parameter(torch.zeros(tags))
        self.end = nn.Parameter(torch.zeros(tags))
        self.first: Tensor
        self.last: Tensor
        self.register_buffer("first", torch.zeros(tags))
        self.register_buffer("last", torch.zeros(tags))
        if allowed is not None:
            pairs, first, last = (torch.as_tensor(part, dtype=torch.bool) for part in allowed)
            self.cell.penalty.masked_fill_(~pairs, FORBIDDEN)
            self.first.masked_fill_(~first, FORBIDDEN)
            self.last.masked_fill_(~last, FORBIDDEN)

    @property
    def cell(self) -> ChainCell:
        """The step, which holds A."""
        found: Any = self.recursion.cells[0]
        cell: ChainCell = found
        return cell

    def extra_repr(self) -> str:
        """The size."""
        return f"{self.tags}"

    def forward(self, emissions: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """−log p of each row's tags, `(B,)` in nats.

        emissions `(T, B, K)`; tags `(T, B)`, integers below K; lengths `(B,)`, from 1 up, on any device. What stands in
        the padding has no effect.
        """
        lengths = lengths.to(emissions.device)
        return self.log_partition(emissions, lengths) - self.score(emissions, tags, lengths)

    def log_partition(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """log Z of each row, `(B,)`."""
        alpha = self.start + self.first + emissions[0]
        if emissions.shape[0] > 1:
            _, found = self.recursion(emissions[1:], alpha, lengths=lengths - 1)
            alpha = found
        return torch.logsumexp(alpha + self.end + self.last, dim=1)

    def score(self, emissions: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """score(y) of each row, `(B,)`."""
        valid = going(emissions, lengths)
        tags = torch.where(valid, tags, 0)
        own = emissions.gather(2, tags.unsqueeze(2)).squeeze(2)
        emitted = torch.where(valid, own, 0.0).sum(0)
        A = self.cell.transitions + self.cell.penalty
        moved = torch.where(valid[1:], A[tags[:-1], tags[1:]], 0.0).sum(0)
        last = tags.gather(0, (lengths.long() - 1).unsqueeze(0))[0]
        ends = (self.start + self.first)[tags[0]] + (self.end + self.last)[last]
        return emitted + moved + ends
