"""What stands before the recurrent layers: tokens or features become vectors of one width."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman.nn.dropout import WordDropout, dropout_layer
from elman.nn.layout import without_padding
from elman.nn.norms import FeatureNorm, apply_norm, feature_norm

__all__ = ["Embedding", "Features", "SequenceInput"]


class SequenceInput(nn.Module):
    """The input of a sequence, `(T, B)` or `(T, B, F)` and its lengths, as vectors `(T, B, output_size)`."""

    output_size: int

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The vectors; what stands in the padding has no effect."""
        raise NotImplementedError


class Embedding(SequenceInput):
    """A table of vectors, one for each token: e_t = dropout(norm(E[x_t])), E `weight` `(V, I)` ~ N(0, 1).

    word_dropout: probability that a token is taken for `unknown` in training (Iyyer et al. 2015); -1: that its vector
        is zeros.
    norm: of the vectors, "layer" or "batch" (padding never counts), see `elman.nn.MaskedBatchNorm`.
    dropout: on the vectors; with `sequence_dropout` one mask for all steps of a sequence (Gal & Ghahramani 2016).
    frozen: the table is not trained (pretrained vectors that shall stay as they are).
    subwords: P vectors F `(P, I)`, shared by the tokens that `spell` gives them to (Bojanowski et al. 2017, arXiv
        1607.04606, with the mean in place of the sum): E[x_t] + mean over g in G(x_t) of F[g]; nothing for a token
        without any. They are always trained.

    Differs from torch.nn.Embedding in that it is called with lengths, and has no padding index: padding is told apart
    by the lengths, and any number may stand in it.
    """

    def __init__(
        self,
        count: int,
        size: int,
        *,
        word_dropout: float = 0.0,
        unknown: int = -1,
        norm: FeatureNorm = "none",
        dropout: float = 0.0,
        sequence_dropout: bool = False,
        frozen: bool = False,
        subwords: int = 0,
    ) -> None:
        super().__init__()
        self.count, self.output_size = count, size
        self.weight = nn.Parameter(torch.empty(count, size), requires_grad=not frozen)
        self.subwords = nn.Parameter(torch.randn(subwords, size)) if subwords else None
        # What `spell` is told; it belongs to the tokens, not to the weights.
        self.register_buffer("pieces", torch.zeros(0, dtype=torch.long), persistent=False)
        self.register_buffer("starts", torch.zeros(count + 1, dtype=torch.long), persistent=False)
        self.word_dropout = WordDropout(word_dropout, unknown)
        self.norm = feature_norm(norm, size)
        self.dropout = dropout_layer(dropout, sequence=sequence_dropout)
        nn.init.normal_(self.weight)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Tokens `(T, B)`, integers below V -> `(T, B, I)`."""
        vectors = self._look_up(self.word_dropout(without_padding(x, lengths)))
        dropped: Tensor = self.dropout(apply_norm(self.norm, vectors, lengths))
        return dropped

    def _look_up(self, tokens: Tensor) -> Tensor:
        if not self.training or self.word_dropout.p == 0 or self.word_dropout.unknown >= 0:
            return self._vectors(tokens)
        known = tokens >= 0
        return self._vectors(tokens.clamp(min=0)) * known.unsqueeze(-1)

    def _vectors(self, tokens: Tensor) -> Tensor:
        own = F.embedding(tokens, self.weight)
        if self.subwords is None or not len(self.pieces):
            return own
        each, places = tokens.unique(return_inverse=True)
        begins = self.starts[each]
        counts = self.starts[each + 1] - begins
        offsets = counts.cumsum(0) - counts
        # The pieces of the tokens that occur, one behind the other.
        which = torch.arange(int(counts.sum()), device=tokens.device) + (begins - offsets).repeat_interleave(
            counts
        )
        means = F.embedding_bag(self.pieces[which], self.subwords, offsets, mode="mean")
        return own + means[places]

    def spell(self, pieces: Any, starts: Any) -> None:
        """Say which subwords each token has: token v those of `pieces[starts[v]:starts[v + 1]]`; integer arrays.

        pieces `(N,)` with numbers below P, starts `(V + 1,)` from 0 to N. Raises ValueError where they do not fit.
        """
        pieces, starts = (torch.as_tensor(array).long() for array in (pieces, starts))
        if self.subwords is None or starts.shape != (self.count + 1,):
            raise ValueError(
                f"starts has shape {tuple(starts.shape)}; expected ({self.count + 1},), one more than tokens, of an "
                f"embedding with subwords"
            )
        self.pieces, self.starts = pieces.to(self.weight.device), starts.to(self.weight.device)

    @torch.no_grad()
    def load_vectors(self, numbers: Any, vectors: Any) -> None:
        """Put pretrained `vectors` `(N, I)` into the rows `numbers` `(N,)`; arrays or tensors.

        The other rows are drawn anew, from a normal distribution with the standard deviation of the vectors, so that
        unknown words are as long as known ones. Raises ValueError for another width.
        """
        rows = torch.as_tensor(vectors, dtype=self.weight.dtype)
        if rows.dim() != 2 or rows.shape[1] != self.output_size:
            raise ValueError(
                f"the vectors have shape {tuple(rows.shape)}; expected (N, {self.output_size}), the width of the table"
            )
        if len(rows) > 1:
            nn.init.normal_(self.weight, std=float(rows.std()))
        self.weight[torch.as_tensor(numbers, dtype=torch.long)] = rows.to(self.weight.device)

    def extra_repr(self) -> str:
        """The sizes."""
        shared = "" if self.subwords is None else f", subwords={len(self.subwords)}"
        return (
            f"{self.count}, {self.output_size}"
            + shared
            + ("" if self.weight.requires_grad else ", frozen=True")
        )


class Features(SequenceInput):
    """Vectors as they come, or through a dense layer: e_t = dropout(W norm(x_t) + b), x_t of F features.

    size: the width I of the dense layer, W `(I, F)`; 0: there is none, and I = F.
    norm, dropout, sequence_dropout: as for `Embedding`; the norm is on x, so that features of any scale may come.
    """

    def __init__(
        self,
        features: int,
        size: int = 0,
        *,
        norm: FeatureNorm = "none",
        dropout: float = 0.0,
        sequence_dropout: bool = False,
    ) -> None:
        super().__init__()
        self.output_size = size or features
        self.norm = feature_norm(norm, features)
        self.dense = nn.Linear(features, size) if size else nn.Identity()
        self.dropout = dropout_layer(dropout, sequence=sequence_dropout)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """`(T, B, F)` -> `(T, B, I)`."""
        vectors: Tensor = self.dropout(
            self.dense(apply_norm(self.norm, without_padding(x, lengths), lengths))
        )
        return vectors
