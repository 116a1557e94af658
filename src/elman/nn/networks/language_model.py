"""A tagger whose answer is the next token."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from elman.nn.embedding import Embedding
from elman.nn.networks.network import NetworkOutput
from elman.nn.networks.stacks import Engine, recurrent_stack
from elman.nn.networks.tagger import Tagger
from elman.nn.norms import FeatureNorm
from elman.nn.recurrent import CellFactory

__all__ = ["LanguageModel"]


class LanguageModel(Tagger):
    """Predicts each next token of B streams.

        e_t = dropout(E[x_t])                 embedding, E (V, I)
        s_t = stack(e_t, s_{t-1})             recurrent layers, H features
        n_t = norm(s_t)                       "layer" or "batch"; True is "layer"
        o_t = W dropout(n_t) + b              p(x_{t+1}) = softmax(o_t), W (V, H)

    cell, engine, extras: what the recurrent layers are made from, see `recurrent_stack`.
    tied: W is E itself, which needs I = H.
    sequence_dropout: one mask of each dropout for all steps of a call.
    word_dropout, unknown, input_norm: of the embedding, see `elman.nn.Embedding`.
    init: all parameters are drawn from U(-init, init); 0 keeps each layer's own start.
    """

    def __init__(
        self,
        vocabulary: int,
        embedding: int,
        hidden: int,
        layers: int = 1,
        *,
        cell: str | CellFactory = "lstm",
        dropout: float = 0.0,
        sequence_dropout: bool = False,
        word_dropout: float = 0.0,
        unknown: int = -1,
        input_norm: FeatureNorm = "none",
        tied: bool = False,
        norm: FeatureNorm | bool = "none",
        init: float = 0.0,
        engine: Engine = "elman",
        extras: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Take V, I, H and the number of recurrent layers. Raises ValueError for a tied model with I != H."""
        if tied and embedding != hidden:
            raise ValueError(f"a tied model needs embedding == hidden; got {embedding} and {hidden}")
        table = Embedding(
            vocabulary,
            embedding,
            dropout=dropout,
            sequence_dropout=sequence_dropout,
            word_dropout=word_dropout,
            unknown=unknown,
            norm=input_norm,
        )
        between = {"sequence_dropout": True} if sequence_dropout and engine == "elman" else {}
        stack = recurrent_stack(
            cell, embedding, hidden, layers, dropout=dropout, engine=engine, options={**between, **extras}
        )
        super().__init__(
            table,
            stack,
            vocabulary,
            norm=("layer" if norm else "none") if isinstance(norm, bool) else norm,
            dropout=dropout,
            sequence_dropout=sequence_dropout,
            tied=tied,
        )
        if init:
            for parameter in self.parameters():
                nn.init.uniform_(parameter, -init, init)

    def features(
        self, x: Tensor, state: Any = None, lengths: Tensor | None = None, reset: Tensor | None = None
    ) -> NetworkOutput:
        """dropout(n_t) `(T, B, H)` in the place of the logits; the rest is that of a call.

        For a loss that takes the output layer too: `head_cross_entropy(model.head, features, targets)`.
        """
        return self._features(x, state, lengths, reset)
