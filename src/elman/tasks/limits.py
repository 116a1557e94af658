"""What a machine can bear: refused in a sentence before it hangs, or the system ends the process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elman.config import UserError

if TYPE_CHECKING:
    from elman.tasks.base import Task

__all__ = ["check_memory", "check_threads"]

# More threads than this, and than twice the processors, do nothing but wait for one another.
MANY_THREADS = 64
# A parameter in training: itself, its gradient, and two numbers that an optimizer keeps.
COPIES = 4


def check_threads(threads: int) -> None:
    """Raise UserError for more threads than any use could be made of; the system may hang over them."""
    processors = os.cpu_count() or 1
    if threads > max(MANY_THREADS, 2 * processors):
        raise UserError(
            f"--threads {threads}: this machine has {processors} processors; give at most as many, or leave it out"
        )


def check_memory(task: Task, config: Any, codec: Any) -> None:
    """Raise UserError for a model that this machine's free memory cannot hold in training.

    The model is built without its numbers to be counted. A cell of the user's that cannot be built so is not counted.
    """
    import torch

    free = free_memory()
    if free is None or torch.device(config.training.device).type != "cpu":
        return
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model = task.model(config, codec)
        need = COPIES * sum(p.numel() * p.element_size() for p in model.parameters())
    except UserError:
        raise
    except RuntimeError as error:
        # Sizes whose product is no 64-bit number any more.
        if "overflow" not in str(error) and "too large" not in str(error).lower():
            return
        need = 2**63
    except (TypeError, ValueError, NotImplementedError):
        return
    if need > free:
        raise UserError(
            f"the model needs about {need / 1e9:,.1f} GB of memory in training, and {free / 1e9:,.1f} GB are free "
            f"here: make it smaller, by --hidden for example"
        )


def free_memory() -> int | None:
    """Bytes of memory that a new process may use; None where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None
