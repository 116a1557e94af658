"""What all networks share: an input, recurrent layers, and a dense readout."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from elman.nn.dropout import dropout_layer
from elman.nn.embedding import Embedding, SequenceInput
from elman.nn.layout import lay_out
from elman.nn.networks.stacks import run_stack, start_of
from elman.nn.norms import FeatureNorm, apply_norm, feature_norm
from elman.nn.stack import Output

__all__ = ["Network", "NetworkOutput", "check_tied"]


class NetworkOutput(NamedTuple):
    """logits: `(T, B, K)`, before the softmax. state: after each row's last step, as the layers give it."""

    logits: Tensor
    state: Any


class Network(nn.Module):
    """`embedding` -> `recurrent` -> readout.

        e_t = embedding(x_t)                      tokens or features, with its dropout and norm
        s_t = recurrent(e_t, s_{t−1})             any layers: of elman.nn, a cell of your own in Recurrent, of torch.nn
        n_t = dropout(norm(s_t))                  norm: "none", "layer", or "batch" where padding never counts
        d_t = dropout(f(D n_t + d))               where `dense` gives a width; f: ReLU, or `nonlinearity`
        o_t = W d_t + c                           K logits

    embedding: an `elman.nn.Embedding`, `elman.nn.Features`, or any module of `(T, B, ...)`.
    recurrent: is called as `recurrent(e, state, lengths=lengths)`, and returns `(y, state)`.
    sequence_dropout: one mask of the readout's dropout for all steps of a sequence.
    tied: W is the embedding's table (Inan et al. 2017, arXiv 1611.01462; Press & Wolf 2017, arXiv 1608.05859).

    A subclass says what is read when: `SequenceClassifier`, `Tagger`, `SequenceGenerator`, `EncoderDecoder`.
    """

    def __init__(
        self,
        embedding: nn.Module,
        recurrent: nn.Module,
        outputs: int,
        *,
        features: int,
        norm: FeatureNorm,
        dense: int,
        nonlinearity: nn.Module | None,
        dropout: float,
        sequence_dropout: bool,
        tied: bool,
    ) -> None:
        super().__init__()
        if tied:
            check_tied(embedding, dense or features, outputs)
        self.embedding = embedding
        self.recurrent = recurrent
        self.norm = feature_norm(norm, features)
        self.dense = nn.Linear(features, dense) if dense else None
        self.nonlinearity = nn.ReLU() if nonlinearity is None else nonlinearity
        self.dropout = dropout_layer(dropout, sequence=sequence_dropout)
        self.head = nn.Linear(dense or features, outputs)
        if tied and isinstance(embedding, Embedding):
            # N(0, 1), the embedding's own start, would be far too large for an output layer.
            bound = embedding.output_size**-0.5
            nn.init.uniform_(embedding.weight, -bound, bound)
            self.head.weight = embedding.weight

    def initial_state(self, batch: int) -> Any:
        """The state that a call without one begins with, for `batch` sequences, on the network's device."""
        return start_of(self.recurrent, batch)

    def _run(
        self, x: Tensor, state: Any, lengths: Tensor | None, reset: Tensor | None = None
    ) -> tuple[Output, Tensor | None]:
        """The recurrent layers' outputs `(T, B, H)` and final state, and the lengths as they were checked."""
        lengths = lay_out(x, lengths=lengths, reset=None, batch_first=False).lengths
        own = isinstance(self.embedding, SequenceInput)
        e = self.embedding(x, lengths) if own else self.embedding(x)
        return run_stack(self.recurrent, e, state, lengths, reset), lengths

    def _read_out(self, s: Tensor, lengths: Tensor | None) -> Tensor:
        """The logits of `(T, B, H)` or of `(B, H)`."""
        logits: Tensor = self.head(self._before_head(s, lengths))
        return logits

    def _before_head(self, s: Tensor, lengths: Tensor | None) -> Tensor:
        """What the output layer reads, of `(T, B, H)` or of `(B, H)`."""
        n: Tensor = self.dropout(apply_norm(self.norm, s, lengths))
        return n if self.dense is None else self.dropout(self.nonlinearity(self.dense(n)))


def check_tied(embedding: nn.Module, features: int, outputs: int) -> None:
    """ValueError unless the table of `embedding` can be the output layer's weight `(outputs, features)`."""
    if not isinstance(embedding, Embedding):
        raise ValueError(
            f"tied=True with {type(embedding).__name__}; only an elman.nn.Embedding has a table to share"
        )
    table = (embedding.count, embedding.output_size)
    if table != (outputs, features):
        raise ValueError(
            f"a tied network has one table for input and output; the embedding's is {table}, the output layer's "
            f"{(outputs, features)}: make the widths equal"
        )
