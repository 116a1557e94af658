"""`m[torch.arange(B), i]`: of each row the places that its own indices name, as a gather.

The numbers of the rows are no part of a step that does the same for each row. Where they only say "each row's own", as
the first of several indices, nothing of them is left; the tracer refuses anything else that is done with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["Numbered"]

_SHAPED = {
    "unsqueeze", "view", "reshape", "expand", "expand_as", "to", "long", "contiguous", "__getitem__",
}  # fmt: skip
_ASKED = {"__get__", "size", "dim", "numel", "__len__"}


class Numbered:
    """The numbers of the rows that a step has made, in all shapes. unseen: a context in which nothing is recorded."""

    def __init__(self, rows: int, unseen: Callable[[], Any]) -> None:
        self.rows, self.unseen = rows, unseen
        self.known: dict[int, Tensor] = {}

    def takes(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a call makes such numbers, or is given some."""
        if name == "arange":
            return self._numbers_rows(args, kwargs)
        if not self.known or name in _ASKED:
            return False
        return any(self._has(a) for a in (*args, *kwargs.values()))

    def answer(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What such a call gives; NotImplemented where it does more than to say "each row's own"."""
        if name == "arange" or (name in _SHAPED and id(args[0]) in self.known):
            with self.unseen():
                made = func(*map(_plain, args), **kwargs)
            self.known[id(made)] = made
            return made
        if name not in ("__getitem__", "__setitem__") or id(args[0]) in self.known:
            return NotImplemented
        found = self._places(args[0], args[1])
        if found is None:
            return NotImplemented
        return _picked(*found) if name == "__getitem__" else _written(args[0], *found, args[2])

    def _has(self, tree: Any) -> bool:
        if isinstance(tree, Tensor):
            return id(tree) in self.known
        return isinstance(tree, tuple | list) and any(map(self._has, tree))

    def _numbers_rows(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        ends = [*args, *(kwargs[k] for k in ("start", "end", "step") if k in kwargs)]
        if kwargs.get("dtype") not in (None, torch.int64) or not all(isinstance(e, int) for e in ends):
            return False
        stop = ends[min(len(ends), 2) - 1]
        if type(stop) is int:  # not the batch size, but a number that happens to be the same
            return False
        return [int(e) for e in ends] in ([self.rows], [0, self.rows], [0, self.rows, 1])

    def _places(self, t: Tensor, index: Any) -> tuple[Tensor, Tensor, int, list[int]] | None:
        """`t` with the axes that are picked from beside its rows, which of their places, how many axes these are, and
        where they were."""
        if not isinstance(index, tuple) or len(index) < 2 or t.dim() < 2 or t.shape[0] != self.rows:
            return None
        numbers, others = index[0], list(index[1:])
        while others and (others[-1] is Ellipsis or _is_whole(others[-1])):
            others.pop()
        skipped = 0
        while others and _is_whole(others[0]):
            others.pop(0)
            skipped += 1
        if not others or not self._is_plain(numbers) or skipped + len(others) >= t.dim():
            return None
        axes = list(range(1 + skipped, 1 + skipped + len(others)))
        place: Any = 0
        for axis, other in zip(axes, others, strict=True):
            one = _index(other)
            if one is None or self._has(other):
                return None
            n = t.shape[axis]
            place = place * n + torch.where(one < 0, one + n, one)
        shape = _together(numbers, place)
        if shape is None:
            return None
        moved = t.movedim(axes, list(range(1, 1 + len(axes)))) if skipped else t
        return moved, place.expand(shape), len(axes), axes

    def _is_plain(self, numbers: Any) -> bool:
        """Whether an index numbers the rows along its first axis, and is the same along all others."""
        if not isinstance(numbers, Tensor) or id(numbers) not in self.known:
            return False
        with self.unseen():
            rows = torch.arange(self.rows).view(-1, *[1] * (numbers.dim() - 1))
            return numbers.shape[0] == self.rows and bool((numbers.cpu() == rows).all())


def _plain(argument: Any) -> Any:
    return int(argument) if isinstance(argument, int) and not isinstance(argument, bool) else argument


def _is_whole(index: Any) -> bool:
    return isinstance(index, slice) and index == slice(None)


def _index(other: Any) -> Tensor | None:
    """An index of numbers as a tensor."""
    if isinstance(other, bool) or not isinstance(other, int | list | Tensor):
        return None
    index = other if isinstance(other, Tensor) else torch.tensor(other)
    if index.dtype not in (torch.int64, torch.int32):
        return None
    return index.to(torch.int64)


def _together(numbers: Tensor, place: Tensor) -> torch.Size | None:
    """The shape of both as indices, where the rows come first."""
    try:
        shape = torch.broadcast_shapes(numbers.shape, place.shape)
    except RuntimeError:
        return None
    return shape if len(shape) == numbers.dim() else None


def _flat(t: Tensor, place: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Both with one axis for what is picked from, and places for each of what lies behind it."""
    flat = t.flatten(1, count) if count > 1 else t
    places = place.reshape(place.shape[0], -1, *[1] * (flat.dim() - 2))
    return flat, places.expand(*places.shape[:2], *flat.shape[2:])


def _picked(t: Tensor, place: Tensor, count: int, axes: list[int]) -> Tensor:
    flat, places = _flat(
        t.clone(), place, count
    )  # autograd keeps what is picked from, which may be written later
    return flat.gather(1, places).reshape(*place.shape, *flat.shape[2:]).clone()  # no view: it may be written


def _written(whole: Tensor, t: Tensor, place: Tensor, count: int, axes: list[int], value: Any) -> None:
    flat, places = _flat(t, place, count)
    if not isinstance(value, Tensor):
        value = torch.full([], value, dtype=whole.dtype, device=whole.device)
    value = value.to(whole.dtype).expand(*place.shape, *flat.shape[2:]).reshape(places.shape)
    found = flat.scatter(1, places, value)
    found = found.view(t.shape) if count > 1 else found
    if axes[0] > 1:
        found = found.movedim(list(range(1, 1 + len(axes))), axes).contiguous()
    whole.copy_(found)
