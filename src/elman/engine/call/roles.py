"""The tensors of a call in one list, role after role: how an autograd node and an operator take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

__all__ = ["Counts", "Roles"]


class Roles(NamedTuple):
    """x, the state at the start, the one after a reset, the context, and what the step reads beside these."""

    x: list[Tensor]
    s: list[Tensor]
    initial: list[Tensor]
    c: list[Tensor]
    p: list[Tensor]


class Counts(NamedTuple):
    """How many tensors of each role there are; the state after a reset has as many as the state."""

    x: int
    s: int
    c: int
    p: int

    def split(self, tensors: Sequence[Tensor]) -> Roles:
        """The tensors by role."""
        parts, start = [], 0
        for n in (self.x, self.s, self.s, self.c, self.p):
            parts.append(list(tensors[start : start + n]))
            start += n
        return Roles(*parts)
