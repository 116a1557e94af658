"""Words as vectors: what a table knows of each, and what its letters say."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman.nn.dropout import dropout_layer
from elman.nn.embedding import Embedding, SequenceInput
from elman.nn.layout import without_padding
from elman.nn.networks.stacks import ends_of, run_stack, stack_width
from elman.nn.pooling import Pooling

__all__ = ["Affixes", "SpelledWords", "Speller"]

# The words of a batch are filled up to a multiple of so many.
ROWS = 64


class Affixes(nn.Module):
    r"""A vector for each word from how it begins and ends.

        a = Σ over n = 1 .. N of F[h(first n letters)] + F[h(last n letters)]

    F `(P, A)`: `weight`; h: a hash below P of the letters, their number and the side. Some pieces share a vector; of a
    word with fewer than n letters it is all of them.
    """

    # Of a hash: below 2^31, so that no product of two leaves 64 bits.
    PRIME, FACTOR = 2_147_483_647, 1_000_003

    def __init__(self, size: int, *, count: int = 1 << 14, longest: int = 4) -> None:
        """Take A, P and N."""
        super().__init__()
        self.output_size, self.count, self.longest = size, count, longest
        self.weight = nn.Parameter(torch.randn(count, size))

    def numbers(self, letters: Tensor) -> Tensor:
        """The rows of F for words of letters `(U, C)`, `(U, 2N)`."""
        sizes = (letters > 0).sum(1)
        padded = F.pad(letters, (self.longest, self.longest))
        columns = torch.arange(self.longest, device=letters.device)
        heads = padded[:, self.longest : 2 * self.longest]
        # From the last letter back.
        tails = padded.gather(1, self.longest + sizes.unsqueeze(1) - 1 - columns)
        found = []
        for side, ends in enumerate((heads, tails)):
            code = torch.full_like(sizes, side + 1)
            for n in range(self.longest):
                code = (code * self.FACTOR + ends[:, n] + 1) % self.PRIME
                found.append(code % self.count)
        return torch.stack(found, dim=1)

    def forward(self, letters: Tensor) -> Tensor:
        """`(U, C)`, 0 behind the end of each word -> `(U, A)`."""
        return F.embedding_bag(self.numbers(letters), self.weight, mode="sum")

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.output_size}, count={self.count}, longest={self.longest}"


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
    r"""The input of a tagger: e_t = dropout([E[w_t] ; s_t ; a_t]), s_t and a_t from the letters of the word.

    words: an `elman.nn.Embedding`, with its word dropout; a word that is dropped, or that it does not know, still has
    its letters. speller: gives s, see `Speller`; affixes: gives a, see `Affixes`; None leaves it out.
    """

    def __init__(
        self,
        words: Embedding,
        speller: Speller | None,
        affixes: Affixes | None = None,
        *,
        dropout: float = 0.0,
        sequence_dropout: bool = False,
    ) -> None:
        super().__init__()
        self.words, self.speller, self.affixes = words, speller, affixes
        beside = [part.output_size for part in (speller, affixes) if part is not None]
        self.output_size = words.output_size + sum(beside)
        self.dropout = dropout_layer(dropout, sequence=sequence_dropout)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """`(T, B, 1 + C)`, the number of each word and then those of its letters -> `(T, B, output_size)`."""
        x = without_padding(x, lengths)
        letters = x[..., 1:].reshape(-1, x.shape[2] - 1)
        found = [self.words(x[..., 0], lengths)]
        found += [
            part(letters).view(*x.shape[:2], -1) for part in (self.speller, self.affixes) if part is not None
        ]
        dropped: Tensor = self.dropout(torch.cat(found, dim=2))
        return dropped
