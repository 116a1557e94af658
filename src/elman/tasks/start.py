"""`elman train ... --init-from RUN`: a new training that starts with the weights of another run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from elman.config import UserError, values_of
from elman.training.run import Run

if TYPE_CHECKING:
    from torch import nn

    from elman.tasks.base import Task

__all__ = ["fill_from", "model_values"]

SHOWN = 3


def model_values(task: Task, run: Run) -> dict[str, Any]:
    """The other run's settings of the model, by path: the new run's, unless it is told otherwise."""
    nested = {"model": run.entry("config").get("model", {})}
    return values_of(task.settings, nested, source=str(run.path / "run.json"))


def fill_from(model: nn.Module, run: Run) -> None:
    """Copy the best weights of a run into a model. Raises UserError, naming it, where anything does not fit."""
    from elman.training import checkpoint

    if run.best.exists():
        path, tensors = run.best, checkpoint.load(run.best)[0]
    else:
        path, tensors = run.last, checkpoint.trained(checkpoint.load(run.last)[0])
    own = checkpoint.model_tensors(model)
    faults = [f"{name} is missing there" for name in own if name not in tensors]
    faults += [f"{name} has no place here" for name in tensors if name not in own]
    faults += [
        f"{name} is {tuple(tensors[name].shape)} there and {tuple(tensor.shape)} here"
        for name, tensor in own.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    if faults:
        more = f" and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise UserError(
            f"--init-from {run.path}: its weights do not fit this model: {'; '.join(faults[:SHOWN])}{more}; leave out "
            f"the flags that make another model"
        )
    checkpoint.load_model(model, tensors, path)
