"""One to many with attention: a sentence about a picture, with an eye on its parts at each word."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from elman.nn.attention import Memory
from elman.nn.attention_cell import AttentionCell
from elman.nn.cell_state import default_state
from elman.nn.dropout import dropout_layer
from elman.nn.embedding import Embedding
from elman.nn.networks.attention_decoder import AttentionEncoderDecoder

__all__ = ["Captioner", "PictureGrid", "Taught"]


class Taught(NamedTuple):
    """r_t `(T, B, E)`, and how much each place was looked at in all, `(B, S)`, where the attention keeps it."""

    features: Tensor
    looked: Tensor | None


class PictureGrid(nn.Module):
    r"""Pictures `(B, 3, H, W)` of one size as a memory `(B, S, C)`: S = h w places of an encoder's grid, row by row.

        m_s = dropout(f_s + p_s)        f = encoder(picture) (C, h, w); p_s: a vector of each place, zeros at the start

    encoder: any module that makes grids `(B, C, h, w)` or vectors `(B, C)` (then S is 1) of pictures, such as
    `elman.nn.PictureEncoder`; it is tried out at this size. frozen: it is not trained, and stays in the state of use.
    size: W dropout(f_s) of this width stands for f_s, W trained; 0: f_s as it is. ValueError where the encoder makes
    anything else.
    """

    def __init__(
        self,
        encoder: nn.Module,
        height: int,
        width: int,
        *,
        size: int = 0,
        dropout: float = 0.0,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        self.encoder, self.frozen = encoder, frozen
        self.seen_size, self.height, self.width = self._tried(height, width)
        self.output_size = size or self.seen_size
        dropped = dropout_layer(dropout, sequence=False)
        self.narrow = nn.Sequential(dropped, nn.Linear(self.seen_size, size)) if size else nn.Identity()
        self.positions = nn.Parameter(torch.zeros(self.height * self.width, self.output_size))
        self.dropout = dropout_layer(dropout, sequence=False)
        if frozen:
            encoder.requires_grad_(False)
            encoder.eval()

    def _tried(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w)."""
        training = self.encoder.training
        self.encoder.eval()
        with torch.no_grad():
            found = self.encoder(torch.zeros(2, 3, height, width))
        self.encoder.train(training)
        if not isinstance(found, Tensor) or found.dim() not in {2, 4} or found.shape[0] != 2:
            made = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"{type(self.encoder).__name__} makes {made} of pictures (2, 3, {height}, {width}); expected a grid "
                f"(2, C, h, w), or vectors (2, C)"
            )
        h, w = found.shape[2:] or (1, 1)
        return found.shape[1], h, w

    def train(self, mode: bool = True) -> PictureGrid:
        """As any module; a frozen encoder stays in the state of use."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def seen(self, pictures: Tensor) -> Tensor:
        """What the encoder makes of pictures, place by place: `(B, S, C)`."""
        f = self.encoder(pictures)
        found: Tensor = f.flatten(2).transpose(1, 2) if f.dim() == 4 else f.unsqueeze(1)
        return found

    def forward(self, pictures: Tensor) -> Tensor:
        """The memory of pictures, or of what was `seen` of them. ValueError for pictures of another size."""
        f = self.narrow(pictures if pictures.dim() == 3 else self.seen(pictures))
        if f.shape[1] != len(self.positions):
            raise ValueError(
                f"pictures of shape {tuple(pictures.shape)} have {f.shape[1]} places; expected {len(self.positions)}: "
                f"the size for which the grid was made"
            )
        found: Tensor = self.dropout(f + self.positions)
        return found


class Captioner(AttentionEncoderDecoder):
    r"""A picture is read as a grid, then a target of T tokens is written with an eye on the grid (Xu et al. 2015).

        m_1 .. m_S = grid(picture)                      see `PictureGrid`
        s_0 = tanh(W m̄ + b)                             m̄: the mean of m_1 .. m_S

    What follows is that of `AttentionEncoderDecoder`: y_t, s_t = cell(e_t, s_{t−1}, m), the readout, the output.
    cell: an `AttentionCell` over the target's embedding that reads `grid.output_size` features; with a
    `SummedAttention` in it, `taught` tells how much each place was looked at.

    In use: `beam_search(model.step, first, model.encode(pictures), pick=DecoderState.pick)`.
    """

    def __init__(
        self,
        grid: PictureGrid,
        target: Embedding,
        cell: AttentionCell,
        *,
        dropout: float = 0.0,
        tied: bool = True,
    ) -> None:
        super().__init__(nn.Identity(), grid, target, cell, dropout=dropout, tied=tied)

    def read(self, source: Tensor, lengths: Tensor | None = None) -> tuple[Memory, Any]:
        """The memory of pictures `(B, 3, H, W)`, and the state that the decoder starts from."""
        m = self.encoder(source)
        B, S, _ = m.shape
        start = default_state(self.cell.cell, B, m.device, m.dtype)
        if self.bridge is not None:
            start = self.bridge(m.transpose(0, 1), torch.full((B,), S, device=m.device), start)
        attention: Any = self.cell.attention
        # A context holds tensors alone, so there is a mask, true everywhere.
        memory: Memory = attention.prepare(m, torch.ones(B, S, dtype=torch.bool, device=m.device))
        return memory, self.cell.start(start, memory)

    def taught(self, pictures: Tensor, target: Tensor, lengths: Tensor) -> Taught:
        """What is made of pictures where the right tokens, `target` `(T, B)`, are fed in; lengths `(B,)`."""
        memory, state = self.read(pictures)
        e = self.target(target, lengths)
        out = self.decoder(e, state, context=memory, lengths=lengths)
        return Taught(self._read_out(out.y, e), out.state[-1] if self.cell.looks_back else None)
