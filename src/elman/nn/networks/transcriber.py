"""Many to many with attention, where the encoder answers at each of its own steps too: recognizers of speech."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from elman.nn.attention_cell import AttentionCell
from elman.nn.embedding import Embedding
from elman.nn.networks.attention_decoder import AttentionEncoderDecoder
from elman.nn.networks.network import NetworkOutput
from elman.nn.networks.stacks import run_stack, stack_width

__all__ = ["Transcribed", "Transcriber"]


class Transcribed(NamedTuple):
    """aligned: `(S, B, K)`, the encoder's logits; None where it has none. written: `(T, B, K)`, the decoder's."""

    aligned: Tensor | None
    written: Tensor


class Transcriber(AttentionEncoderDecoder):
    r"""An `AttentionEncoderDecoder` whose encoder has an output of its own: one reading, two answers.

        m_1 .. m_S = encoder(x)
        p(symbol or blank)_s = softmax(A dropout(m_s) + a)      for CTC (Graves et al. 2006), where `joint`
        p(next symbol)_t = softmax(V r_t + c)                   the decoder's (Chorowski et al. 2015)

    Trained by both, the encoder learns from CTC to read from left to right, and the decoder to write (Watanabe et al.
    2017). Number 0 is the blank of the one, and the start and the end of the other.
    joint: whether there is an output for CTC. The other arguments are those of `AttentionEncoderDecoder`.
    """

    def __init__(
        self,
        source: nn.Module,
        encoder: nn.Module,
        target: Embedding,
        cell: AttentionCell,
        *,
        joint: bool,
        dropout: float = 0.0,
        loop: bool = False,
    ) -> None:
        super().__init__(source, encoder, target, cell, dropout=dropout, loop=loop)
        self.aligned = nn.Linear(stack_width(encoder), target.count) if joint else None

    def forward(  # type: ignore[override]
        self, source: Tensor, target: Tensor, source_lengths: Tensor, target_lengths: Tensor
    ) -> Transcribed:
        """Both answers to `(S, B, F)`, where the right symbols, `target` `(T, B)`, are fed into the decoder."""
        y, lengths = self.hear(source, source_lengths)
        memory, state = self.remember(y, lengths)
        written = self.head(self.follow(memory, state, target, target_lengths))
        return Transcribed(None if self.aligned is None else self._aligned(y), written)

    def align_steps(self, x: Tensor, state: Any = None, lengths: Tensor | None = None) -> NetworkOutput:
        """The encoder's logits of `(S, B, F)` alone, and its state: it can be run in pieces where it has one direction.

        ValueError without `joint`.
        """
        e = self.source(x, lengths)
        y, state = run_stack(self.encoder, e, state, lengths)
        return NetworkOutput(self._aligned(y), state)

    def _aligned(self, y: Tensor) -> Tensor:
        if self.aligned is None:
            raise ValueError("the encoder has no output of its own; make the network with joint=True")
        logits: Tensor = self.aligned(self.dropout(y))
        return logits
