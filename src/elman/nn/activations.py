"""Activations by name, as the layers and cells take them."""

from __future__ import annotations

import difflib
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["ACTIVATIONS", "Activation", "activation"]

Activation = str | Callable[[Tensor], Tensor]


def _identity(x: Tensor) -> Tensor:
    return x


def _hardsigmoid(x: Tensor) -> Tensor:
    # F.hardsigmoid's gradient is 1/6 in float32 for every dtype.
    return ((x + 3) / 6).clamp(0, 1)


def _softmax(x: Tensor) -> Tensor:
    return F.softmax(x, dim=-1)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "identity": _identity,
    "elu": F.elu,
    "gelu": F.gelu,
    "hardsigmoid": _hardsigmoid,
    "hardtanh": F.hardtanh,
    "leaky_relu": F.leaky_relu,
    "silu": F.silu,
    "sin": torch.sin,
    "softmax": _softmax,
    "softplus": F.softplus,
    "softsign": F.softsign,
}


def activation(given: Activation) -> Callable[[Tensor], Tensor]:
    """The function behind a name, or the callable itself; ValueError for a name that is not in ACTIVATIONS."""
    if callable(given):
        return given
    if given in ACTIVATIONS:
        return ACTIVATIONS[given]
    near = difflib.get_close_matches(str(given), ACTIVATIONS, n=1)
    meant = f" (did you mean {near[0]!r}?)" if near else ""
    raise ValueError(
        f"nonlinearity={given!r} is unknown{meant}; expected a callable or one of {', '.join(ACTIVATIONS)}"
    )
