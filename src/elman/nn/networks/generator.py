"""One to many: a sequence from a vector, or from a first token."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from elman.nn.networks.bridge import Bridge
from elman.nn.networks.network import NetworkOutput
from elman.nn.networks.tagger import Tagger

__all__ = ["SequenceGenerator"]


class SequenceGenerator(Tagger):
    """One to many: tokens that begin with a vector, or with a first token; the network is fed with its own output.

        s_0 = tanh(W v + b)                       from the vector v of `features` numbers; without one, the layers' own
        p(x_{t+1}) = softmax(o_t)                 o_t, s_t = the tagger's step on x_t and s_{t−1}

    In training the right tokens are fed in (`forward`, "teacher forcing"). In use each token drawn is fed in:
    `elman.decoding.sample(model.step, first, model.start(vector), length=T)`.
    features: the size of the vector; 0: there is none, and the first token is all that is given.
    The other arguments are those of `Tagger`, one direction.
    """

    def __init__(
        self, embedding: nn.Module, recurrent: nn.Module, outputs: int, *, features: int = 0, **readout: Any
    ) -> None:
        super().__init__(embedding, recurrent, outputs, **readout)
        if getattr(recurrent, "bidirectional", False) or getattr(recurrent, "reverse", False):
            raise ValueError(
                "a sequence is generated from its first step on; the layers need one direction, forward"
            )
        self.features = features
        self.bridge = Bridge(features, recurrent) if features else None

    def start(self, vector: Tensor) -> Any:
        """The state that `vector` `(B, F)` starts the layers with; ValueError where the network takes none."""
        if self.bridge is None or vector.dim() != 2 or vector.shape[1] != self.features:
            raise ValueError(
                f"the vector has shape {tuple(vector.shape)}; expected (B, F) with F = {self.features}"
            )
        return self.bridge(vector, self.initial_state(len(vector)))

    def forward(
        self, x: Tensor, state: Any = None, lengths: Tensor | None = None, vector: Tensor | None = None
    ) -> NetworkOutput:
        """Logits of each next token `(T, B, K)` where the right ones, `x` `(T, B)`, are fed in.

        vector: `(B, F)`, in the place of a state.
        """
        return super().forward(x, state if vector is None else self.start(vector), lengths)
