"""An average of the weights over the steps, which is measured and kept in their place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["Average"]


class Average:
    """The exponential moving average of a model's trained parameters, after step n (from 1) with weights w_n:

    a_n = d_n a_(n-1) + (1 - d_n) w_n,    d_n = min(decay, (1 + n) / (10 + n)),    a_0 = w_0

    d_n starts low, so that the average forgets the untrained model (Polyak and Juditsky 1992, SIAM J. Control Optim.
    30(4), of averages of iterates). Buffers are not averaged.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Start from the model's weights; `decay` in [0, 1) is the share that a step leaves of the average."""
        self.decay = decay
        self._weights = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self._average = {name: value.detach().clone() for name, value in self._weights.items()}

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The average by the parameters' names."""
        return dict(self._average)

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from `tensors`. Raises KeyError where one is missing."""
        for name, value in self._average.items():
            value.copy_(tensors[name])

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights in that step number `step` (from 1) has left."""
        keep = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self._average.values()), list(self._weights.values()), 1 - keep)

    @contextmanager
    def instead(self) -> Iterator[None]:
        """Let the model have the average inside the block, and its own weights, bit for bit, after it."""
        own = {name: value.detach().clone() for name, value in self._weights.items()}
        self._fill(self._average)
        try:
            yield
        finally:
            self._fill(own)

    @torch.no_grad()
    def _fill(self, values: Mapping[str, Tensor]) -> None:
        for name, weight in self._weights.items():
            weight.copy_(values[name])
