"""Many to many where the input and the output have lengths of their own: an encoder, a bridge and a decoder."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from elman.nn.embedding import SequenceInput
from elman.nn.layout import lay_out
from elman.nn.networks.bridge import Bridge, StateRows
from elman.nn.networks.network import NetworkOutput
from elman.nn.networks.stacks import run_stack, start_of
from elman.nn.networks.tagger import Tagger

__all__ = ["EncoderDecoder"]


class EncoderDecoder(nn.Module):
    """Many to many: a source of S steps is read, then a target of T steps is written (Sutskever et al. 2014).

        h_1 .. h_S = encoder(source embedding)    each row by its own length
        s_0 = bridge(final state of the encoder)
        p(y_{t+1}) = softmax(o_t)                 o_t, s_t = decoder's step on y_t and s_{t−1}

    source: the input of the encoder, `elman.nn.Embedding` or `Features`. encoder: any recurrent layers, both directions
    if wanted. decoder: a `Tagger` in one direction, with an input, layers and readout of its own.
    bridge: "dense", s_0 = tanh(W h + b) of all numbers of the encoder's final state, for layers of any two structures
    (Bahdanau et al. 2015); or "copy", s_0 is that state itself (Sutskever et al. 2014), which needs equal structures.

    In training the right target is fed in. In use each token drawn is fed in:
    `elman.decoding.sample(model.step, first, model.encode(source), length=T)`.
    """

    def __init__(
        self,
        source: nn.Module,
        encoder: nn.Module,
        decoder: Tagger,
        *,
        bridge: Literal["dense", "copy"] = "dense",
    ) -> None:
        super().__init__()
        if getattr(decoder.recurrent, "bidirectional", False) or getattr(decoder.recurrent, "reverse", False):
            raise ValueError(
                "a target is written from its first step on; the decoder needs one direction, forward"
            )
        if bridge not in {"dense", "copy"}:
            raise ValueError(f"bridge={bridge!r}; expected 'dense' or 'copy'")
        self.source, self.encoder, self.decoder = source, encoder, decoder
        self.rows = StateRows(encoder)
        if bridge == "copy":
            _check_equal(encoder, decoder.recurrent)
        self.bridge = Bridge(self.rows.size, decoder.recurrent) if bridge == "dense" else None

    def encode(self, source: Tensor, lengths: Tensor | None = None) -> Any:
        """The state that the decoder starts from, for a source `(S, B)` or `(S, B, F)`, each row by its own length."""
        lengths = lay_out(source, lengths=lengths, reset=None, batch_first=False).lengths
        own = isinstance(self.source, SequenceInput)
        e = self.source(source, lengths) if own else self.source(source)
        final = run_stack(self.encoder, e, None, lengths).state
        if self.bridge is None:
            return final
        return self.bridge(self.rows.flat(final), self.decoder.initial_state(source.shape[1]))

    def forward(
        self,
        source: Tensor,
        target: Tensor,
        source_lengths: Tensor | None = None,
        target_lengths: Tensor | None = None,
    ) -> NetworkOutput:
        """Logits of each next token `(T, B, K)` where the right ones, `target` `(T, B)`, are fed in.

        source `(S, B)` or `(S, B, F)`; lengths `(B,)`, None where every row takes every step.
        """
        output: NetworkOutput = self.decoder(target, self.encode(source, source_lengths), target_lengths)
        return output

    def step(self, tokens: Tensor, state: Any) -> NetworkOutput:
        """One step of the decoder without a gradient, from `encode` on: tokens `(B,)`, logits `(B, K)` on the CPU."""
        output: NetworkOutput = self.decoder.step(tokens, state)
        return output


def _check_equal(encoder: nn.Module, decoder: nn.Module) -> None:
    shapes = [[tuple(leaf.shape) for leaf in tree_leaves(start_of(part, 1))] for part in (encoder, decoder)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"bridge='copy' needs states of equal shapes; the encoder's are {shapes[0]}, the decoder's {shapes[1]}: "
            f"take bridge='dense'"
        )
