"""Steps that are not taken: rows of a batch with holes in time and padding on either side.

A step that is not taken does nothing, so each row may take its own steps one right after the other: with the steps that
are taken moved to the front, holes and padding on the left are padding at the end, which the engine never reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from elman.engine.structure import flatten, unflatten

__all__ = ["Taken", "taken"]


@dataclass(frozen=True, slots=True)
class Taken:
    """Which steps the rows take. lengths: `(B,)`, how many; T: the steps of the call.

    times: `(S, B)`, the time of each row's k-th step, the times that are not taken behind all others; None where the
    steps of each row are its first ones anyway, and lengths say all.
    """

    T: int
    lengths: Tensor
    times: Tensor | None

    def steps_in(self, v: Tensor) -> Tensor:
        """`(T, B, ...)` -> `(S, B, ...)`, the steps that are taken in front."""
        if self.times is None:
            return v
        B = v.shape[1]
        batch = torch.arange(B, device=v.device)
        times = self.times.to(v.device)
        turned = v.transpose(0, 1)
        if not v.is_contiguous() and turned.is_contiguous():  # a batch that came first
            index, flat = batch * v.shape[0] + times, turned.flatten(0, 1)
        else:
            index, flat = times * B + batch, v.flatten(0, 1)
        return flat.index_select(0, index.flatten()).unflatten(0, (-1, B))

    def steps_out(self, v: Tensor) -> Tensor:
        """`(S, B, ...)` -> `(T, B, ...)`, zeros where a step is not taken."""
        if self.times is None:
            return v
        B = v.shape[1]
        index = self.times.to(v.device) * B + torch.arange(B, device=v.device)
        out = v.new_zeros(self.T * B, *v.shape[2:]).index_copy(0, index.flatten(), v.flatten(0, 1))
        return out.unflatten(0, (self.T, B))

    def tree_out(self, tree: Any) -> Any:
        """`steps_out` of each leaf."""
        leaves, kind = flatten(tree)
        return unflatten([self.steps_out(v) for v in leaves], kind)

    def resets_in(self, reset: Tensor) -> Tensor:
        """`(T, B)` -> `(S, B)`: a reset at a step that is not taken waits for the row's next one."""
        if self.times is None:
            return reset
        count = reset.to(torch.int64).cumsum(0).gather(0, self.times.to(reset.device))
        before = torch.cat((torch.zeros_like(count[:1]), count[:-1]))
        return count > before


def taken(mask: Tensor, lengths: Tensor | None) -> Taken | None:
    """The steps that a mask `(T, B)` leaves, of those before `lengths` `(B,)`; None where each row takes all T."""
    T = mask.shape[0]
    if lengths is not None:
        mask = mask & (torch.arange(T, device=mask.device).unsqueeze(1) < lengths.to(mask.device))
    counts = mask.sum(0)
    if torch.compiler.is_compiling():  # nothing is known but shapes
        return Taken(T, counts, _times(mask))
    if bool(mask.all()):
        return None
    first = torch.arange(T, device=mask.device).unsqueeze(1) < counts
    if torch.equal(first, mask):
        return Taken(T, counts, None)
    return Taken(T, counts, _times(mask)[: max(int(counts.max()), 1)])


def _times(mask: Tensor) -> Tensor:
    return torch.argsort(mask, dim=0, descending=True, stable=True)


def check_mask(mask: Any, T: int, B: int) -> str | None:
    """What is wrong with a mask, or None."""
    if isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.shape == (T, B):
        return None
    what = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
    return f"mask is {what}; expected a boolean tensor (T, B) = {(T, B)}, true where a step is taken"
