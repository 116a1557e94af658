"""A module as it is, bit for bit, to be compared with what it is after a call."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn


class Snapshot(NamedTuple):
    """Identity and value of everything that hangs on a module, and the random states of the process."""

    attributes: dict[str, Any]
    random: tuple[Any, ...]
    modes: tuple[Any, ...]


def snapshot(cell: Any) -> Snapshot:
    """Copy everything; tensors by value with their identity, dtype, requires_grad, grad and type."""
    modules = cell.named_modules(remove_duplicate=False) if isinstance(cell, nn.Module) else []
    return Snapshot({name: _vars(module) for name, module in modules}, _random(), _modes())


def assert_untouched(cell: Any, before: Snapshot) -> None:
    """The module, the random states and the modes of torch are what they were."""
    after = snapshot(cell)
    assert after.attributes.keys() == before.attributes.keys(), "modules were added or taken away"
    for name, old in before.attributes.items():
        new = after.attributes[name]
        assert new.keys() == old.keys(), f"attributes of {name or 'the cell'}: {new.keys() ^ old.keys()}"
        for key, value in old.items():
            _assert_same(new[key], value, f"{name}.{key}".strip("."))
    for a, b in zip(after.random, before.random, strict=True):
        assert np.array_equal(np.asarray(a, dtype=object), np.asarray(b, dtype=object)), (
            "a random state moved"
        )
    assert after.modes == before.modes, f"modes of torch: {after.modes}, not {before.modes}"


class _Held(NamedTuple):
    tensor: Tensor
    value: Tensor
    facts: tuple[Any, ...]


def _vars(module: nn.Module) -> dict[str, Any]:
    return {key: _held(value) for key, value in vars(module).items()}


def _held(value: Any) -> Any:
    if isinstance(value, Tensor):
        facts = (value.dtype, value.device, value.requires_grad, value.is_leaf, type(value), value.data_ptr())
        return (
            _Held(value, value.detach().clone(), facts)
            if value.grad is None
            else (_held(value.detach()), "has .grad")
        )
    if isinstance(value, dict):
        return {k: _held(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_held(v) for v in value]
    return value


def _assert_same(new: Any, old: Any, name: str) -> None:
    assert type(new) is type(old), f"{name}: {new!r}, not {old!r}"
    if isinstance(old, _Held):
        assert new.tensor is old.tensor, f"{name} is another tensor"
        assert new.facts == old.facts, f"{name}: {new.facts}, not {old.facts}"
        assert torch.equal(new.value, old.value), f"{name} has another value"
    elif isinstance(old, dict):
        assert new.keys() == old.keys(), f"{name}: {new.keys() ^ old.keys()}"
        for key, value in old.items():
            _assert_same(new[key], value, f"{name}[{key!r}]")
    elif isinstance(old, list):
        assert len(new) == len(old), name
        for k, value in enumerate(old):
            _assert_same(new[k], value, f"{name}[{k}]")
    else:
        assert new is old or new == old, f"{name}: {new!r}, not {old!r}"


def _random() -> tuple[Any, ...]:
    kind, keys, *rest = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), (kind, keys.tobytes(), *rest)


def _modes() -> tuple[Any, ...]:
    return (
        torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"),
        torch.get_default_dtype(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(),
        torch.is_anomaly_enabled(),
    )  # fmt: skip
