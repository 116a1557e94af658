"""Many to many, aligned: an answer at every step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from elman.nn.networks.network import Network, NetworkOutput
from elman.nn.networks.stacks import stack_width
from elman.nn.networks.streamed import TaggerStream
from elman.nn.norms import FeatureNorm

__all__ = ["Tagger"]


class Tagger(Network):
    """Many to many, aligned: K logits at each of T steps; the arguments are those of `Network`.

    With one direction it can be run in pieces or step by step, the state handed on: a language model is one whose
    answer at each step is the next token.
    """

    def __init__(
        self,
        embedding: nn.Module,
        recurrent: nn.Module,
        outputs: int,
        *,
        norm: FeatureNorm = "none",
        dense: int = 0,
        nonlinearity: nn.Module | None = None,
        dropout: float = 0.0,
        sequence_dropout: bool = False,
        tied: bool = False,
    ) -> None:
        super().__init__(
            embedding,
            recurrent,
            outputs,
            features=stack_width(recurrent),
            norm=norm,
            dense=dense,
            nonlinearity=nonlinearity,
            dropout=dropout,
            sequence_dropout=sequence_dropout,
            tied=tied,
        )

    def forward(
        self, x: Tensor, state: Any = None, lengths: Tensor | None = None, reset: Tensor | None = None
    ) -> NetworkOutput:
        """Logits `(T, B, K)` of tokens `(T, B)` or features `(T, B, F)`, and the state after each row's last step.

        lengths: integers `(B,)`, None where every row takes every step; logits in the padding say nothing.
        reset: bool `(T, B)`, true where a row begins anew, from its layers' start, before that step.
        """
        features, final = self._features(x, state, lengths, reset)
        return NetworkOutput(self.head(features), final)

    def _features(
        self, x: Tensor, state: Any, lengths: Tensor | None, reset: Tensor | None = None
    ) -> NetworkOutput:
        """What the output layer reads, `(T, B, F)`, in the place of the logits; the rest is that of a call."""
        (y, final), lengths = self._run(x, state, lengths, reset)
        return NetworkOutput(self._before_head(y, lengths), final)

    @torch.no_grad()
    def step(self, x: Tensor, state: Any) -> NetworkOutput:
        """One step, to decode: `x` `(B,)` or `(B, F)` on any device; logits `(B, K)` on the CPU. No gradient."""
        logits, state = self(x.to(self.head.weight.device).unsqueeze(0), state)
        return NetworkOutput(logits[0].cpu(), state)

    def stream(self, state: Any = None, *, batch: int = 1) -> TaggerStream:
        """The network for one step at a time, of `batch` rows: `logits = stream(x_t)`, several times as fast as `step`.

        state: where it starts; default as in a call. ValueError in training mode, or with a backward direction.
        """
        return TaggerStream(self, state, batch=batch)

    @torch.no_grad()
    def read(self, x: Tensor, state: Any = None, lengths: Tensor | None = None) -> TaggerStream:
        """A stream that stands after `x`, `(T, B)` or `(T, B, F)`, read in one call: what a text begins with.

        No logits are computed. lengths: integers `(B,)`, where rows end earlier; T may be 0.
        """
        batch = x.shape[1]
        start = self.initial_state(batch) if state is None else state
        if len(x):
            (_, start), _ = self._run(x, start, lengths)
        return self.stream(start, batch=batch)
