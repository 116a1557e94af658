"""Optimizers, and the learning rate over time."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from elman.training.score import Streak
from elman.training.settings import OptimizerSettings

__all__ = ["Schedule", "build_optimizer"]


def build_optimizer(model: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """The optimizer of the settings over all parameters that are trained."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rate, decay = settings.rate, settings.weight_decay
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=settings.momentum, weight_decay=decay)
    kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    # One pass over parameters and moments: six times faster on a processor, where a wide embedding took half of a step.
    betas = (settings.beta1, settings.beta2)
    return kind(parameters, lr=rate, betas=betas, weight_decay=decay, fused=True)


class Schedule:
    """The learning rate of each step. With r = rate, d = divide_by, epoch e from 1, step n from 0 of N:

    constant   r
    step       r / d^((e - 1) // divide_every)
    after      r / d^max(0, e - divide_after)                       (Zaremba et al., arXiv 1409.2329)
    plateau    r / d^(validations that were not better than the best, beyond `patience` in a row)
    cosine     f + (r - f) (1 + cos(pi (n - w) / (N - w))) / 2      f = final_rate, w = warmup
                                                                    (Loshchilov and Hutter, arXiv 1608.03983)
    warmup     all of them times (n + 1) / w in the first w steps
    """

    def __init__(self, settings: OptimizerSettings, total_steps: int) -> None:
        """Start at the first step of `total_steps` (N)."""
        self.settings = settings
        self.total_steps = total_steps
        self.divisions = 0
        self.streak = Streak()

    def rate(self, step: int, epoch: int) -> float:
        """The learning rate of step n (from 0) in epoch e (from 1)."""
        warmup = self.settings.warmup
        rising = min(1.0, (step + 1) / warmup) if warmup else 1.0
        return self._unwarmed(step, epoch) * rising

    def _unwarmed(self, step: int, epoch: int) -> float:
        own = self.settings
        if own.schedule == "cosine":
            passed = (step - own.warmup) / max(1, self.total_steps - own.warmup)
            fall = (1 + math.cos(math.pi * min(max(passed, 0.0), 1.0))) / 2
            return own.final_rate + (own.rate - own.final_rate) * fall
        divisions = {
            "constant": 0,
            "step": (epoch - 1) // own.divide_every,
            "after": max(0, epoch - own.divide_after),
            "plateau": self.divisions,
        }[own.schedule]
        return float(own.rate / own.divide_by**divisions)

    def observe(self, cost: float) -> None:
        """Take note of a validation; less is better."""
        self.streak.observe(cost)
        if self.streak.waited > self.settings.patience:
            self.divisions, self.streak.waited = self.divisions + 1, 0

    def to_json(self) -> dict[str, Any]:
        """What `restore` needs."""
        return {"divisions": self.divisions, **self.streak.to_json()}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on where `to_json` was called."""
        self.divisions = saved["divisions"]
        self.streak.restore(saved)
