"""A small convolutional network over pictures: a grid of feature vectors, or one vector for each picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from elman.nn.cells.base import check_size

__all__ = ["PictureEncoder"]


class PictureEncoder(nn.Module):
    r"""Pictures `(B, 3, H, W)` from 0 to 1, as numbers or bytes, to a grid `(B, C, ceil(H / 2^n), ceil(W / 2^n))`.

    n stages, one for each number of `channels`; each halves the picture and has `depth` convolutions of 3 x 3:

        x ← relu(norm(conv(x)))                               the first, with a stride of two
        x ← relu(x + norm(conv(x)))                           the others, each with a way past it (He et al. 2016)

    norm: batch norm (Ioffe & Szegedy 2015); in use a picture gives the same in any company. C, `output_size`, is the
    last of `channels`; the first convolution reads x as (x − 0.5) / 0.25. dropout: part of the grid's features dropped,
    whole maps at once (Tompson et al. 2015).
    """

    def __init__(
        self, channels: Sequence[int] = (32, 64, 128), *, depth: int = 2, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if not channels:
            raise ValueError("channels is empty; expected a number for each stage, such as (32, 64, 128)")
        self.channels, self.depth = tuple(channels), check_size("depth", depth)
        sizes = (3, *(check_size("channels", size) for size in channels))
        self.stages = nn.ModuleList(_Stage(before, after, depth) for before, after in pairwise(sizes))
        self.dropout = nn.Dropout2d(dropout) if dropout else nn.Identity()
        self.output_size, self.stride = sizes[-1], 2 ** len(channels)

    def forward(self, x: Tensor) -> Tensor:
        """The grid."""
        if x.dim() != 4 or x.shape[1] != 3:
            raise ValueError(f"pictures have shape {tuple(x.shape)}; expected (B, 3, H, W)")
        if not x.is_floating_point():
            x = x.to(next(self.parameters()).dtype) / 255
        # Convolutions go faster where the features of a place lie side by side.
        x = ((x - 0.5) / 0.25).contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            x = stage(x)
        found: Tensor = self.dropout(x)
        return found

    def vectors(self, x: Tensor) -> Tensor:
        """The mean of each picture's grid, `(B, C)`."""
        found: Tensor = self(x).mean((2, 3))
        return found

    def extra_repr(self) -> str:
        """The stages."""
        return f"channels={self.channels}, depth={self.depth}"


class _Stage(nn.Module):
    """One convolution that halves the picture, and others with a way past them."""

    def __init__(self, before: int, after: int, depth: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(after)
        self.rest = nn.ModuleList(
            nn.Sequential(nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after))
            for _ in range(depth - 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, C', ceil(H / 2), ceil(W / 2))`."""
        x = self.norm(self.enter(x)).relu()
        for layer in self.rest:
            x = (x + layer(x)).relu()
        return x
