"""Many to one: the class or the classes of a sequence."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from elman.nn.networks.network import Network
from elman.nn.networks.stacks import ends_of, stack_width
from elman.nn.norms import FeatureNorm
from elman.nn.pooling import AttentionPooling, Pooling

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

    def attention(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """How much each step weighs, `(T, B)`; ValueError unless the pooling is by attention."""
        if not isinstance(self.pooling.attention, AttentionPooling):
            raise ValueError(
                f"pooling={'+'.join(self.pooling.kinds)!r} weighs no steps; take pooling='attention'"
            )
        (y, _), lengths = self._run(x, None, lengths)
        return self.pooling.attention.weights(y, lengths)
