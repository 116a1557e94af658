"""Ways to change a module between two calls, and words for what failed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class says:
    """Put a word before the message of a failing check."""

    def __init__(self, word: str) -> None:
        self.word = word

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, AssertionError):
            raise AssertionError(f"[{self.word}] {error}") from error
        if error is not None:
            error.add_note(f"in the call: {self.word}")


def again(leaf: Tensor, like: Tensor) -> Tensor:
    return leaf.detach().requires_grad_(like.requires_grad)


def nothing(module: nn.Module) -> None:
    del module


def data_in_place(module: nn.Module) -> None:
    for p in module.parameters():
        p.data.mul_(0.7)


def data_assigned(module: nn.Module) -> None:
    for p in module.parameters():
        p.data = p.data.flip(0).contiguous() * 1.1


def no_grad_in_place(module: nn.Module) -> None:
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(0.9).add_(0.01)


def loaded(module: nn.Module) -> None:
    module.load_state_dict(
        {k: v * 0.8 if v.is_floating_point() else v for k, v in module.state_dict().items()}
    )


def optimised(module: nn.Module) -> None:
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    for p in module.parameters():
        p.grad = p.detach().clone()
    optimiser.step()
    optimiser.zero_grad()


def replaced(module: nn.Module) -> None:
    for name, p in list(module.named_parameters()):
        owner, _, last = name.rpartition(".")
        setattr(module.get_submodule(owner), last, nn.Parameter(p.detach() * 0.9 + 0.01))


def doubled(module: nn.Module) -> None:
    module.float()
    for m in module.modules():
        for k, v in vars(m).items():
            if isinstance(v, Tensor):
                setattr(m, k, v.float())


def scale(module: Any, by: float) -> None:
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(by)
