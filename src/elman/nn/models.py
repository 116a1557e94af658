"""Whole networks."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["Cell", "Engine", "LanguageModel", "LanguageModelOutput", "recurrent_stack"]

Cell = Literal["lstm", "gru", "rnn"]
Engine = Literal["elman", "torch"]


def recurrent_stack(
    engine: Engine,
    cell: Cell,
    input_size: int,
    hidden_size: int,
    num_layers: int,
    dropout: float,
    extras: Mapping[str, Any],
) -> nn.Module:
    """The recurrent layers `(T, B, I) -> (T, B, H)`, from `elman.nn` or, to compare with, from `torch.nn`.

    dropout lies between the layers only. extras: further arguments of `elman.nn`'s layers (torch.nn has none of them).
    """
    if engine == "torch":
        library: Any = nn
    else:
        from elman import nn as library
    kind = {"lstm": library.LSTM, "gru": library.GRU, "rnn": library.RNN}[cell]
    between = dropout if num_layers > 1 else 0.0
    stack: nn.Module = kind(input_size, hidden_size, num_layers=num_layers, dropout=between, **extras)
    return stack


class LanguageModelOutput(NamedTuple):
    """logits: `(T, B, V)`, before the softmax. state: after the last step, in the recurrent stack's own structure."""

    logits: Tensor
    state: Any


class LanguageModel(nn.Module):
    """Predicts each next token of B streams.

        e_t = dropout(E[x_t])                 embedding, E (V, I)
        s_t = stack(e_t, s_{t-1})             recurrent layers, H features
        n_t = layer_norm(s_t)                 where `norm` is on
        o_t = W dropout(n_t) + b              p(x_{t+1}) = softmax(o_t), W (V, H)

    tied: W is E itself (Inan et al., arXiv 1611.01462; Press and Wolf, arXiv 1608.05859), which needs I = H.
    init: all parameters are drawn from U(-init, init); 0 keeps each layer's own start.
    """

    def __init__(
        self,
        vocabulary: int,
        embedding: int,
        hidden: int,
        layers: int = 1,
        *,
        cell: Cell = "lstm",
        dropout: float = 0.0,
        tied: bool = False,
        norm: bool = False,
        init: float = 0.0,
        engine: Engine = "elman",
        extras: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Take V, I, H and the number of recurrent layers; extras: see `recurrent_stack`.

        Raises ValueError for a tied model with I != H.
        """
        super().__init__()
        if tied and embedding != hidden:
            raise ValueError(f"a tied model needs embedding == hidden; got {embedding} and {hidden}")
        self.cell = cell
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.recurrent = recurrent_stack(engine, cell, embedding, hidden, layers, dropout, extras)
        self.norm = nn.LayerNorm(hidden) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, vocabulary)
        if tied:
            # N(0, 1), the embedding's own start, would be far too large for an output layer.
            nn.init.uniform_(self.embedding.weight, -(hidden**-0.5), hidden**-0.5)
            self.head.weight = self.embedding.weight
        if init:
            for parameter in self.parameters():
                nn.init.uniform_(parameter, -init, init)

    def forward(self, tokens: Tensor, state: Any) -> LanguageModelOutput:
        """Read T steps: `tokens` `(T, B)`, int64; `state` from `initial_state` or from the steps before."""
        hidden, state = self.recurrent(self.dropout(self.embedding(tokens)), state)
        return LanguageModelOutput(self.head(self.dropout(self.norm(hidden))), state)

    @torch.no_grad()
    def step(self, tokens: Tensor, state: Any) -> LanguageModelOutput:
        """One step without a gradient, for decoding: `tokens` `(B,)` on any device; logits `(B, V)` on the CPU."""
        logits, state = self(tokens.to(self.head.weight.device).unsqueeze(0), state)
        return LanguageModelOutput(logits[0].cpu(), state)

    def initial_state(self, batch: int) -> Any:
        """Zeros for B streams, on the model's device."""
        stack: Any = self.recurrent
        shape = (stack.num_layers, batch, stack.hidden_size)
        zeros = [
            torch.zeros(shape, device=self.head.weight.device, dtype=self.head.weight.dtype) for _ in range(2)
        ]
        return tuple(zeros) if self.cell == "lstm" else zeros[0]
