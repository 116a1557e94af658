"""Words as vectors: what a table knows of each, and what its letters say."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman.nn.dropout import dropout_layer
from elman.nn.embedding import Embedding, SequenceInput
from elman.nn.layout import without_padding
from elman.nn.networks.stacks import ends_of, run_stack, stack_width
from elman.nn.pooling import Pooling

__all__ = ["SpelledWords", "Speller"]

# The words of a batch are filled up to a multiple of so many.
ROWS = 64


class Speller(nn.Module):
    r"""A vector for each word from its letters, by recurrent layers (Ling et al. 2015, arXiv 1508.02096).

        c_i = E_c[letter i]      h_i = recurrent(c_i, h_{i−1}), from both ends where the layers have two directions
        s = the last h of each direction; other words of `pooling`: see `elman.nn.Pooling`

    letters: an `elman.nn.Embedding`, whose number 0 stands behind the end of a word. recurrent: any layers.
    """

    def __init__(self, letters: Embedding, recurrent: nn.Module, pooling: str = "last") -> None:
        super().__init__()
        self.letters, self.recurrent = letters, recurrent
        self.pooling = Pooling(stack_width(recurrent), pooling, ends=ends_of(recurrent))
        self.output_size: int = self.pooling.output_size

    def forward(self, letters: Tensor) -> Tensor:
        """Words of at most C letters `(U, C)` -> `(U, S)`; a word that stands there twice is computed once."""
        distinct, where = torch.unique(letters, dim=0, return_inverse=True)
        # Batches of a few sizes only: the engine looks closer at the first call of each size.
        distinct = F.pad(distinct, (0, 0, 0, -len(distinct) % ROWS))
        # What has no letters is padding: one step of number 0 does no harm, and torch.nn takes no empty rows.
        sizes = (distinct > 0).sum(1).clamp(min=1)
        steps = distinct.t()[: int(sizes.max())]
        spelled, _ = run_stack(self.recurrent, self.letters(steps, sizes), None, sizes)
        pooled: Tensor = self.pooling(spelled, sizes)
        return pooled[where]


class SpelledWords(SequenceInput):
    r"""The input of a tagger: e_t = dropout([E[w_t] ; spelled(letters of word t)]).

    words: an `elman.nn.Embedding`, with its word dropout; a word that is dropped, or that it does not know, is still
    spelled. speller: see `Speller`; None: the table alone, and the letters are not looked at.
    """

    def __init__(
        self,
        words: Embedding,
        speller: Speller | None,
        *,
        dropout: float = 0.0,
        sequence_dropout: bool = False,
    ) -> None:
        super().__init__()
        self.words, self.speller = words, speller
        self.output_size = words.output_size + (speller.output_size if speller is not None else 0)
        self.dropout = dropout_layer(dropout, sequence=sequence_dropout)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """`(T, B, 1 + C)`, the number of each word and then those of its letters -> `(T, B, output_size)`."""
        x = without_padding(x, lengths)
        vectors = self.words(x[..., 0], lengths)
        if self.speller is not None:
            letters = x[..., 1:].reshape(-1, x.shape[2] - 1)
            spelled = self.speller(letters).view(*x.shape[:2], -1)
            vectors = torch.cat([vectors, spelled], dim=2)
        dropped: Any = self.dropout(vectors)
        found: Tensor = dropped
        return found
