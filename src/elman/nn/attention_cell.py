"""A decoder's step that looks at a memory: a cell like any other, with the memory as its context."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map, tree_structure

from elman.nn.attention import LookingBack, Memory
from elman.nn.cell_state import default_state, output_size
from elman.nn.cells.base import check_size

__all__ = ["AttentionCell", "Look"]

Look = Literal["before", "between", "after"]
_LOOKS = ("before", "between", "after")


class AttentionCell(nn.Module):
    r"""A recurrent cell that reads a memory at each step: `forward(x_t, state, memory) -> (y_t, next state)`.

    look: when it looks.

        before   c_t = attend(s_{t−1})    s_t = cell([x_t ; c_t], s_{t−1})               (Bahdanau, Cho & Bengio 2015)
        between  s' = cell(x_t, s_{t−1})    c_t = attend(s')    s_t = second(c_t, s')    (Sennrich et al. 2017, cGRU)
        after    s_t = cell(x_t, s_{t−1})    c_t = attend(s_t)                           (Luong, Pham & Manning 2015)

    y_t = [h_t ; c_t] `(B, H + M)`, h_t the cell's output. With `after`, `feeding` gives a width F: then
    y_t = tanh(W [h_t ; c_t] + b) `(B, F)` goes into the next step too, [x_t ; y_{t−1}] (input feeding; Luong et al.,
    section 3.3), W `(F, H + M)`.

    factory: f(input_size, hidden_size) -> cell, such as a cell's class. attention: a module of `elman.nn.attention`
    whose query is H wide; what it reads is `read_size` (M) wide. memory: what its `prepare` made, the context of the
    layer: `Recurrent(cell)(x, state, context=attention.prepare(memory, mask))`. What a `LocationAttention`, a
    `CoverageAttention` or a `MonotonicAttention` keeps of where it looked is in the state; `look_at` gives the weights.

    With `before` the query is the first tensor of the cell's state: h of an LSTM. The state is `(s,)`, then y of the
    step before where it is fed, then what is kept of where it looked; `start` makes the first.
    x_t `(B, K, I)` with states `(B, K, H)` beside a memory `(B, S, M)`: K rows of each sentence, as a beam search has.
    """

    def __init__(
        self,
        factory: Callable[[int, int], nn.Module],
        input_size: int,
        hidden_size: int,
        attention: nn.Module,
        read_size: int,
        *,
        look: Look = "between",
        feeding: int = 0,
    ) -> None:
        super().__init__()
        if look not in _LOOKS:
            raise ValueError(f"look={look!r}; expected one of {', '.join(map(repr, _LOOKS))}")
        if feeding and look != "after":
            raise ValueError(
                f"feeding={feeding} with look={look!r}; what is fed is made after looking: look='after'"
            )
        self.input_size, self.hidden_size = (
            check_size("input_size", input_size),
            check_size("hidden_size", hidden_size),
        )
        self.read_size, self.look, self.feeding = check_size("read_size", read_size), look, feeding
        extra = read_size if look == "before" else feeding
        self.cell = factory(input_size + extra, hidden_size)
        width = output_size(self.cell) or hidden_size
        self.second = factory(read_size, hidden_size) if look == "between" else None
        self.attention: Any = attention
        self.mix = nn.Linear(width + read_size, feeding) if feeding else None
        self.output_size = feeding or width + read_size
        self.looks_back = isinstance(attention, LookingBack)

    def start(self, state: Any, memory: Memory) -> tuple[Any, ...]:
        """The state before the first step, from the cell's own: nothing fed yet, and the first step looked at."""
        like = tree_leaves(state)[0]
        parts: tuple[Any, ...] = (state,)
        if self.feeding:
            parts += (like.new_zeros(*like.shape[:-1], self.feeding),)
        if self.looks_back:
            parts += (self.attention.start(like.new_zeros(*like.shape[:-1], memory.keys.shape[1])),)
        return parts

    def initial_state(self, batch: int, device: Any = None, dtype: Any = None) -> tuple[Any, ...]:
        """The default start, without a memory; ValueError where its length is needed."""
        if self.looks_back:
            raise ValueError(
                f"{type(self.attention).__name__}: where it starts depends on the memory; give state=cell.start(...)"
            )
        own = default_state(self.cell, batch, device, dtype)
        fed = (torch.zeros(batch, self.feeding, device=device, dtype=dtype),) if self.feeding else ()
        return (own, *fed)

    def forward(self, x: Tensor, state: tuple[Any, ...], memory: Memory) -> tuple[Tensor, tuple[Any, ...]]:
        """One step: y_t and the next state."""
        y, _, state = self.look_at(x, state, memory)
        return y, state

    def look_at(
        self, x: Tensor, state: tuple[Any, ...], memory: Memory
    ) -> tuple[Tensor, Tensor, tuple[Any, ...]]:
        """One step with the weights of the memory's steps: (y_t, weights `(B, S)`, next state)."""
        own, *rest = state
        before: tuple[Any, ...] = (rest[-1],) if self.looks_back else ()
        if self.look == "before":
            read, weights = self.attention.read(tree_leaves(own)[0], memory, *before)
            h, own = step(self.cell, torch.cat((x, read), -1), own)
        else:
            h, own = step(self.cell, torch.cat((x, rest[0]), -1) if self.feeding else x, own)
            read, weights = self.attention.read(h, memory, *before)
        if self.second is not None:
            h, own = step(self.second, read, own)
        y = torch.cat((h, read), -1)
        y = y if self.mix is None else torch.tanh(self.mix(y))
        fed = (y,) if self.feeding else ()
        kept = (self.attention.keep(before[0], weights),) if self.looks_back else ()
        return y, weights, (own, *fed, *kept)

    def extra_repr(self) -> str:
        """When it looks, and what differs from the default."""
        return f"look={self.look!r}" + (f", feeding={self.feeding}" if self.feeding else "")


def step(cell: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """One step of any cell; K rows of each sentence are rows like others to it."""
    if x.dim() == 2:
        return _both(cell(x, state), state)
    shape = x.shape[:2]
    flat = tree_map(lambda leaf: leaf.flatten(0, 1), state)
    y, after = _both(cell(x.flatten(0, 1), flat), flat)
    return y.unflatten(0, shape), tree_map(lambda leaf: leaf.unflatten(0, shape), after)


def _both(found: Any, before: Any) -> tuple[Tensor, Any]:
    """(y, state) of a cell that returns both, or its state alone, as torch's own cells do."""
    if tree_structure(found) == tree_structure(before):
        return tree_leaves(found)[0], found
    y, state = found
    return y, state
