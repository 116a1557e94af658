"""A small convolutional network over pictures: a grid of feature vectors, or one vector for each picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from elman.nn.cells.base import check_size
from elman.nn.dropout import dropout_layer
from elman.nn.embedding import SequenceInput
from elman.nn.layout import going

__all__ = ["FrameEncoder", "PictureEncoder"]


class PictureEncoder(nn.Module):
    r"""Pictures `(B, P, H, W)` from 0 to 1, as numbers or bytes, to a grid `(B, C, ceil(H / 2^n), ceil(W / 2^n))`.

    n stages, one for each number of `channels`; each halves the picture and has `depth` convolutions of 3 x 3:

        x ← relu(norm(conv(x)))                               the first, with a stride of two
        x ← relu(x + norm(conv(x)))                           the others, each with a way past it (He et al. 2016)

    norm: batch norm (Ioffe & Szegedy 2015); in use a picture gives the same in any company. C, `output_size`, is the
    last of `channels`; the first convolution reads x as (x − 0.5) / 0.25. P, `planes`: 3, the colours, or more where
    something lies beside them. dropout: part of the grid's features dropped, whole maps at once (Tompson et al. 2015).
    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 128),
        *,
        depth: int = 2,
        dropout: float = 0.0,
        planes: int = 3,
    ) -> None:
        super().__init__()
        if not channels:
            raise ValueError("channels is empty; expected a number for each stage, such as (32, 64, 128)")
        self.channels, self.depth = tuple(channels), check_size("depth", depth)
        self.planes = check_size("planes", planes)
        sizes = (self.planes, *(check_size("channels", size) for size in channels))
        self.stages = nn.ModuleList(_Stage(before, after, depth) for before, after in pairwise(sizes))
        self.dropout = nn.Dropout2d(dropout) if dropout else nn.Identity()
        self.output_size, self.stride = sizes[-1], 2 ** len(channels)

    def forward(self, x: Tensor) -> Tensor:
        """The grid."""
        if x.dim() != 4 or x.shape[1] != self.planes:
            raise ValueError(f"pictures have shape {tuple(x.shape)}; expected (B, {self.planes}, H, W)")
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


class FrameEncoder(SequenceInput):
    r"""The frames of clips, square pictures of S x S as rows of bytes `(T, B, N 3 S²)`, as vectors of `output_size`.

        e_t = dropout(relu(W flat(grid_t) + b))        grid: `PictureEncoder`'s, `(C, s, s)`

    The grid is laid flat and not averaged: where things are in a picture is what moves from one to the next. Frames in
    the padding are not looked at, and get zeros. N, `pictures`: of each frame so many, one behind the other in its row,
    read as one with 3 N planes; the frame itself, and what has changed since frames before it (the RGB differences of
    Wang et al. 2016, "Temporal segment networks", section 3.2). encoder: in place of `PictureEncoder`, a module with
    its `output_size` and `stride`, such as `LiteEncoder`; frozen: it is not trained, and stays in the state of use.
    """

    def __init__(
        self,
        side: int,
        size: int,
        *,
        channels: Sequence[int] = (16, 32, 48),
        depth: int = 1,
        dropout: float = 0.0,
        pictures: int = 1,
        encoder: nn.Module | None = None,
        frozen: bool = False,
    ) -> None:
        """Take S, and the width of the vectors."""
        super().__init__()
        self.side, self.output_size = check_size("side", side), check_size("size", size)
        self.count = check_size("pictures", pictures)
        own = PictureEncoder(channels, depth=depth, planes=3 * pictures) if encoder is None else encoder
        reader: Any = own
        self.pictures, self.frozen = reader, frozen
        if frozen:
            reader.requires_grad_(False)
            reader.eval()
        grid = -(-side // int(reader.stride))
        self.dense = nn.Linear(int(reader.output_size) * grid * grid, size)
        self.dropout = dropout_layer(dropout, sequence=False)

    @property
    def width(self) -> int:
        """Bytes of a frame."""
        return 3 * self.count * self.side**2

    def train(self, mode: bool = True) -> FrameEncoder:
        """As any module; a frozen encoder stays in the state of use."""
        super().train(mode)
        if self.frozen:
            self.pictures.eval()
        return self

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """`(T, B, N 3 S²)` -> `(T, B, output_size)`; rows, columns, colours of a picture in this order."""
        if lengths is None:
            found = self._vectors(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:2], -1)
        else:
            real = going(x, lengths)
            vectors = self._vectors(x[real])
            found = vectors.new_zeros(*x.shape[:2], self.output_size).masked_scatter(
                real.unsqueeze(-1), vectors
            )
        dropped: Tensor = self.dropout(found)
        return dropped

    def _vectors(self, x: Tensor) -> Tensor:
        if x.shape[1] != self.width:
            several = f"{self.count} x " * (self.count > 1)
            raise ValueError(
                f"frames have {x.shape[1]} numbers; expected {several}3 x {self.side} x {self.side}"
            )
        laid = x.reshape(-1, self.count, self.side, self.side, 3).permute(0, 1, 4, 2, 3)
        grid = self.pictures(laid.flatten(1, 2))
        vectors: Tensor = self.dense(grid.flatten(1)).relu()
        return vectors
