"""Many to one: the class or the classes of a sequence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from elman.nn.networks.network import Network, NetworkOutput
from elman.nn.networks.stacks import ends_of, run_stack, stack_width
from elman.nn.norms import FeatureNorm
from elman.nn.pooling import AttentionPooling, Pooling, RunningPooling

__all__ = ["SequenceClassifier"]


class SequenceClassifier(Network):
    """Many to one: reads T steps, each row by its own length, and gives K logits for each row.

        e_t = embedding(x_t)    y_t = recurrent(e_t)    p = pooling(y_1 .. y_T)
        o = W dropout(norm(p)) + c, with a dense layer before it where `dense` gives its width

    pooling: "last" (each direction's own last output), "mean", "max", "attention", or several side by side
        ("max+mean"), see `elman.nn.Pooling`.
    The other arguments are those of `Network`. One label: softmax of the logits; several labels: a sigmoid of each.
    A row of length 0 is pooled to zeros. With T = 1 this is a dense network ("one to one").
    """

    def __init__(
        self,
        embedding: nn.Module,
        recurrent: nn.Module,
        classes: int,
        *,
        pooling: str = "last",
        norm: FeatureNorm = "none",
        dense: int = 0,
        nonlinearity: nn.Module | None = None,
        dropout: float = 0.0,
    ) -> None:
        pool = Pooling(stack_width(recurrent), pooling, ends=ends_of(recurrent))
        super().__init__(
            embedding,
            recurrent,
            classes,
            features=pool.output_size,
            norm=norm,
            dense=dense,
            nonlinearity=nonlinearity,
            dropout=dropout,
            sequence_dropout=False,
            tied=False,
        )
        self.pooling = pool

    def forward(self, x: Tensor, lengths: Tensor | None = None, state: Any = None) -> Tensor:
        """Logits `(B, K)` of tokens `(T, B)` or features `(T, B, F)`.

        lengths: integers `(B,)` on any device, zero allowed; None where every row takes every step. state: where the
        recurrent layers start; default as in their own call.
        """
        (y, _), lengths = self._run(x, state, lengths)
        return self._read_out(self.pooling(y, lengths), None)

    @torch.no_grad()
    def prefixes(self, x: Tensor) -> Tensor:
        """Logits `(T, K)` of the first step of one sequence `(T, 1, ...)`, of its first two, ..., of all of it.

        What the network would say while the sequence goes on. In two directions each of them is read anew. No gradient.
        """
        e = self.embedding(x)
        T = len(e)
        lengths = torch.arange(1, T + 1)
        if ends_of(self.recurrent) == "last":
            y = run_stack(self.recurrent, e, None, None)[0].expand(-1, T, -1)
        else:
            y = run_stack(self.recurrent, e.expand(-1, T, -1).contiguous(), None, lengths)[0]
        return self._read_out(self.pooling(y, lengths), None)

    @torch.no_grad()
    def step(self, x: Tensor, state: Any, running: RunningPooling) -> NetworkOutput:
        """One step more: x `(B, ...)`; logits `(B, K)` of all steps so far, and the state. No gradient.

        running: `RunningPooling(network.pooling)` of the sequence, which takes the step in.
        """
        y, state = run_stack(self.recurrent, self.embedding(x.unsqueeze(0)), state, None)
        return NetworkOutput(self._read_out(running(y[0]), None), state)

    def attention(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """How much each step weighs, `(T, B)`; ValueError unless the pooling is by attention."""
        if not isinstance(self.pooling.attention, AttentionPooling):
            raise ValueError(
                f"pooling={'+'.join(self.pooling.kinds)!r} weighs no steps; take pooling='attention'"
            )
        (y, _), lengths = self._run(x, None, lengths)
        return self.pooling.attention.weights(y, lengths)
