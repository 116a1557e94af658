"""Dropout over sequences: one mask a sequence, and zoneout of states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_map

__all__ = [
    "SequenceDropout",
    "WordDropout",
    "ZoneoutRates",
    "check_rate",
    "dropout_layer",
    "sequence_mask",
    "zoneout",
    "zoneout_rates",
]

ZoneoutRates = float | Mapping[str, float] | Mapping[int, float]


def check_rate(name: str, rate: Any) -> float:
    """`rate` as a float; ValueError unless it is a number in [0, 1]."""
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
        raise ValueError(
            f"{name}={rate!r}; expected a number in range [0, 1], the probability that an element is dropped"
        )
    return float(rate)


def sequence_mask(like: Tensor, shape: Sequence[int], rate: float) -> Tensor:
    """A dropout mask of `shape`: 0 with probability `rate`, else 1 / (1 − rate)."""
    return F.dropout(like.new_ones(shape), rate, training=True)


class SequenceDropout(nn.Module):
    """Dropout with one mask for all steps of a sequence (Gal & Ghahramani 2016, "variational" or "locked" dropout).

    x `(T, B, H)`, or `(B, T, H)` with `batch_first`: the mask `(B, H)` is drawn once a call and used at every step.
    Does nothing in eval mode.
    """

    def __init__(self, p: float = 0.5, batch_first: bool = False) -> None:
        super().__init__()
        self.p = check_rate("p", p)
        self.batch_first = batch_first

    def forward(self, x: Tensor) -> Tensor:
        """`x`, masked in training; ValueError unless it is 3-D."""
        if x.dim() != 3:
            raise ValueError(
                f"SequenceDropout: input of shape {tuple(x.shape)}; expected 3-D, (T, B, H) or (B, T, H)"
            )
        if not self.training or self.p == 0:
            return x
        shape = (x.shape[0], 1, x.shape[2]) if self.batch_first else (1, *x.shape[1:])
        return x * sequence_mask(x, shape, self.p)

    def extra_repr(self) -> str:
        """The rate and the layout."""
        return f"p={self.p}" + (", batch_first=True" if self.batch_first else "")


def dropout_layer(rate: float, *, sequence: bool) -> nn.Module:
    """Dropout on `(T, B, H)`: one mask an element, or with `sequence` one for all steps of each sequence."""
    return SequenceDropout(rate) if sequence else nn.Dropout(check_rate("dropout", rate))


class WordDropout(nn.Module):
    """Takes whole tokens out of a text in training (Iyyer et al. 2015; Bowman et al. 2016).

    tokens: integers of any shape; each becomes `unknown` with probability `p`, on its own (-1, which no vocabulary has:
    an `Embedding` makes zeros of it). Does nothing in eval mode.
    """

    def __init__(self, p: float = 0.1, unknown: int = -1) -> None:
        super().__init__()
        self.p = check_rate("p", p)
        self.unknown = unknown

    def forward(self, tokens: Tensor) -> Tensor:
        """The tokens, some of them unknown in training."""
        if not self.training or self.p == 0:
            return tokens
        dropped = torch.rand(tokens.shape, device=tokens.device) < self.p
        return tokens.masked_fill(dropped, self.unknown)

    def extra_repr(self) -> str:
        """The rate and what the tokens become."""
        return f"p={self.p}, unknown={self.unknown}"


def zoneout(old: Any, new: Any, rate: float, training: bool) -> Any:
    """Each unit keeps its old value with probability `rate`: h_t = d⊙h_{t−1} + (1 − d)⊙h̃_t, d ~ Bernoulli(rate).

    Krueger et al. 2017 (arXiv:1606.01305). The mask is drawn anew at each step and for each unit; in eval mode d is
    its expectation, `rate`. Leaves that are not floating point are left alone. old, new: the same structure.
    """
    if rate == 0:
        return new

    def mix(a: Tensor, b: Tensor) -> Tensor:
        if not b.is_floating_point():
            return b
        if not training:
            return rate * a + (1 - rate) * b
        # A half-precision draw is too coarse to be compared with a small rate.
        dtype = torch.float64 if b.dtype == torch.float64 else torch.float32
        draw = torch.rand(b.shape, dtype=dtype, device=b.device)
        return torch.where(draw < rate, a, b)

    return tree_map(mix, old, new)


def zoneout_rates(given: ZoneoutRates | None, names: Sequence[str]) -> tuple[float, ...]:
    """The rate of each named state: one number is for all of them, a mapping names its own.

    Raises ValueError for a number outside [0, 1] and for a name or position that the state does not have.
    """
    if not isinstance(given, Mapping):
        return (0.0 if given is None else check_rate("zoneout", given),) * len(names)
    rates = [0.0] * len(names)
    for key, rate in given.items():
        if isinstance(key, int) and 0 <= key < len(names):
            rates[key] = check_rate(f"zoneout[{key}]", rate)
        elif key in names:
            rates[names.index(str(key))] = check_rate(f"zoneout[{key!r}]", rate)
        else:
            raise ValueError(
                f"zoneout names the state {key!r}; expected one of {', '.join(map(repr, names))}"
            )
    return tuple(rates)
