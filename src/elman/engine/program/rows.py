"""How the rows of a batch lie in memory: all T·B of them, or only those that are still going.

With lengths the batch is sorted, longest first, and the rows of a step are the first n_t; all steps one after another
are the packed rows. Padding is never gathered, so nothing in it reaches a value or a gradient. A row runs in reverse by
taking the same steps from its own last one to its first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["Layout", "Steps", "layout"]


class Steps(Protocol):
    """What is known of the rows of any call: T, B, and how many are taken of the T·B; see `Layout`."""

    @property
    def T(self) -> int: ...
    @property
    def B(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def reverse(self) -> bool: ...
    @property
    def waits(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Layout:
    """Rows of a call. `index`, `order`, `batch` and `offsets` are None where every row takes every step.

    T, B: steps and batch size of the call; steps: how many are taken (the longest row).
    offsets: int64 `(steps + 1,)` on the CPU, where each step's rows begin. index: `(rows,)`, place in the flat
    `(T·B)` input.
    order: `(B,)`, longest first; batch: `(rows,)`, which sorted row each packed row belongs to.
    flags: bool `(rows,)`, rows whose state goes back to the initial one before their step.
    """

    T: int
    B: int
    steps: int
    rows: int
    reverse: bool
    offsets: Tensor | None = None
    index: Tensor | None = None
    order: Tensor | None = None
    inverse: Tensor | None = None
    batch: Tensor | None = None
    flags: Tensor | None = None
    waits: bool = False  # some rows take no step at all

    def schedule(self) -> Iterator[tuple[int, int]]:
        """(first packed row, number of rows) of each step, in the order of processing."""
        times = range(self.steps - 1, -1, -1) if self.reverse else range(self.steps)
        if self.offsets is None:
            return iter([(t * self.B, self.B) for t in times])
        ends: list[int] = self.offsets.tolist()
        return iter([(ends[t], ends[t + 1] - ends[t]) for t in times])

    def pack(self, v: Tensor) -> Tensor:
        """`(T, B, ...)` -> `(rows, ...)`."""
        flat = v.reshape(self.T * self.B, *v.shape[2:])
        return flat if self.index is None else flat.index_select(0, self.index)

    def unpack(self, rows: Tensor) -> Tensor:
        """`(rows, ...)` -> `(T, B, ...)`, zero where a row has ended."""
        if self.index is None:
            return rows.reshape(self.T, self.B, *rows.shape[1:])
        flat = rows.new_zeros(self.T * self.B, *rows.shape[1:])
        return flat.index_copy(0, self.index, rows).reshape(self.T, self.B, *rows.shape[1:])

    def sort(self, v: Tensor) -> Tensor:
        """`(B, ...)` in the order of the rows."""
        return v if self.order is None else v.index_select(0, self.order)

    def unsort(self, v: Tensor) -> Tensor:
        return v if self.inverse is None else v.index_select(0, self.inverse)

    def spread(self, v: Tensor, axis: int = 0, factor: int = 1) -> Tensor:
        """What is the same at all steps, `(B, ...)`, once for each row `(rows, ...)`."""
        parts = v.unflatten(axis, (self.B, factor))
        if self.batch is None:
            shape = [*v.shape[:axis], self.steps, self.B, factor, *v.shape[axis + 1 :]]
            return parts.unsqueeze(axis).expand(shape).reshape(*v.shape[:axis], -1, *v.shape[axis + 1 :])
        return parts.index_select(axis, self.batch).flatten(axis, axis + 1)

    def gather(self, rows: Tensor) -> Tensor:
        """The sum over the steps, `(rows, ...)` -> `(B, ...)` in sorted order."""
        if self.batch is None:
            return rows.reshape(self.steps, self.B, *rows.shape[1:]).sum(0)
        return rows.new_zeros(self.B, *rows.shape[1:]).index_add(0, self.batch, rows)


def layout(
    T: int, B: int, lengths: Tensor | None, reset: Tensor | None, reverse: bool, device: Any
) -> Layout:
    """The layout of a call."""
    if lengths is None:
        return Layout(T, B, T, T * B, reverse, flags=_flags(reset, None, reverse))
    ends = lengths.detach().to("cpu", torch.int64)
    if bool((ends == T).all()):
        return Layout(T, B, T, T * B, reverse, flags=_flags(reset, None, reverse))
    sorted_ends, order = torch.sort(ends, descending=True, stable=True)
    steps = int(sorted_ends[0])
    going = torch.arange(steps).unsqueeze(1) < sorted_ends.unsqueeze(0)
    t, r = going.nonzero(as_tuple=True)
    offsets = torch.zeros(steps + 1, dtype=torch.int64)
    offsets[1:] = going.sum(1).cumsum(0)
    index = t * B + order[r]
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(B)
    flags = _flags(reset, ends, reverse)
    flags = None if flags is None else flags.index_select(0, index.to(flags.device))
    place = {"index": index, "order": order, "inverse": inverse, "batch": r}
    moved = {k: v.to(device) for k, v in place.items()}
    waits = bool((ends == 0).any())
    return Layout(T, B, steps, len(index), reverse, offsets=offsets, flags=flags, waits=waits, **moved)


def _flags(reset: Tensor | None, ends: Tensor | None, reverse: bool) -> Tensor | None:
    """Flat `(T·B)` flags in the sense of processing: in reverse a reset at t acts on the way from t to t - 1."""
    if reset is None:
        return None
    flags = reset.to(torch.bool)
    if reverse:
        later = torch.zeros_like(flags)
        later[:-1] = flags[1:]
        if ends is not None:
            T = flags.shape[0]
            later &= torch.arange(1, T + 1, device=flags.device).unsqueeze(1) < ends.to(
                flags.device
            ).unsqueeze(0)
        flags = later
    return flags.reshape(-1)
