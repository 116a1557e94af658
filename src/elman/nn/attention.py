"""Attention of a query to the steps of a memory, to be called inside a cell's step or on its own.

Each module is called as `attention(query, memory, mask)` with a query `(B, Q)`, a memory `(B, S, M)` and a mask
`(B, S)`, true at the steps that may be looked at (None: all). It returns the vector read and the weights of the steps.
A memory that is a cell's context does not change over the steps: the engine makes its products once a call. Where steps
are asked one by one, `prepare` makes these products once, and `read` looks: read(query, prepare(memory, mask)).
There K queries of each row may look at once: query `(B, K, Q)`, vector `(B, K, M)`, weights `(B, K, S)`.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman.nn.cells.base import check_size

__all__ = [
    "AdditiveAttention",
    "Attended",
    "Attention",
    "ConcatAttention",
    "CoverageAttention",
    "DotAttention",
    "GeneralAttention",
    "LocationAttention",
    "Memory",
    "MonotonicAttention",
    "MultiHeadAttention",
    "SummedAttention",
    "masked_softmax",
]


# What a chance is divided by at the least.
TINY = 1e-10


class Attended(NamedTuple):
    """vector: `(B, M)`, what was read. weights: `(B, S)`, of heads `(B, N, S)`; zero where the mask is false."""

    vector: Tensor
    weights: Tensor


class Memory(NamedTuple):
    """A memory of S steps as an attention reads it: what scores are made of, what is read, and which steps count.

    keys `(B, S, ...)`, values `(B, S, M)`, of heads `(B, S, N, A / N)`; mask `(B, S)` or None. Zeros where it is false.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor | None


def masked_softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax over the last axis where `mask` is true, zero elsewhere; zeros in a row whose mask is all false."""
    if mask is None:
        return scores.softmax(-1)
    if mask.dim() < scores.dim():
        mask = mask.unsqueeze(1)
    # The lowest finite number, not -inf: a row of -inf alone has no softmax, and no gradient.
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(-1).masked_fill(~mask, 0.0)


class Attention(nn.Module):
    """a_s = softmax over s of score(q, m_s), where the mask is true; vector = Σ_s a_s m_s. A subclass has the score."""

    @abstractmethod
    def keys(self, memory: Tensor) -> Tensor:
        """What the score needs of each step of a memory `(B, S, M)`: `(B, S, A)`."""

    @abstractmethod
    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """`(B, S)`; of K queries `(B, K, S)`."""

    def prepare(self, memory: Tensor, mask: Tensor | None = None) -> Memory:
        """A memory `(B, S, M)` that is looked at many times; mask `(B, S)`."""
        memory = seen(memory, mask)
        return Memory(self.keys(memory), memory, mask)

    def read(self, query: Tensor, memory: Memory) -> Attended:
        """What `query` `(B, Q)`, or each of K queries `(B, K, Q)`, reads."""
        weights = masked_softmax(self.scores(query, memory.keys), memory.mask)
        return Attended(read(weights, memory.values), weights)

    def forward(self, query: Tensor, memory: Tensor, mask: Tensor | None = None) -> Attended:
        """What `query` `(B, Q)` reads of `memory` `(B, S, M)`; mask `(B, S)`."""
        return self.read(query, self.prepare(memory, mask))


def seen(memory: Tensor, mask: Tensor | None) -> Tensor:
    """The memory, zeros where the mask is false: what stands there reaches neither a value nor a gradient."""
    return memory if mask is None else memory.masked_fill(~mask.unsqueeze(-1), 0.0)


def read(weights: Tensor, memory: Tensor) -> Tensor:
    """Σ_s a_s m_s."""
    if weights.dim() == memory.dim():
        return weights @ memory
    return (weights.unsqueeze(-1) * memory).sum(1)


def beside(query: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys with an axis for each other: `(B, 1, A)` and `(B, S, A)`, or `(B, K, 1, A)`, `(B, 1, S, A)`."""
    return query.unsqueeze(-2), keys.unsqueeze(1) if query.dim() == keys.dim() else keys


def dot(query: Tensor, keys: Tensor) -> Tensor:
    """Σ_a q_a k_sa."""
    if query.dim() == keys.dim():
        return query @ keys.transpose(-1, -2)
    return (keys * query.unsqueeze(-2)).sum(-1)


