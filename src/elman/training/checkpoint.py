"""Checkpoints: tensors in safetensors, the rest as JSON in the same file's header, so that one rename makes both new.

A model's tensors go by the names of its parameters and buffers; a tied one is kept once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from elman.config import UserError
from elman.files import write_bytes
from elman.training.run import FORMAT, Run

__all__ = [
    "checksum",
    "had_best",
    "load",
    "load_model",
    "load_optimizer",
    "load_weights",
    "model_tensors",
    "optimizer_tensors",
    "save",
    "trained",
    "within",
]


def save(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and facts (JSON) as one file, whole or not at all."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {"format": str(FORMAT), "facts": json.dumps(facts, allow_nan=False), "sha256": checksum(plain)}
    write_bytes(path, safetensors.torch.save(plain, metadata=header))


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and numbers."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors, on the CPU, and facts of a checkpoint.

    Raises UserError if it is missing, damaged (its numbers have another checksum) or from the future.
    """
    if not path.is_file():
        raise UserError(
            f"{path.parent} has no {path.name}; train, or continue training by --resume, to make one"
        )
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        version, facts = int(header["format"]), json.loads(header["facts"])
        if header.get("sha256", "") not in {"", checksum(tensors)}:
            raise ValueError("its numbers are not those that were written: another checksum")
    except (safetensors.SafetensorError, KeyError, ValueError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}); bring it back, or train anew by --overwrite") from None
    if version > FORMAT:
        raise UserError(
            f"{path} was written by a newer Elman (format {version}; this one reads {FORMAT}): upgrade"
        )
    return tensors, facts


def within(tensors: Mapping[str, Tensor], group: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `group.`, without it."""
    return {
        name[len(group) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(group + ".")
    }


def trained(last: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The model in the tensors of `last`: with the average of its weights where one was kept."""
    return within(last, "model") | within(last, "average")


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and saved buffers by name, each tensor once."""
    kept = model.state_dict(keep_vars=True)
    once = dict(model.named_parameters()) | dict(model.named_buffers())
    return {name: tensor for name, tensor in once.items() if name in kept}


def load_model(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy tensors into a model. Raises UserError, naming `path`, unless names and shapes are the model's own."""
    own = model_tensors(model)
    missing, foreign = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or foreign:
        what = f"it lacks {missing[0]}" if missing else f"it has {foreign[0]}, which this model has not"
        raise UserError(f"{path} does not fit the model of its run.json: {what}")
    with torch.no_grad():
        for name, tensor in own.items():
            if tensor.shape != tensors[name].shape:
                raise UserError(
                    f"{path} does not fit the model of its run.json: {name} is {tuple(tensors[name].shape)}, "
                    f"expected {tuple(tensor.shape)}"
                )
            tensor.copy_(tensors[name])


def load_weights(model: nn.Module, run: Run, which: str) -> dict[str, Any]:
    """Fill a model from a run's "best" checkpoint or its "last" one; returns its step and epoch.

    Without a validation there is no best one, and it is the last. Raises UserError where there was one that is gone.
    """
    if which == "best" and run.best.exists():
        tensors, facts = load(run.best)
        load_model(model, tensors, run.best)
        return {"step": facts.get("step"), "epoch": facts.get("epoch")}
    tensors, facts = load(run.last)
    if which == "best" and had_best(facts):
        raise UserError(
            f"{run.path} has lost {run.best.name}, the model at its best validation: bring it back, or take the last "
            f"one by --checkpoint last"
        )
    load_model(model, trained(tensors), run.last)
    position = facts.get("position", {})
    return {"step": position.get("step"), "epoch": position.get("epoch")}


def had_best(facts: Mapping[str, Any]) -> bool:
    """Whether the training that wrote these facts into `last` had a best model by then."""
    # Format 1 kept the best loss with the schedule.
    kept = facts.get("best") if "best" in facts else facts.get("schedule", {}).get("best")
    return kept is not None


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What the optimizer remembers of each parameter, as `number.name`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": torch.as_tensor(value)
        for number, entries in state.items()
        for name, value in entries.items()
        if value is not None
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give the optimizer its memory back; rates and other settings stay its own."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, name = key.split(".", 1)
        # A copy in memory of its own: what lies in the file's memory may start at any address.
        state.setdefault(int(number), {})[name] = tensor.clone()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
