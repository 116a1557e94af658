"""The same call on other values: what a step's tensors happen to hold (zeros, ones, equal columns) can hide what a
program does wrong with them.

Nothing of the user's is written: the step is run with copies in the place of the tensors that it reads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from elman.engine.call.inputs import Inputs
from elman.engine.tracing.record import storage_of, tensors_in

__all__ = ["LEVELS", "Reads", "moved", "moved_inputs"]

LEVELS = 3  # how near to the given values: anywhere, of the same signs and range, the same but for their size
_MOVED = 0.5
_FLIPPED = 0.25


def moved_inputs(given: Inputs, level: int) -> Inputs:
    """A call on other values of x, states and context, with its pattern of gradients."""
    s = [moved(t, level) for t in given.s]
    initial = s if given.initial is given.s else [moved(t, level) for t in given.initial]
    return replace(
        given,
        x=[moved(t, level) for t in given.x],
        s=s,
        initial=initial,
        c=[moved(t, level) for t in given.c],
    )


def moved(t: Tensor, level: int) -> Tensor:
    """A copy with other values, a leaf that wants a gradient if `t` does; the tensor itself where there are none."""
    values = t.detach()
    if t.layout is not torch.strided or not (type(t) is Tensor or isinstance(t, torch.nn.Parameter)):
        return t
    if not (values.is_floating_point() or values.is_complex()):
        return _moved_integers(values, level)
    new = values + _noise(values) if level == 0 else _nearby(values, level)
    return new.to(t.dtype).requires_grad_(t.requires_grad)


def _random(t: Tensor, low: float = 0.0) -> Tensor:
    """In [low, 1), of the shape of `t`, in a precision that every device draws in."""
    return (
        torch.empty(t.shape, dtype=torch.float32, device=t.device)
        .uniform_(low, 1)
        .to(t.real.dtype if t.is_complex() else t.dtype)
    )


def _size(t: Tensor) -> float:
    """The mean size of the finite values."""
    if not t.numel():
        return 0.0
    size = float(t.abs().mean())
    if math.isfinite(size):
        return size
    finite = t[t.isfinite()].abs().to(torch.float64)
    return float(finite.mean()) if finite.numel() else 0.0


def _noise(t: Tensor) -> Tensor:
    """About as large as the values; where all are zero, as those of a fresh matrix or vector."""
    size = _size(t) or (t.shape[-1] ** -0.5 if t.dim() > 1 and t.shape[-1] else 0.5)
    return _random(t, -1.0).mul_(2 * _MOVED * size)


def _nearby(t: Tensor, level: int) -> Tensor:
    """Values between 0.7 of the given ones and these; at the first level zeros take the sign that all others have."""
    near = t * (1 - 0.3 * _random(t))
    if level > 1 or t.is_complex():
        return near
    sign = 1 if bool((t >= 0).all()) else -1 if bool((t <= 0).all()) else 0
    small = sign * 0.1 * (_size(t) or 1.0) * _random(t)
    return torch.where(t == 0, small, near)


def _moved_integers(t: Tensor, level: int) -> Tensor:
    """Integers among those given, and at level 0 some larger by one; booleans turned over here and there."""
    if level == LEVELS - 1 or t.device.type != "cpu":  # elsewhere an index out of range ends the process
        return t.clone()
    if t.dtype == torch.bool:
        return t ^ (torch.rand(t.shape) < _FLIPPED) if level == 0 else _shuffled(t)
    return _shuffled(t) + (torch.rand(t.shape) < 0.5).to(t.dtype) if level == 0 else _shuffled(t)


def _shuffled(t: Tensor) -> Tensor:
    return t.reshape(-1)[torch.randperm(t.numel())].reshape(t.shape)


class Reads(TorchDispatchMode):
    """Which of some tensors an operation still reads itself: code that is no Python of torch's (TorchScript) does."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        super().__init__()
        self.places: dict[int, list[Tensor]] = {}
        for t in tensors:
            self.places.setdefault(storage_of(t), []).append(t)
        self.found: dict[int, Tensor] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(
        self, func: Any, kinds: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        for t in tensors_in((args, kwargs)):
            if t.layout is torch.strided:
                self.found.update({id(read): read for read in self.places.get(storage_of(t), ())})
        return func(*args, **kwargs)