class DotAttention(Attention):
    """score = q·m_s (Luong, Pham & Manning 2015, eq. 8, "dot"), with `scaled` divided by sqrt(M) (Vaswani et al. 2017).

    The query is as wide as the memory, and there are no parameters.
    """

    def __init__(self, *, scaled: bool = False) -> None:
        super().__init__()
        self.scaled = scaled

    def keys(self, memory: Tensor) -> Tensor:
        """The memory itself."""
        return memory

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """`(B, S)`; ValueError where the widths differ."""
        if query.shape[-1] != keys.shape[-1]:
            raise ValueError(
                f"DotAttention: the query has {query.shape[-1]} features, the memory {keys.shape[-1]}; make them "
                f"equal, or take GeneralAttention"
            )
        found = dot(query, keys)
        return found / keys.shape[-1] ** 0.5 if self.scaled else found

    def extra_repr(self) -> str:
        """What differs from the default."""
        return "scaled=True" if self.scaled else ""


class GeneralAttention(Attention):
    """score = q·(W m_s), W `(Q, M)` (Luong, Pham & Manning 2015, eq. 8, "general")."""

    def __init__(self, query_size: int, memory_size: int) -> None:
        super().__init__()
        self.key = nn.Linear(check_size("memory_size", memory_size), query_size, bias=False)

    def keys(self, memory: Tensor) -> Tensor:
        """W m_s."""
        found: Tensor = self.key(memory)
        return found

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """`(B, S)`."""
        return dot(query, keys)


class AdditiveAttention(Attention):
    """score = v·tanh(W q + U m_s + b) (Bahdanau, Cho & Bengio 2015, appendix A.1.2, with a bias).

    W `(A, Q)`, U `(A, M)`, b and v `(A)`; `size` is A.
    """

    def __init__(self, query_size: int, memory_size: int, size: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_size, check_size("size", size))
        self.key = nn.Linear(memory_size, size, bias=False)
        self.score = nn.Linear(size, 1, bias=False)

    def keys(self, memory: Tensor) -> Tensor:
        """U m_s."""
        found: Tensor = self.key(memory)
        return found

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """`(B, S)`."""
        q, k = beside(self.query(query), keys)
        found: Tensor = self.score(torch.tanh(q + k)).squeeze(-1)
        return found


class ConcatAttention(Attention):
    """score = v·tanh(W [q ; m_s]), W `(A, Q + M)` (Luong, Pham & Manning 2015, eq. 8, "concat")."""

    def __init__(self, query_size: int, memory_size: int, size: int) -> None:
        super().__init__()
        self.query_size = query_size
        self.mix = nn.Linear(query_size + memory_size, check_size("size", size), bias=False)
        self.score = nn.Linear(size, 1, bias=False)

    def keys(self, memory: Tensor) -> Tensor:
        """The part of W [q ; m_s] that does not wait for q."""
        return F.linear(memory, self.mix.weight[:, self.query_size :])

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """`(B, S)`."""
        q, k = beside(F.linear(query, self.mix.weight[:, : self.query_size]), keys)
        found: Tensor = self.score(torch.tanh(q + k)).squeeze(-1)
        return found


class MultiHeadAttention(nn.Module):
    r"""N heads side by side (Vaswani et al. 2017, section 3.2.2), each with W_q, W_k, W_v of its own.

        head_n = Σ_s softmax_s((W_q q)·(W_k m_s) / sqrt(A / N)) W_v m_s        vector = W_o [head_1 ; ...] + b_o

    size: A, all heads together; the vector is as wide. All products have biases, as in torch.nn.MultiheadAttention.
    """

    def __init__(self, query_size: int, memory_size: int, size: int, heads: int) -> None:
        super().__init__()
        if check_size("size", size) % check_size("heads", heads):
            raise ValueError(f"size={size} is not divided by heads={heads}; expected a multiple of it")
        self.heads = heads
        self.query = nn.Linear(query_size, size)
        self.key = nn.Linear(memory_size, size)
        self.value = nn.Linear(memory_size, size)
        self.out = nn.Linear(size, size)

    def prepare(self, memory: Tensor, mask: Tensor | None = None) -> Memory:
        """Keys and values of the heads, `(B, S, N, A / N)` each."""
        B, S, _ = memory.shape
        memory = seen(memory, mask)
        keys, values = (part(memory).view(B, S, self.heads, -1) for part in (self.key, self.value))
        return Memory(keys, values, mask)

    def read(self, query: Tensor, memory: Memory) -> Attended:
        """What `query` `(B, Q)`, or each of K queries `(B, K, Q)`, reads; their weights are `(B, K, N, S)`."""
        if query.dim() == 3:
            return self._read_many(query, memory)
        B, mask = query.shape[0], memory.mask
        q = self.query(query).view(B, 1, self.heads, -1)  # (B, 1, N, A / N)
        scores = (q * memory.keys).sum(-1).transpose(1, 2) / q.shape[-1] ** 0.5  # (B, N, S)
        weights = masked_softmax(scores, None if mask is None else mask.unsqueeze(1))
        heads = (weights.transpose(1, 2).unsqueeze(-1) * memory.values).sum(1)  # (B, N, A / N)
        return Attended(self.out(heads.reshape(B, -1)), weights)

    def _read_many(self, query: Tensor, memory: Memory) -> Attended:
        B, K, _ = query.shape
        q = self.query(query).view(B, K, self.heads, -1).transpose(1, 2)  # (B, N, K, A / N)
        keys, values = (part.transpose(1, 2) for part in (memory.keys, memory.values))  # (B, N, S, A / N)
        scores = q @ keys.transpose(-1, -2) / q.shape[-1] ** 0.5  # (B, N, K, S)
        mask = None if memory.mask is None else memory.mask[:, None, None]
        weights = masked_softmax(scores, mask)
        heads = (weights @ values).transpose(1, 2)  # (B, K, N, A / N)
        return Attended(self.out(heads.reshape(B, K, -1)), weights.transpose(1, 2))

    def forward(self, query: Tensor, memory: Tensor, mask: Tensor | None = None) -> Attended:
        """What `query` `(B, Q)` reads of `memory` `(B, S, M)`: `(B, A)`, and the weights `(B, N, S)`."""
        return self.read(query, self.prepare(memory, mask))

    def extra_repr(self) -> str:
        """The number of heads."""
        return f"heads={self.heads}"


