"""The states of random generators: kept in checkpoints, and put back after what must not move them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

__all__ = ["load_random", "random_tensors", "undisturbed"]


def random_tensors(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's random generators: the CPU's, and that of a CUDA device where one is used."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def load_random(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Put torch's random generators where they were."""
    torch.set_rng_state(states["cpu"].clone())
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"].clone(), device)


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Put the generators of torch, numpy and Python back behind the block: training draws as if it had not been."""
    states, python, numpy = random_tensors(device), random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        load_random(states, device)
        random.setstate(python)
        np.random.set_state(numpy)
