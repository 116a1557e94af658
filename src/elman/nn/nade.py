"""A distribution over binary vectors whose parts depend on each other: the head of a network that writes chords."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["NADE"]


class NADE(nn.Module):
    """Neural autoregressive distribution estimator, conditioned on features x `(..., F)`.

        b = W x + d                               H hidden biases
        c = U x + e                               K visible biases
        h_k = σ(b + Σ_{j before k} v_j E_j)       E `(K, H)`
        p(v_k = 1 | x, v_j before k) = σ(c_k + D_k · h_k)          D `(K, H)`
        log p(v | x) = Σ_k log p(v_k | x, v_j before k)

    Larochelle & Murray 2011 (AISTATS), eq. 1-3; biases that depend on features: Boulanger-Lewandowski et al. 2012
    (arXiv 1206.6392), eq. 16-20. The vector is read from its last part down to its first: of a piano roll, from the
    highest key, so that a melody on top can be given and what lies below it drawn.

    h_k changes only behind a part that is 1. `log_prob` computes it once for each of these: A + 1 times a row, A the
    most ones in a row, and not K times; the values are those of the definition.
    """

    def __init__(self, features: int, size: int, hidden: int) -> None:
        """features: F. size: K, the parts of the vector. hidden: H."""
        super().__init__()
        self.in_features, self.out_features, self.hidden_size = features, size, hidden
        self.hidden = nn.Linear(features, hidden)
        self.visible = nn.Linear(features, size)
        self.encode = nn.Parameter(torch.empty(size, hidden))
        self.decode = nn.Parameter(torch.empty(size, hidden))
        bound = hidden**-0.5
        nn.init.uniform_(self.encode, -bound, bound)
        nn.init.uniform_(self.decode, -bound, bound)

    def logits(self, x: Tensor, v: Tensor) -> Tensor:
        """c_k + D_k · h_k `(..., K)` of features `(..., F)` and vectors v `(..., K)` of 0 and 1."""
        flat = v.reshape(-1, self.out_features)
        b, c = self.hidden(x).reshape(-1, self.hidden_size), self.visible(x)
        turned = flat.flip(1)
        before = (turned.cumsum(1) - turned).long()  # how many ones stand before each part
        A = int(flat.sum(1).amax()) if len(flat) else 0
        rows, keys = turned.nonzero(as_tuple=True)
        # Row n: its bias, then E_k of each of its ones in order, zeros behind them; summed up along the row.
        steps = b.new_zeros(len(flat), A + 1, self.hidden_size)
        added = self.encode[self.out_features - 1 - keys]
        steps = steps.index_put((rows, before[rows, keys] + 1), added)
        h = torch.sigmoid(steps.cumsum(1) + b.unsqueeze(1))  # (N, A + 1, H)
        every = h @ self.decode.t()  # (N, A + 1, K)
        own = every.gather(1, before.flip(1).unsqueeze(1)).squeeze(1)
        found: Tensor = c + own.reshape(c.shape)
        return found

    def log_prob(self, x: Tensor, v: Tensor) -> Tensor:
        """log p(v | x) `(...)` in nats of features `(..., F)` and vectors v `(..., K)` of 0 and 1."""
        logits = self.logits(x, v)
        return -F.binary_cross_entropy_with_logits(logits, v.to(logits.dtype), reduction="none").sum(-1)

    forward = log_prob

    @torch.no_grad()
    def sample(
        self,
        x: Tensor,
        *,
        offset: Tensor | None = None,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draw v `(N, K)` of features `(N, F)`; with it, log of the probability that `offset` has left out, `(N,)`.

        offset: `(N, K)` or `(K,)`, added to the logits behind the temperature; +inf and -inf fix a part to 1 and 0. The
        second value sums log p(v_k | v before k), without offset and temperature, over the parts that are fixed so: the
        weight of what was drawn beside them (sequential importance sampling).
        temperature: logits are divided by it; 0: each part is what is likelier.
        """
        N, K = len(x), self.out_features
        b, c = self.hidden(x), self.visible(x)
        given = x.new_zeros(N, K) if offset is None else offset.to(x.dtype).expand(N, K)
        u = torch.rand(N, K, generator=generator).to(x.device)
        threshold = torch.logit(u) if temperature else x.new_zeros(N, K)
        v, weight = x.new_zeros(N, K), x.new_zeros(N)
        h = torch.sigmoid(b)
        for k in range(K - 1, -1, -1):
            logit = c[:, k] + h @ self.decode[k]
            drawn = (logit / (temperature or 1.0) + given[:, k]) > threshold[:, k]
            v[:, k] = drawn
            fixed = torch.isinf(given[:, k])
            weight += torch.where(fixed, -F.softplus(torch.where(drawn, -logit, logit)), 0.0)
            if bool(drawn.any()):
                b = b + drawn.unsqueeze(1) * self.encode[k]
                h = torch.sigmoid(b)
        return v, weight
