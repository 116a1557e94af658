"""`elman train ... --dry-run`: what a training would take, found by a few of its steps; nothing is written."""

from __future__ import annotations

import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

from elman.training.progress import duration

if TYPE_CHECKING:
    from elman.tasks.session import TaskLearner

__all__ = ["rehearse"]

# Steps are timed for so long, but so many of them at least; the first ones make ready what later ones use.
SECONDS = 3.0
FEWEST, FIRST = 3, 2


def rehearse(learner: TaskLearner, config: Any) -> list[str]:
    """Take some steps of a training that is thrown away; returns lines on size, memory and time."""
    parameters = [parameter for parameter in learner.model.parameters() if parameter.requires_grad]
    size = sum(parameter.numel() for parameter in parameters)
    timed = step_seconds(learner, config)
    step = statistics.median(timed)
    epoch = f"{duration(step * learner.epoch_steps)} ({1000 * step:.1f} ms a step, {len(timed)} timed)"
    training = config.training
    total = min(training.epochs * learner.epoch_steps, training.max_steps or sys.maxsize)
    whole = duration(step * total)
    limit = f", at most {training.minutes:g} minutes of it" if training.minutes else ""
    return [
        f"{size:,} parameters to train, {megabytes(4 * size)} as float32",
        f"memory: {memory(config.training.device)} at its highest so far",
        f"an epoch: {learner.epoch_steps:,} steps, {epoch}; without validation",
        f"all {total:,} steps: {whole}{limit}",
        "a dry run: nothing was written",
    ]


def step_seconds(learner: TaskLearner, config: Any) -> list[float]:
    """The seconds of some steps, each with its batch, loss, gradient and update."""
    from elman.training import bptt
    from elman.training.optimizer import build_optimizer

    optimizer = build_optimizer(learner.model, config.optimizer)
    learner.model.train()
    state, found = learner.initial_state(), []
    begun = time.monotonic()
    for index in range(learner.epoch_steps):
        start = time.monotonic()
        optimizer.zero_grad(set_to_none=True)
        out = learner.loss(1, index, state)
        out.objective.backward()
        optimizer.step()
        state = bptt.cut(out.state)
        found.append(time.monotonic() - start)
        if len(found) >= FIRST + FEWEST and time.monotonic() - begun > SECONDS:
            break
    return found[FIRST:] if len(found) > FIRST else found


def memory(device: str) -> str:
    """The most memory that this process has used, on its device."""
    import torch

    if device.startswith("cuda"):
        return megabytes(torch.cuda.max_memory_allocated(device))
    import resource

    # Kilobytes, but on macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return megabytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def megabytes(size: float) -> str:
    """`312 MB`."""
    return f"{size / 1e6:,.0f} MB" if size >= 1e7 else f"{size / 1e6:.2f} MB"