class LookingBack(nn.Module):
    """An attention that goes on from where it has looked; what it keeps of that is `before` `(B, S)`."""

    def start(self, before: Tensor) -> Tensor:
        """What is kept before the first step, from zeros `(B, S)`: the first step of the memory was looked at."""
        return F.pad(before[..., 1:], (1, 0), value=1.0)

    def keep(self, before: Tensor, weights: Tensor) -> Tensor:
        """What is kept after a step: its weights."""
        return weights

    def prepare(self, memory: Tensor, mask: Tensor | None = None) -> Memory:
        """U m_s as keys."""
        memory = seen(memory, mask)
        key: Any = self.key
        return Memory(key(memory), memory, mask)

    @abstractmethod
    def read(self, query: Tensor, memory: Memory, before: Tensor) -> Attended:
        """What `query` `(B, Q)` reads where `before` `(B, S)` was kept.

        Of K queries `(B, K, Q)` each has its own, `(B, K, S)`.
        """

    def forward(self, query: Tensor, memory: Tensor, before: Tensor, mask: Tensor | None = None) -> Attended:
        """What `query` `(B, Q)` reads of `memory` `(B, S, M)`; before `(B, S)`: what was kept of the steps before."""
        return self.read(query, self.prepare(memory, mask), before)


class LocationAttention(LookingBack):
    r"""Additive attention that sees where it looked before (Chorowski et al. 2015, eq. 8 and 9).

        f_s = Σ_j K_j a'_{s+j}        score = v·tanh(W q + U m_s + L f_s + b)

    a' `(B, S)`: the weights of the step before, which the caller keeps in its state. K: `filters` kernels of `width`
    steps (odd), zeros around the memory; L `(A, filters)`.
    """

    def __init__(
        self, query_size: int, memory_size: int, size: int, *, filters: int = 10, width: int = 31
    ) -> None:
        super().__init__()
        if check_size("width", width) % 2 == 0:
            raise ValueError(f"width={width}; expected an odd number of steps, as many on both sides")
        self.query = nn.Linear(query_size, check_size("size", size))
        self.key = nn.Linear(memory_size, size, bias=False)
        self.kernels = nn.Parameter(torch.empty(check_size("filters", filters), width))
        self.location = nn.Linear(filters, size, bias=False)
        self.score = nn.Linear(size, 1, bias=False)
        nn.init.uniform_(self.kernels, -(width**-0.5), width**-0.5)

    def read(self, query: Tensor, memory: Memory, before: Tensor) -> Attended:
        """See `LookingBack.read`; before: the weights of the step before."""
        S, width = before.shape[-1], self.kernels.shape[1]
        around = F.pad(before, (width // 2, width // 2))
        # As slices: the engine has them, and no convolution.
        windows = torch.stack([around[..., j : j + S] for j in range(width)], -1)  # (B, S, width)
        features = F.linear(windows, self.kernels)  # (B, S, filters)
        q, k = beside(self.query(query), memory.keys)
        scores = self.score(torch.tanh(q + k + self.location(features))).squeeze(-1)
        weights = masked_softmax(scores, memory.mask)
        return Attended(read(weights, memory.values), weights)


class CoverageAttention(LookingBack):
    r"""Additive attention that sees how much it has looked at each step so far (See, Liu & Manning 2017, eq. 10, 11).

        c = Σ over the steps before of a        score = v·tanh(W q + U m_s + w c_s + b)

    w `(A)`; c `(B, S)` is what is kept, zeros at the start (coverage as a sum of weights: Tu et al. 2016).
    """

    def __init__(self, query_size: int, memory_size: int, size: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_size, check_size("size", size))
        self.key = nn.Linear(memory_size, size, bias=False)
        self.coverage = nn.Parameter(torch.empty(size))
        self.score = nn.Linear(size, 1, bias=False)
        nn.init.uniform_(self.coverage, -(size**-0.5), size**-0.5)

    def start(self, before: Tensor) -> Tensor:
        """Nothing was looked at."""
        return before

    def keep(self, before: Tensor, weights: Tensor) -> Tensor:
        """The sum of all weights so far."""
        return before + weights

    def read(self, query: Tensor, memory: Memory, before: Tensor) -> Attended:
        """See `LookingBack.read`; before: the sum of the weights so far."""
        q, k = beside(self.query(query), memory.keys)
        scores = self.score(torch.tanh(q + k + before.unsqueeze(-1) * self.coverage)).squeeze(-1)
        weights = masked_softmax(scores, memory.mask)
        return Attended(read(weights, memory.values), weights)


class SummedAttention(LookingBack):
    r"""Any attention, with c = Σ over the steps of a kept beside it `(B, S)`: how much each step was looked at so far.

    The weights are those of `attention`, which does not see c; of heads the mean. What a decoder's state holds after
    its last step is what Xu et al. 2015 (arXiv 1502.03044, eq. 14) draw towards one, the *doubly stochastic* attention:
    λ Σ_s (1 − c_s)².
    """

    def __init__(self, attention: Attention | MultiHeadAttention) -> None:
        super().__init__()
        self.attention = attention

    def start(self, before: Tensor) -> Tensor:
        """Nothing was looked at."""
        return before

    def keep(self, before: Tensor, weights: Tensor) -> Tensor:
        """The sum of all weights so far."""
        return before + (weights.mean(-2) if weights.dim() > before.dim() else weights)

    def prepare(self, memory: Tensor, mask: Tensor | None = None) -> Memory:
        """As `attention` has it."""
        return self.attention.prepare(memory, mask)

    def read(self, query: Tensor, memory: Memory, before: Tensor) -> Attended:
        """What `attention` reads."""
        return self.attention.read(query, memory)


class MonotonicAttention(LookingBack):
    r"""Attention that never goes back: the chance to stop at each step, on from where it stood (Raffel et al. 2017).

        e_s = v·tanh(W q + U m_s + b) + r    p_s = σ(e_s + noise)
        a_s = p_s ((1 − p_{s−1}) a_{s−1} / p_{s−1} + a'_s)                                            eq. 10 and 11
            = p_s Π_{k<s} (1 − p_k) Σ_{l≤s} a'_l / Π_{k<l} (1 − p_k)                                  appendix C

    a' `(B, S)`: the weights of the step before. What does not stop before the end reads nothing, so that weights may
    sum to less than one. noise: standard deviation of the Gaussian noise that in training drives p to 0 and 1.
    r starts at −1. The v of the paper is normalized to a gain; here it is free.
    """

    def __init__(self, query_size: int, memory_size: int, size: int, *, noise: float = 1.0) -> None:
        super().__init__()
        self.query = nn.Linear(query_size, check_size("size", size))
        self.key = nn.Linear(memory_size, size, bias=False)
        self.score = nn.Linear(size, 1)
        self.noise = noise
        nn.init.constant_(self.score.bias, -1.0)

    def read(self, query: Tensor, memory: Memory, before: Tensor) -> Attended:
        """See `LookingBack.read`; before: the weights of the step before."""
        q, k = beside(self.query(query), memory.keys)
        energies = self.score(torch.tanh(q + k)).squeeze(-1)
        if self.training and self.noise:
            energies = energies + self.noise * torch.randn_like(energies)
        stop = torch.sigmoid(energies)
        if memory.mask is not None:
            mask = memory.mask if memory.mask.dim() == stop.dim() else memory.mask.unsqueeze(1)
            stop = stop.masked_fill(~mask, 0.0)
        going = torch.log((1 - stop).clamp(min=TINY)).cumsum(-1)
        past = torch.exp(F.pad(going[..., :-1], (1, 0)))  # Π_{k<s} (1 − p_k)
        weights = stop * past * (before / past.clamp(min=TINY)).cumsum(-1)
        return Attended(read(weights, memory.values), weights)

    def extra_repr(self) -> str:
        """What differs from the default."""
        return "" if self.noise == 1 else f"noise={self.noise}"
