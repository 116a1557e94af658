"""torch.nn's layout of the states of a stack, and one state for each layer and direction: there and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from elman.nn.layout import stays_a_view

__all__ = ["StateLayout"]


@dataclass(frozen=True, slots=True)
class StateLayout:
    """How the states of L layers in D directions lie: `(L·D, B, H)` for each name, a tuple of these for two names.

    sizes: for each layer the width of each named state. Where the layers were given a list of widths (`listed`), the
    first axis is cut: a tuple of L tensors `(D, B, H_l)` for each name. `label` names the layer in errors.
    """

    label: str
    names: tuple[str, ...]
    sizes: tuple[tuple[int, ...], ...]
    directions: int
    listed: bool

    def one(self, leaves: Sequence[Any]) -> Any:
        """The state of one layer and direction: a tensor, or a tuple of one for each name."""
        return tuple(leaves) if len(self.names) > 1 else leaves[0]

    def split(self, given: Any, batch: int | None, like: Tensor, what: str) -> list[Any]:
        """The given state, `what`, as one for each layer and direction; batch None: there is no batch axis.

        Raises RuntimeError for another structure, shape, dtype or device than `like`'s.
        """
        parts = given if len(self.names) > 1 else (given,)
        if not isinstance(parts, tuple | list) or len(parts) != len(self.names):
            raise RuntimeError(
                f"{self.label}: {what} is {_shapes(given)}; expected a tuple ({', '.join(self.names)})"
            )
        columns = []
        for i, part in enumerate(parts):
            blocks = self._blocks(part, i, batch, f"{what}[{i}]" if len(parts) > 1 else what)
            for block in blocks:
                self._check_kind(block, like, what)
            columns.append([leaf for block in blocks for leaf in block.unbind(0)])
        return [self.one(leaves) for leaves in zip(*columns, strict=True)]

    def _blocks(self, part: Any, i: int, batch: int | None, what: str) -> Sequence[Tensor]:
        rows = () if batch is None else (batch,)
        widths = [sizes[i] for sizes in self.sizes]
        wanted: tuple[Any, ...] = (len(widths) * self.directions, *rows, widths[0])
        blocks = [part]
        if self.listed:
            wanted = tuple((self.directions, *rows, width) for width in widths)
            blocks = list(part) if isinstance(part, tuple | list) else [part]
        found = tuple(tuple(block.shape) if isinstance(block, Tensor) else None for block in blocks)
        if found != (wanted if self.listed else (wanted,)):
            raise RuntimeError(f"{self.label}: {what} is {_shapes(part)}; expected shape {wanted}")
        return blocks

    def _check_kind(self, block: Tensor, like: Tensor, what: str) -> None:
        same = block.dtype == like.dtype or torch.is_autocast_enabled(like.device.type)
        if block.device != like.device or not same:
            raise RuntimeError(
                f"{self.label}: {what} is {block.dtype} on {block.device}; expected {like.dtype} on {like.device}, "
                f"like the input"
            )

    def columns(self, states: Sequence[Any]) -> list[tuple[Tensor, ...]]:
        """For each name the tensors of all layers and directions."""
        return list(zip(*states, strict=True)) if len(self.names) > 1 else [tuple(states)]

    def join(self, states: Sequence[Any]) -> Any:
        """The inverse of `split`: one state for each layer and direction, put into one structure."""
        columns, D = self.columns(states), self.directions
        if not self.listed:
            block = _as_view if stays_a_view() else _as_own
            return self.one([block(c[0], 0) if len(c) == 1 else torch.stack(c) for c in columns])
        return self.one([tuple(torch.stack(c[k : k + D]) for k in range(0, len(c), D)) for c in columns])


_as_view = Tensor.unsqueeze


def _as_own(state: Tensor, dim: int) -> Tensor:
    """`unsqueeze` in the same memory, as a tensor of its own."""
    return state.data.unsqueeze_(dim)


def _shapes(given: Any) -> str:
    if isinstance(given, Tensor):
        return f"a tensor {tuple(given.shape)}"
    if isinstance(given, tuple | list):
        return f"{type(given).__name__}({', '.join(map(_shapes, given))})"
    return type(given).__name__
