"""The table of the operations that are taken apart, and what the functions in it share."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten

__all__ = ["DECOMPOSITIONS", "all_dims", "count", "decomposes", "library_decomposition", "scaled"]

DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {}


def decomposes(*overloads: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function as the way to take these operations apart; it may answer NotImplemented."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        DECOMPOSITIONS.update(dict.fromkeys(overloads, function))
        return function

    return register


def library_decomposition(func: Any) -> Callable[..., Any] | None:
    """How torch takes an operation apart; its table takes a second to load, so only where there is none here."""
    if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
        return func.decompose
    watching = sys.getprofile()
    ours = type(watching).__module__.startswith("elman.engine")
    if ours:  # what loads here is none of the step's
        sys.setprofile(None)
    try:
        from torch._decomp import decomposition_table
    finally:
        if ours:
            sys.setprofile(watching)
    return decomposition_table.get(func)


def scaled(t: Tensor, factor: float) -> Tensor:
    """`t * factor`, nothing where the factor is 1."""
    return t if factor == 1 else aten.mul.Tensor(t, factor)


def count(t: Tensor, dims: list[int]) -> int:
    """How many elements lie along these dimensions."""
    return math.prod(t.shape[d] for d in dims)


def all_dims(t: Tensor, dim: Any) -> list[int]:
    """The dimensions that an argument names: none given means all."""
    if dim is None or (isinstance(dim, list | tuple) and not dim):
        return list(range(t.dim()))
    return [dim] if isinstance(dim, int) else list(dim)
