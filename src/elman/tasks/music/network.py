"""Model: networks that read the keys of each step and say which the next one has, or the next of events."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman.nn import NADE, Tagger
from elman.nn.networks import NetworkOutput

__all__ = ["EventNetwork", "MusicNetwork", "RollNetwork"]


class MusicNetwork(Tagger):
    """What a piece's network has, whether it reads the steps of a roll or events."""

    def features(self, x: Tensor, state: Any = None, lengths: Tensor | None = None) -> NetworkOutput:
        """n `(T, B, F)` of steps `(T, B, K)`, in the place of logits, and the state after each row's last step."""
        return self._features(x, state, lengths)

    @property
    def bias(self) -> Tensor:
        """The biases of the output."""
        head: Any = self.head
        found: Tensor = head.visible.bias if isinstance(head, NADE) else head.bias
        return found

    def taken(self, x: Tensor) -> Tensor:
        """Steps or events in the type that the network reads."""
        raise NotImplementedError

    def log_prob(self, features: Tensor, target: Tensor) -> Tensor:
        """log p(target | n) `(N,)` in nats of features `(N, F)` and steps `(N, K)` or events `(N,)`."""
        raise NotImplementedError

    def chances(self, features: Tensor) -> Tensor:
        """p `(N, K)` of each key, or of each event."""
        raise NotImplementedError


class EventNetwork(MusicNetwork):
    """p(e_t | e_1 ... e_{t-1}) = softmax(W n_t + c) of events e_t; e_0 is the start.

    (Oore et al. 2018, arXiv 1808.03715.)
    """

    def taken(self, x: Tensor) -> Tensor:
        """Whole numbers."""
        return x.long()

    def log_prob(self, features: Tensor, target: Tensor) -> Tensor:
        """See `MusicNetwork`."""
        return -F.cross_entropy(self.head(features), target, reduction="none")

    @torch.no_grad()
    def chances(self, features: Tensor) -> Tensor:
        """The softmax."""
        found: Tensor = self.head(features).softmax(-1)
        return found


class RollNetwork(MusicNetwork):
    """p(v_t | v_1 ... v_{t-1}) of steps v_t `(K,)` of 0 and 1; v_0 = 0, so that the first step is predicted too.

        n_t = the network's readout before its output layer, over v_0 ... v_{t-1}
        p(v_t) = Π_k Bernoulli(v_tk; σ(W n_t + c)_k)         each key by itself
        p(v_t) = NADE(v_t; n_t)                              with `nade` hidden units: see `elman.nn.nade.NADE`

    (Boulanger-Lewandowski et al. 2012, arXiv 1206.6392: RNN and RNN-NADE.)
    """

    def __init__(
        self, embedding: nn.Module, recurrent: nn.Module, outputs: int, *, nade: int = 0, **more: Any
    ) -> None:
        super().__init__(embedding, recurrent, outputs, **more)
        if nade:
            self.head: Any = NADE(self.head.in_features, outputs, nade)

    @property
    def keys(self) -> int:
        """K."""
        found: int = self.head.out_features
        return found

    def taken(self, x: Tensor) -> Tensor:
        """0.0 and 1.0."""
        return x.float()

    def log_prob(self, features: Tensor, target: Tensor) -> Tensor:
        """See `MusicNetwork`."""
        if isinstance(self.head, NADE):
            return self.head.log_prob(features, target)
        return -F.binary_cross_entropy_with_logits(self.head(features), target, reduction="none").sum(-1)

    @torch.no_grad()
    def draw(
        self,
        features: Tensor,
        *,
        offset: Tensor | None = None,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """A step `(N, K)` for each row of features; see `NADE.sample` for the arguments and the second value."""
        if isinstance(self.head, NADE):
            return self.head.sample(features, offset=offset, temperature=temperature, generator=generator)
        logits = self.head(features)
        given = logits.new_zeros(logits.shape[-1]) if offset is None else offset.to(logits.dtype)
        scaled = logits / (temperature or 1.0) + given
        u = torch.rand(logits.shape, generator=generator).to(logits.device)
        v = (scaled > (torch.logit(u) if temperature else 0.0)).to(logits.dtype)
        chosen = -F.softplus(torch.where(v > 0, -logits, logits))
        return v, (chosen * torch.isinf(given)).sum(-1)

    @torch.no_grad()
    def chances(self, features: Tensor, *, draws: int = 256) -> Tensor:
        """p `(N, K)` that each key sounds; of a NADE its share in so many draws, always the same ones."""
        if not isinstance(self.head, NADE):
            return torch.sigmoid(self.head(features))
        many = features.repeat_interleave(draws, 0)
        drawn, _ = self.head.sample(many, generator=torch.Generator().manual_seed(0))
        return drawn.reshape(len(features), draws, -1).mean(1)
